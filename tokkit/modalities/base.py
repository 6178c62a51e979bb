"""What every modality is: files and objects to tensors and back. Nothing here is learned."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, NamedTuple

import torch
from torch import Tensor

from tokkit.errors import InputError


@dataclass
class Sample:
    """One input, read.

    Attributes:
        values: [C, *spatial], in the modality's public range (pictures: [0, 1]).
        name: for messages, token files and output file names.
        extras: named numbers that decoding needs besides the codes (a gain, a transform), in the order of `Modality.extra_fields`.
        text: that lies beside it (what is said), for metrics that look at words; None where there is none.
    """

    values: Tensor
    name: str = ""
    extras: tuple[float, ...] = field(default_factory=tuple)
    text: str | None = field(default=None, kw_only=True)


class FieldBatch(NamedTuple):
    """A training batch of shapes whose decoder is a field: training looks at single points of it.

    Attributes:
        inputs: [B, C, P], what the encoder sees.
        queries: [B, M, 3], points.
        targets: [B, M, layers], what the field should be there.
    """

    inputs: Tensor
    queries: Tensor
    targets: Tensor

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> FieldBatch:
        return FieldBatch(*(part.to(device, non_blocking=non_blocking) for part in self))

    def chunk(self, chunks: int) -> list[FieldBatch]:
        return [FieldBatch(*parts) for parts in zip(*(part.chunk(chunks) for part in self), strict=True)]


class Modality(ABC):
    """Base of modalities.

    Attributes:
        rank: number of spatial axes.
        suffixes: lower-case file suffixes that `read` takes, with the dot.
        output_suffix: of the files that `write` makes by default.
        extra_fields: names of `Sample.extras`.
        sample_rate: samples a second, for sound.
    """

    kind: ClassVar[str] = "modality"
    name: ClassVar[str]
    rank: ClassVar[int]
    channels: int
    suffixes: ClassVar[tuple[str, ...]]
    output_suffix: ClassVar[str]
    extra_fields: ClassVar[tuple[str, ...]] = ()
    sample_rate: int | None = None

    @abstractmethod
    def read(self, file: str | Path | BinaryIO, *, name: str = "") -> Sample:
        """Read a file, or the bytes of one.

        Args:
            file: a path, or a binary file object (a member of a shard).
            name: what messages and the sample call a file object.

        Raises:
            InputError: the file is missing, damaged or holds something else; the message names it.
        """

    @abstractmethod
    def write(self, path: str | Path, values: Tensor, *, force: bool = False) -> None:
        """Write one sample [C, *spatial] in the public range, atomically.

        Raises:
            InputError: the file exists and `force` is not set, or its suffix is not one of those that can be written.
        """

    def read_steps(self, file: str | Path | BinaryIO, *, name: str = "") -> Sample:
        """As `read`, for encoding many: a sample of 8 bits may stay uint8 steps of 1/255, a quarter of the memory to move, which
        `Tokenizer.begin_encode` divides on the device."""
        return self.read(file, name=name)

    def is_folder(self, path: Path) -> bool:
        """Whether a folder is one sample, such as a folder of frames."""
        return False

    def write_sample(self, path: str | Path, sample: Sample, *, force: bool = False) -> None:
        """`write` for a sample whose extras say something that its file can hold, such as a frame rate.

        Raises:
            InputError: as `write`.
        """
        self.write(path, sample.values, force=force)

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

    def shown(self, reconstruction: Tensor, target: Tensor) -> Tensor:
        """A reconstruction as losses should see it, both [B, C, *spatial] in the networks' range: without what decoding cuts off anyway."""
        return reconstruction

    def network_input(self, sample: Sample) -> Tensor:
        """What the encoder sees of a sample, before `normalize`: its values, unless they are no tensor that a network can take."""
        return sample.values

    def input_size(self, sample: Sample) -> tuple[int, ...]:
        """The spatial size of `network_input`."""
        return tuple(sample.values.shape[1:])

    def stored_size(self, sample: Sample) -> tuple[int, ...]:
        """The size that decoding has to restore, as token files hold it; () where there is none."""
        return tuple(sample.values.shape[1:])

    def surface(self, field: Callable[[Tensor], Tensor], *, device: torch.device) -> Tensor:
        """Values of the sample that a decoder describes as a field.

        Args:
            field: points [M, 3] to values [M, layers].
            device: where the points have to be.

        Raises:
            InputError: this modality is no field.
        """
        raise InputError(f"{self.name} is decoded directly; its decoder must not be a field")

    def restore(self, values: Tensor, extras: tuple[float, ...]) -> Tensor:
        """Undo, after decoding, what `read` or `samples` did to one sample (a gain, a transform)."""
        return values

    def read_example(self, file: str | Path | BinaryIO, *, name: str = "", smallest: int | None = None) -> Tensor:
        """What `crop` cuts training examples out of: the values that `read` gives, or cheaper ones that serve as well.

        Args:
            file, name: as in `read`.
            smallest: the sample will be scaled down to this size, so details that vanish then need not be read.

        Returns:
            [C, *spatial], float32 in the public range, or uint8 steps of 1/255 of it.
        """
        return self.read(file, name=name).values

    def crop(
        self,
        values: Tensor,
        size: int,
        *,
        generator: torch.Generator,
        center: bool = False,
        resize: bool = False,
        flip: bool = False,
    ) -> Tensor:
        """One training example of a sample: `size` long along every spatial axis.

        Args:
            values: [C, *spatial], float32 in the public range, or uint8 steps of 1/255 of it.
            size: of the result. A shorter axis is repeated at its end.
            generator: every random choice comes from it.
            center: take the middle instead of a random place.
            resize: scale the sample before it is cut, where that makes sense.
            flip: mirror half of the examples, where that makes sense.

        Returns:
            [C, size, ...], float32 or the dtype of `values`.

        Raises:
            InputError: this modality cannot be resized or flipped.
        """
        for option, wanted in (("resize", resize), ("flip", flip)):
            if wanted:
                raise InputError(f"{option}: not possible for {self.name}, only for pictures; leave it out")
        for axis in range(1, values.ndim):
            values = window(values, axis, size, None if center else generator)
        return values


def from_steps(values: Tensor) -> Tensor:
    """uint8 steps of 1/255 as float32, anything else as it is.

    The same to the last bit on every device: GPUs multiply by the reciprocal of a Python number, which is not what dividing gives, so the
    divisor is a tensor, made without waiting for the device.
    """
    return values.float().div_(torch.full((), 255.0, device=values.device)) if values.dtype == torch.uint8 else values


def window(values: Tensor, axis: int, size: int, generator: torch.Generator | None) -> Tensor:
    """`size` entries along one axis, from a random place, or from the middle without a generator."""
    spare = values.shape[axis] - size
    if spare < 0:
        last = values.narrow(axis, values.shape[axis] - 1, 1)
        return torch.cat([values, last.repeat_interleave(-spare, axis)], axis)
    start = spare // 2 if generator is None else int(torch.randint(spare + 1, (), generator=generator))
    return values.narrow(axis, start, size)
