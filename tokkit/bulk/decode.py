"""Many token files back to files."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from torch.nn.utils import parametrize

from tokkit.bulk.files import Failure, Job, by_pieces, find_jobs, refuse_existing, targets
from tokkit.bulk.sinks import SUFFIX
from tokkit.devices import Arriving
from tokkit.errors import InputError, TokenFileError
from tokkit.tokenizer import Tokenizer
from tokkit.tokens import TokenReader, Tokens


def decode_files(
    tokenizer: Tokenizer,
    inputs: list[str | Path],
    out: str | Path,
    *,
    batch_size: int = 16,
    force: bool = False,
    progress: Callable[[int], object] = lambda done: None,
) -> tuple[int, list[Failure]]:
    """Decode token files and folders of them.

    Args:
        tokenizer: the one that made the tokens, on the device to use.
        inputs: `.tok` files, of one sample or many, and folders that are searched for them.
        out: a file with the modality's suffix when there is one sample; else a folder. A sample of a one-sample file goes where its file
            lies in its folder; the samples of a shard go where their names say.
        batch_size: samples a pass of the network.
        force: replace results.
        progress: called with the number of samples that are finished.

    Returns:
        The number of decoded samples, and what failed.

    Raises:
        InputError: nothing to do, or a result exists and `force` is not set.
    """
    failures: list[Failure] = []
    work = [place for job in find_jobs(inputs, (SUFFIX,)) for place in _places(tokenizer, job, failures)]
    names = [place.name for place in work]
    single = Path(out).suffix.lower() in tokenizer.modality.suffixes and len(work) == 1
    paths = [Path(out)] if single else targets(names, Path(out), tokenizer.modality.output_suffix)
    refuse_existing(paths, force=force, hint="")
    pieces = by_pieces(tokenizer)
    done = 0
    writing: deque[tuple[list[Path], list[Future[None]]]] = deque()

    def collect() -> None:
        nonlocal done
        for path, future in zip(*writing.popleft(), strict=True):
            try:
                future.result()
                done += 1
            except InputError as error:
                failures.append(Failure(str(path), str(error)))
        progress(done + len(failures))

    def write(path: Path, values: Arriving, extras: tuple[float, ...]) -> None:
        tokenizer.write(path, values.wait(), extras=extras, force=force)

    with ThreadPoolExecutor(4, "tokkit-write") as writers, parametrize.cached():
        for tokens, batch_paths in _batched(zip(work, paths, strict=True), batch_size, failures):
            if pieces.are_long(tokenizer, tokens):
                pairs = zip(tokens, batch_paths, strict=True)
                written = [writers.submit(pieces.decode_file, tokenizer, sample, path, force=force) for sample, path in pairs]
            else:
                values = zip(batch_paths, map(Arriving, tokenizer.decode_each(tokens)), tokens.extras, strict=True)
                written = [writers.submit(write, path, value, extras) for path, value, extras in values]
            writing.append((batch_paths, written))
            if len(writing) > 1:  # one batch is written while the next is decoded
                collect()
        while writing:
            collect()
    return done, failures


class _Place(NamedTuple):
    """Where one sample lies, and the name of its result."""

    file: Path
    sample: int
    name: str


def _places(tokenizer: Tokenizer, job: Job, failures: list[Failure]) -> Iterator[_Place]:
    """The samples of one token file that can be read so far; the others are failures."""
    try:
        with TokenReader(job.source) as reader:
            tokenizer.check_header(reader.header)
            if len(reader) == 1:
                yield _Place(job.source, 0, job.name)
                return
            for index in range(len(reader)):
                try:
                    yield _Place(job.source, index, _below(reader.info(index).name))
                except TokenFileError as error:
                    failures.append(Failure(f"{job.name} sample {index}", str(error)))
    except TokenFileError as error:
        failures.append(Failure(job.name, str(error)))


def _batched(work: Iterable[tuple[_Place, Path]], batch_size: int, failures: list[Failure]) -> Iterator[tuple[Tokens, list[Path]]]:
    """Neighbours of one shape together; one file is open at a time."""
    batch: list[Tokens] = []
    paths: list[Path] = []
    for file, members in itertools.groupby(work, key=lambda member: member[0].file):
        with TokenReader(file) as reader:
            for place, path in members:
                try:
                    tokens = reader[place.sample]
                except TokenFileError as error:
                    failures.append(Failure(place.name, str(error)))
                    continue
                shape = (tokens.grid, tokens.codes.shape, tokens.header)
                if batch and (len(batch) == batch_size or shape != (batch[0].grid, batch[0].codes.shape, batch[0].header)):
                    yield Tokens.cat(batch), paths
                    batch, paths = [], []
                batch.append(tokens)
                paths.append(path)
    if batch:
        yield Tokens.cat(batch), paths


def _below(name: str) -> str:
    """A sample's name as a path that cannot leave the output folder: names come from files that anyone may have made."""
    parts = [part for part in Path(name.replace("\\", "/")).parts if part not in ("/", "..", ".")]
    return "/".join(parts) or "sample"
