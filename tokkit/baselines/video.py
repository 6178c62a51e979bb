"""What the video codecs share: FFmpeg's encoders by PyAV, at a constant rate factor, without a container."""

from __future__ import annotations

import io
from typing import ClassVar

import torch
from torch import Tensor

from tokkit.baselines.base import Baseline
from tokkit.errors import InputError
from tokkit.ffmpeg import pyav, reason, set_colours, to_frame, to_pixels

RATE = 25
"""Frames a second, which the encoders only need for bitrates that nobody asks for."""


class VideoCodec(Baseline):
    """A codec of FFmpeg. Videos are [3, T, H, W] in [0, 1]; quality q is the constant rate factor `worst - q`.

    Bytes are those of the bare stream, without container and without the encoder's note about itself, which is as little as a decoder
    needs. Colours are stored at half the resolution (4:2:0), of odd sizes at the full one.

    Attributes:
        encoder: FFmpeg's name of it.
        form: FFmpeg's name of the bare stream's format.
        worst: the largest rate factor.
        options: of the encoder.
    """

    modality = "video"
    encoder: ClassVar[str]
    form: ClassVar[str]
    worst: ClassVar[int]
    options: ClassVar[dict[str, str]] = {}

    def __init__(self) -> None:
        """
        Raises:
            InputError: av is not installed, or its FFmpeg has no such encoder.
        """
        av = pyav()
        try:
            av.codec.Codec(self.encoder, "w")
        except ValueError as error:
            raise InputError(f"baseline {self.name!r}: the FFmpeg of av {av.__version__} has no encoder {self.encoder}") from error

    def encode(self, values: Tensor, quality: int) -> bytes:
        """
        Raises:
            InputError: the encoder does not take this size.
        """
        av = pyav()
        channels, _, height, width = values.shape
        if channels != 3:
            raise InputError(f"{self.name}: videos have 3 channels here, got {channels}")
        file = io.BytesIO()
        pixels = (values.detach().float().clamp(0, 1) * 255).round().byte()
        try:
            with av.open(file, "w", format=self.form) as container:
                options = {**self.options, "crf": str(self.worst - quality)}
                stream = container.add_stream(self.encoder, rate=RATE, width=width, height=height, options=options)
                stream.pix_fmt = "yuv444p" if height % 2 or width % 2 else "yuv420p"
                set_colours(stream.codec_context)
                for index, picture in enumerate(pixels.unbind(1)):
                    frame = to_frame(picture, stream.pix_fmt)
                    frame.pts = index
                    container.mux(stream.encode(frame))
                container.mux(stream.encode())
        except (av.error.FFmpegError, ValueError) as error:
            raise InputError(f"{self.name}: cannot encode {tuple(values.shape)}: {reason(error)}") from error
        return self.stripped(file.getvalue())

    def decode(self, data: bytes) -> Tensor:
        with pyav().open(io.BytesIO(data), "r", format=self.form) as container:
            frames = [to_pixels(frame) for frame in container.decode(video=0)]
        return torch.stack(frames, 1).float().div(255)

    def stripped(self, data: bytes) -> bytes:
        """A stream without what a decoder does not need."""
        return data

    @property
    def library(self) -> str:
        av = pyav()
        return f"{self.encoder} of av {av.__version__}"


def without_notes(data: bytes, kinds: frozenset[int], shift: int) -> bytes:
    """An Annex B stream without the units of some kinds; the kind is the 5 or 6 bits of the unit's first byte above `shift`.

    Args:
        data: units, each behind 0 0 1 or 0 0 0 1.
        kinds: to leave out.
        shift: 0 for H.264, 1 for H.265.
    """
    mask = 31 if shift == 0 else 63
    units = data.replace(b"\0\0\0\1", b"\0\0\1").split(b"\0\0\1")[1:]
    return b"".join(b"\0\0\1" + unit for unit in units if (unit[0] >> shift) & mask not in kinds)
