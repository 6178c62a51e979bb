"""Opus (RFC 6716), by libsndfile."""

from __future__ import annotations

import io
from typing import Annotated, ClassVar

import numpy as np
import soundfile
import torch
from pydantic import Field
from torch import Tensor

from tokkit import dsp
from tokkit.baselines.base import Baseline
from tokkit.errors import InputError
from tokkit.registry import register

RATES = (8000, 12000, 16000, 24000, 48000)
LEAST, MOST = 6, 256
"""Kilobits a second and channel that libsndfile can ask the encoder for."""


@register("baseline", "opus")
class Opus(Baseline):
    """Opus in an OGG file; the quality is the encoder's setting in kbit/s a channel, 6 to 256 (variable bitrate).

    Bytes are those of the whole file: on a sound of one second its header is a few kbit/s by itself (`payload_bytes` leaves it out).
    Rates that Opus does not know are resampled to 48 kHz and back.
    """

    name: ClassVar[str] = "opus"
    modality: ClassVar[str] = "audio"
    qualities: ClassVar[tuple[int, int]] = (LEAST, MOST)
    sweep: ClassVar[tuple[int, ...]] = (6, 8, 12, 16, 24, 32, 64)

    def __init__(self, *, sample_rate: Annotated[int, Field(ge=1)] = 24000):
        """
        Args:
            sample_rate: of the sounds that are given.

        Raises:
            InputError: this libsndfile has no Opus.
        """
        if "OPUS" not in soundfile.available_subtypes("OGG"):
            raise InputError(f"baseline 'opus': libsndfile {soundfile.__libsndfile_version__} has no Opus; install soundfile 0.12 or newer")
        self.sample_rate = sample_rate
        self.coded_rate = sample_rate if sample_rate in RATES else 48000

    def encode(self, values: Tensor, quality: int) -> bytes:
        sound = dsp.resample(values.detach().float().cpu(), self.sample_rate, self.coded_rate).clamp(-1, 1)
        # Kilobits follow from the level: 6 + 250 (1 - level).
        level = (MOST - min(max(quality, LEAST), MOST)) / (MOST - LEAST)
        file = io.BytesIO()
        channels = np.ascontiguousarray(sound.T.numpy())
        soundfile.write(file, channels, self.coded_rate, "OPUS", format="OGG", compression_level=level)
        return file.getvalue()

    def decode(self, data: bytes) -> Tensor:
        samples, rate = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)
        return dsp.resample(torch.from_numpy(samples.T.copy()), rate, self.sample_rate).clamp(-1, 1)

    @property
    def library(self) -> str:
        return f"libsndfile {soundfile.__libsndfile_version__}"


def payload_bytes(data: bytes) -> int:
    """Bytes of the Opus packets in an OGG file, without pages, the identification and the comments.

    Raises:
        InputError: it is not an OGG file.
    """
    sizes: list[int] = []
    position, open_packet = 0, 0
    while position < len(data):
        if data[position : position + 4] != b"OggS":
            raise InputError(f"not an OGG file: no page begins at byte {position}")
        count = data[position + 26]
        lacing = data[position + 27 : position + 27 + count]
        for size in lacing:
            open_packet += size
            if size < 255:
                sizes.append(open_packet)
                open_packet = 0
        position += 27 + count + sum(lacing)
    return sum(sizes[2:])
