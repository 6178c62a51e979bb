"""What every data source is: many samples, any of which can be had at any time. Knows no batches and no order."""

from __future__ import annotations

import copy
import hashlib
import logging
import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar, Literal, Self

import torch
from torch import Tensor
from torch.utils.data import Dataset

from tokkit.data.captions import Captioned
from tokkit.errors import InputError
from tokkit.modalities.base import Modality, Sample

log = logging.getLogger(__name__)

Split = Literal["train", "val"]
Crop = Literal["random", "center"]


class Source(Dataset[Tensor], ABC):
    """Base of data sources. A recipe builds one, `open` makes it usable:

        source = build("data", "folder", path="pictures", size=256).open(modality)
        source.draw(3, seed=7)      # Tensor [C, size, ...]: the training example that seed 7 cuts out of sample 3
        source[3]                   # Tensor [C, size, ...]: its middle, never flipped: what measurements look at
        source.sample(3)            # Sample: all of it

    A sample that cannot be read is replaced in `draw` and `[]` by the next one that can, and is named once in the log and counted in
    `skipped`.

    Attributes:
        modality: None until `open`.
        skipped: index -> reason, of samples that turned out to be unreadable (in this process: each worker finds its own).
    """

    kind: ClassVar[str] = "data"

    def __init__(
        self,
        *,
        size: int,
        crop: Crop = "random",
        resize: bool = False,
        flip: bool = False,
        cache: bool = False,
        captions: bool = False,
    ):
        """
        Args:
            size: of an example along every spatial axis.
            crop: where `draw` cuts: anywhere, or in the middle.
            resize: scale the sample before it is cut (pictures: the short side becomes `size`).
            flip: mirror half of the examples.
            cache: read everything when opened and keep it in memory, at 8 bits where that loses nothing.
            captions: `draw` gives an example with its caption, `Captioned`; a sample without one counts as unreadable.

        Raises:
            InputError: `size` is not positive.
        """
        if size < 1:
            raise InputError(f"data size must be at least 1, got {size}")
        self.size = size
        self.crop = crop
        self.resize = resize
        self.flip = flip
        self.cache = cache
        self.captions = captions
        self.modality: Modality | None = None
        self.skipped: dict[int, str] = {}
        self._items: Sequence[Any] = ()
        self._kept: _Kept | None = None

    @abstractmethod
    def find(self, modality: Modality, split: Split) -> Sequence[Any]:
        """Everything there is in a split, as whatever `load` takes; in a fixed order.

        Raises:
            InputError: there is nothing, or not for this modality.
        """

    @abstractmethod
    def load(self, item: Any, modality: Modality) -> Sample:
        """Read one of the items that `find` returned.

        Raises:
            InputError: it cannot be read.
        """

    def load_example(self, item: Any, modality: Modality) -> Tensor:
        """What examples are cut out of: the values of `load`, or what `Modality.read_example` reads faster.

        Raises:
            InputError: it cannot be read.
        """
        return self.load(item, modality).values

    def caption(self, item: Any) -> str:
        """The text that belongs to an item.

        Raises:
            InputError: there is none, or the source has no texts.
        """
        raise InputError(f"data captions: {type(self).__name__} has no texts; take the source `folder` or `shards`")

    def open(self, modality: Modality, *, split: Split = "train") -> Self:
        """This source, looking at one split of its samples; the source itself stays as it is.

        Raises:
            InputError: there is nothing to read.
        """
        opened = copy.copy(self)
        opened.modality = modality
        opened.skipped = {}
        opened._items = self.find(modality, split)
        if self.cache:
            opened._keep_all()
        return opened

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: int) -> Tensor:
        """The middle of sample `index`: float32 [C, size, ...]. The same every time."""
        if not 0 <= index < len(self):
            raise IndexError(f"index {index} is not in 0..{len(self) - 1}")
        return self._cut(self._readable(index)[1], torch.Generator(), center=True, flip=False)

    def draw(self, index: int, seed: int) -> Tensor | Captioned:
        """The training example that `seed` makes of sample `index`: float32 [C, size, ...] in the public range.

        Raises:
            InputError: no sample at all can be read.
        """
        generator = torch.Generator().manual_seed(seed)
        index, values = self._readable(index, captioned=self.captions)
        example = self._cut(values, generator, center=self.crop == "center", flip=self.flip)
        return Captioned(example, self.caption(self._items[index])) if self.captions else example

    def sample(self, index: int) -> Sample:
        """All of sample `index`, with its name.

        Raises:
            InputError: it cannot be read, or the source is not open.
        """
        modality = self._opened()
        return self.load(self._items[index], modality)

    def text(self, index: int) -> str | None:
        """The text beside sample `index`; None where there is none."""
        try:
            return self.caption(self._items[index])
        except InputError:
            return None

    def _cut(self, values: Tensor, generator: torch.Generator, *, center: bool, flip: bool) -> Tensor:
        example = self._opened().crop(values, self.size, generator=generator, center=center, resize=self.resize, flip=flip)
        return example.float().div_(255) if example.dtype == torch.uint8 else example.contiguous()

    def _readable(self, index: int, *, captioned: bool = False) -> tuple[int, Tensor]:
        """Sample `index`, or the next one that can be read, with its values; with `captioned`, one that has a caption."""
        self._opened()
        for candidate in (*range(index, len(self)), *range(index)):
            if candidate in self.skipped:
                continue
            try:
                if captioned:
                    self.caption(self._items[candidate])
                return candidate, self._kept[candidate] if self._kept else self._load_example(candidate)
            except InputError as error:
                self._skip(candidate, error)
        reason = next(iter(self.skipped.values()), "there are none")
        raise InputError(f"none of {len(self)} samples can be read; the first: {reason}")

    def _load_example(self, index: int) -> Tensor:
        return self.load_example(self._items[index], self._opened())

    def _skip(self, index: int, error: InputError) -> None:
        self.skipped[index] = str(error)
        log.warning("skipping a sample (%d so far): %s", len(self.skipped), error)

    def smallest(self) -> int | None:
        """For `Modality.read_example`: the size that samples will be scaled to, if they will."""
        return self.size if self.resize else None

    def _opened(self) -> Modality:
        if self.modality is None:
            raise InputError("this source is not open; call source.open(modality) and use what it returns")
        return self.modality

    def _keep_all(self) -> None:
        """Read everything, with threads (decoders release the interpreter lock)."""

        def values_or_error(index: int) -> Tensor | InputError:
            try:
                return _small(self._load_example(index))
            except InputError as error:
                return error

        with ThreadPoolExecutor(max(2, min(16, os.cpu_count() or 1))) as pool:
            found = list(pool.map(values_or_error, range(len(self))))
        for index, result in enumerate(found):
            if isinstance(result, InputError):
                self._skip(index, result)
        self._kept = _Kept([result if isinstance(result, Tensor) else torch.zeros(0) for result in found])


