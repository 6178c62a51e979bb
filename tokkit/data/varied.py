"""What augmentations of another source share: its training examples vary, what is measured does not."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Callable
from typing import Self

import torch
from torch import Tensor

from tokkit.data.base import Source, Split, mixed
from tokkit.data.captions import Captioned
from tokkit.modalities.base import Modality, Sample


class Varied(Source):
    """Base of augmentations. A subclass says how large an example to take and what to make of it."""

    def __init__(self, of: Source):
        super().__init__(size=of.size)
        self.of = of

    @abstractmethod
    def check(self, modality: Modality) -> None:
        """Raise InputError where samples of the modality cannot be varied so."""

    @abstractmethod
    def plan(self, generator: torch.Generator) -> tuple[int, Callable[[Tensor], Tensor]]:
        """The size of the example to take from the other source, and what makes an example [C, size, ...] of it."""

    def find(self, modality: Modality, split: Split) -> range:
        return range(len(self.of))

    def load(self, item: int, modality: Modality) -> Sample:
        return self.of.sample(item)

    def open(self, modality: Modality, *, split: Split = "train") -> Self:
        self.check(modality)
        opened = copy.copy(self)
        opened.of = self.of.open(modality, split=split)
        opened.modality, opened.skipped = modality, opened.of.skipped
        opened._items = opened.find(modality, split)
        return opened

    def __getitem__(self, index: int) -> Tensor:
        return self.of[index]

    def text(self, index: int) -> str | None:
        return self.of.text(index)

    def draw(self, index: int, seed: int) -> Tensor | Captioned:
        size, vary = self.plan(torch.Generator().manual_seed(mixed(seed, 1)))
        source = copy.copy(self.of)
        source.size = size
        example = source.draw(index, seed)
        if isinstance(example, Captioned):
            return Captioned(vary(example.values), example.captions)
        return vary(example)
