"""Texts beside samples."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Captioned(NamedTuple):
    """An example with its caption, or a batch of them.

    Attributes:
        values: [C, size, ...], or [B, C, size, ...].
        captions: a text, or a list of B texts.
    """

    values: Tensor
    captions: str | list[str]

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> Captioned:
        return Captioned(self.values.to(device, non_blocking=non_blocking), self.captions)

    def chunk(self, chunks: int) -> list[Captioned]:
        """A batch in parts."""
        parts, found, start = self.values.chunk(chunks), [], 0
        for values in parts:
            found.append(Captioned(values, self.captions[start : start + len(values)]))
            start += len(values)
        return found


def clean(data: bytes) -> str:
    """A caption file's text: UTF-8, every run of white space one blank."""
    return " ".join(data.decode("utf-8", errors="replace").split())
