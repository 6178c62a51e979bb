"""Batches of a source, in an order that is a pure function of the seed and the step: what resuming a run exactly rests on."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from tokkit.data.base import Source, mixed
from tokkit.data.captions import Captioned
from tokkit.errors import InputError

Draw = tuple[int, int]
"""(index of a sample, seed of the example to cut out of it)"""


def batches(
    source: Source,
    *,
    batch_size: int,
    seed: int = 0,
    start: int = 0,
    stop: int | None = None,
    rank: int = 0,
    world_size: int = 1,
    workers: int = 0,
    pin_memory: bool = False,
) -> Iterator[Tensor | Captioned]:
    """This rank's batches of the steps `start`, `start + 1`, ... before `stop`.

    Step s has the same batch whatever step one starts from and however many workers read it; and the batches of all ranks together are
    those of one rank with `world_size` times the batch size. See `draws` for the order.

    Args:
        source: an open one.
        batch_size: samples a step on each rank.
        seed: of the order and of the examples.
        start: the first step.
        stop: the step to end before; None goes on forever.
        rank, world_size: which slice of every step is this process's.
        workers: processes that read ahead; 0 reads in this one.
        pin_memory: hand out page-locked memory, for asynchronous copies to a GPU.

    Yields:
        float32 [batch_size, C, size, ...] in the public range of the modality; with captions where the source has them.

    Raises:
        InputError: the source is empty or not open, or a number is out of range.
    """
    if not len(source):
        raise InputError("batches: the source is empty or not open; call source.open(modality) and use what it returns")
    if batch_size < 1 or start < 0 or workers < 0 or not 0 <= rank < world_size:
        raise InputError(
            f"batches: need batch_size >= 1, start >= 0, workers >= 0 and 0 <= rank < world_size; "
            f"got {batch_size}, {start}, {workers}, {rank} of {world_size}"
        )
    loader = DataLoader(
        _Examples(source),
        batch_sampler=_Steps(len(source), batch_size, seed, start, stop, rank, world_size),
        num_workers=workers,
        pin_memory=pin_memory,
        prefetch_factor=4 if workers else None,
        # Its own: otherwise making the iterator would draw from torch's global generator, and a resumed run would differ.
        generator=torch.Generator().manual_seed(seed),
    )
    return _plainly(iter(loader))


def _plainly(found: Iterator[Tensor | Captioned]) -> Iterator[Tensor | Captioned]:
    """The same batches; of an error in a worker process, which torch gives with the traceback as its text, what it said itself."""
    try:
        yield from found
    except InputError as error:
        raise InputError(str(error).rpartition(f"{InputError.__name__}: ")[2].strip()) from error


def draws(count: int, batch: int, seed: int, step: int) -> list[Draw]:
    """What a step takes, over all ranks.

    Each epoch is a shuffle of all samples of which whole batches are taken; what remains at its end is left out of that epoch. Where
    there are fewer samples than a batch, shuffles follow each other without a gap, so a sample may come more than once in a batch,
    each time as another example.

    Args:
        count: of samples in the source.
        batch: size of a batch over all ranks.
        seed: of everything.
        step: from 0.
    """
    if batch > count:
        positions = [divmod(step * batch + slot, count) for slot in range(batch)]
    else:
        epoch, within = divmod(step, count // batch)
        positions = [(epoch, within * batch + slot) for slot in range(batch)]
    return [(int(_order(count, seed, epoch)[place]), mixed(seed, step, slot)) for slot, (epoch, place) in enumerate(positions)]


@functools.lru_cache(maxsize=4)
def _order(count: int, seed: int, epoch: int) -> Tensor:
    return torch.randperm(count, generator=torch.Generator().manual_seed(mixed(seed, epoch)))


class _Steps(Sampler[list[Draw]]):
    """One rank's slice of `draws` for each step."""

    def __init__(self, count: int, batch: int, seed: int, start: int, stop: int | None, rank: int, world_size: int):
        self.count, self.batch, self.seed, self.start, self.stop = count, batch, seed, start, stop
        self.rank, self.world_size = rank, world_size

    def __iter__(self) -> Iterator[list[Draw]]:
        step = self.start
        while self.stop is None or step < self.stop:
            mine = slice(self.rank * self.batch, (self.rank + 1) * self.batch)
            yield draws(self.count, self.batch * self.world_size, self.seed, step)[mine]
            step += 1


class _Examples(Dataset[Tensor | Captioned]):
    """The examples of a source by (index, seed)."""

    def __init__(self, source: Source):
        self.source = source

    def __getitem__(self, key: Draw) -> Tensor | Captioned:
        return self.source.draw(*key)
