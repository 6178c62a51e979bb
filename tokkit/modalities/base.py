"""What every modality is: files and objects to tensors and back. Nothing here is learned."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor


@dataclass
class Sample:
    """One input, read.

    Attributes:
        values: [C, *spatial], in the modality's public range (pictures: [0, 1]).
        name: for messages, token files and output file names.
        extras: named numbers that decoding needs besides the codes (a gain, a transform), in the order of `Modality.extra_fields`.
    """

    values: Tensor
    name: str = ""
    extras: tuple[float, ...] = field(default_factory=tuple)


class Modality(ABC):
    """Base of modalities.

    Attributes:
        rank: number of spatial axes.
        suffixes: lower-case file suffixes that `read` takes, with the dot.
        output_suffix: of the files that `write` makes by default.
        extra_fields: names of `Sample.extras`.
    """

    kind: ClassVar[str] = "modality"
    name: ClassVar[str]
    rank: ClassVar[int]
    channels: int
    suffixes: ClassVar[tuple[str, ...]]
    output_suffix: ClassVar[str]
    extra_fields: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def read(self, path: str | Path) -> Sample:
        """Read a file.

        Raises:
            InputError: the file is missing, damaged or holds something else; the message names it.
        """

    @abstractmethod
    def write(self, path: str | Path, values: Tensor, *, force: bool = False) -> None:
        """Write one sample [C, *spatial] in the public range, atomically.

        Raises:
            InputError: the file exists and `force` is not set, or its suffix is not one of those that can be written.
        """

    @abstractmethod
    def samples(self, inputs: Any) -> list[Sample]:
        """Whatever a user hands over (path, tensor with or without batch axis, library object, or a list of them) as samples.

        Raises:
            InputError: naming what was given and what is accepted.
        """

    @abstractmethod
    def normalize(self, values: Tensor) -> Tensor:
        """Public range to the range that networks and losses see."""

    @abstractmethod
    def denormalize(self, values: Tensor, *, clamp: bool = True) -> Tensor:
        """Back to the public range; clamped to it, unless a gradient has to pass."""

    def restore(self, values: Tensor, extras: tuple[float, ...]) -> Tensor:
        """Undo, after decoding, what `read` or `samples` did to one sample (a gain, a transform)."""
        return values
