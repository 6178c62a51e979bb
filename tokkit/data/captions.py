"""Texts beside samples."""

from __future__ import annotations

from pathlib import Path
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


def librispeech(file: Path) -> str | None:
    """The text of 84-121123-0001.flac among the lines of 84-121123.trans.txt beside it, as LibriSpeech has them."""
    chapter, dash, _ = file.stem.rpartition("-")
    listed = file.with_name(f"{chapter}.trans.txt")
    if not dash or not listed.is_file():
        return None
    lines = (line.partition(" ") for line in listed.read_text(encoding="utf-8").splitlines())
    return next((text.strip() for name, _, text in lines if name == file.stem), None)