class _Kept:
    """Tensors of any shapes in one block a dtype, which worker processes share instead of copying."""

    def __init__(self, tensors: Sequence[Tensor]):
        self._blocks: dict[torch.dtype, Tensor] = {}
        self._places: list[tuple[torch.dtype, int, torch.Size]] = []
        for dtype in {tensor.dtype for tensor in tensors}:
            self._blocks[dtype] = torch.empty(sum(t.numel() for t in tensors if t.dtype == dtype), dtype=dtype)
        ends = dict.fromkeys(self._blocks, 0)
        for tensor in tensors:
            start = ends[tensor.dtype]
            ends[tensor.dtype] += tensor.numel()
            self._blocks[tensor.dtype][start : ends[tensor.dtype]] = tensor.reshape(-1)
            self._places.append((tensor.dtype, start, tensor.shape))

    def __getitem__(self, index: int) -> Tensor:
        dtype, start, shape = self._places[index]
        return self._blocks[dtype][start : start + shape.numel()].view(shape)


def _small(values: Tensor) -> Tensor:
    """Values as uint8 steps of 1/255 where that is exact (an 8-bit picture), unchanged otherwise."""
    if values.dtype == torch.uint8 or values.min() < 0 or values.max() > 1:
        return values
    steps = values.mul(255).add_(0.5).to(torch.uint8)
    return steps if torch.equal(steps.float().div_(255), values) else values


def mixed(*numbers: int) -> int:
    """32 bits, all that torch's CPU generator takes for a seed, that differ (nearly always) for different numbers."""
    return int.from_bytes(hashlib.blake2b(repr(numbers).encode(), digest_size=4).digest())
