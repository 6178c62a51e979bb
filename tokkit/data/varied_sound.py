"""Augmentation of sound: a small set of recordings, heard from other speakers and other microphones."""

from __future__ import annotations

import copy
import functools
import math
from typing import Annotated, Self

import torch
from pydantic import Field
from torch import Tensor

from tokkit import dsp
from tokkit.data.base import Source, Split, mixed
from tokkit.data.captions import Captioned
from tokkit.errors import InputError
from tokkit.modalities.base import Modality, Sample
from tokkit.registry import register

SPEED_STEPS = 20
"""Speeds are multiples of 1/20: resampling by ratios of small numbers is fast."""
KNOTS, LOWEST_HERTZ = 8, 80.0
"""Of the equalizer: frequencies, evenly spaced on a logarithmic scale up to half the sample rate, that each draw a gain."""


@register("data", "varied_sound")
class VariedSound(Source):
    """Another source's sounds, their training examples at random speeds (and so pitches), colours and volumes.

    A codec sees a few minutes of sound hundreds of times over in a short run: this keeps it from learning them by heart. Held-out samples,
    and whole ones, are as they are.
    """

    def __init__(
        self,
        *,
        of: Source,
        speed: Annotated[float, Field(ge=0, le=0.5)] = 0.15,
        gain: Annotated[float, Field(ge=0)] = 6.0,
        equalizer: Annotated[float, Field(ge=0)] = 4.0,
    ):
        """
        Args:
            of: the source of the sounds, with the size of the examples.
            speed: play at 1 - speed to 1 + speed.
            gain: make that many dB louder or softer at most; a peak stays within [-1, 1].
            equalizer: at each of 8 frequencies, make that many dB louder or softer at most, and in between smoothly.
        """
        super().__init__(size=of.size)
        self.of, self.speed, self.gain, self.equalizer = of, speed, gain, equalizer

    def find(self, modality: Modality, split: Split) -> range:
        return range(len(self.of))

    def load(self, item: int, modality: Modality) -> Sample:
        return self.of.sample(item)

    def open(self, modality: Modality, *, split: Split = "train") -> Self:
        if modality.sample_rate is None:
            raise InputError(f"the data source `varied_sound` varies sound, and the modality is {modality.name}")
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
        generator = torch.Generator().manual_seed(mixed(seed, 1))
        most = math.floor(self.speed * SPEED_STEPS)
        step = SPEED_STEPS + int(torch.randint(-most, most + 1, (), generator=generator))
        longer = copy.copy(self.of)
        longer.size = math.ceil(self.size * step / SPEED_STEPS)
        example = longer.draw(index, seed)
        if isinstance(example, Captioned):
            return Captioned(self._varied(example.values, step, generator), example.captions)
        return self._varied(example, step, generator)

    def _varied(self, sound: Tensor, step: int, generator: torch.Generator) -> Tensor:
        """[C, longer] as [C, size]."""
        sound = dsp.resample(sound, step, SPEED_STEPS)[..., : self.size]
        decibels = self.equalizer * (2 * torch.rand(KNOTS, generator=generator) - 1)
        if self.equalizer:
            rate = self._opened().sample_rate
            assert rate is not None
            sound = torch.fft.irfft(torch.fft.rfft(sound) * 10 ** (decibels @ _knots(rate, self.size) / 20), self.size)
        louder = 10 ** (self.gain * (2 * float(torch.rand((), generator=generator)) - 1) / 20)
        return (sound * min(louder, 1 / max(float(sound.abs().amax()), 1e-9))).contiguous()


@functools.lru_cache(maxsize=4)
def _knots(rate: int, size: int) -> Tensor:
    """How much each frequency of a transform listens to each knot, linear in between: [KNOTS, size // 2 + 1]."""
    hertz = torch.linspace(0, rate / 2, size // 2 + 1).clamp(min=LOWEST_HERTZ)
    place = (hertz / LOWEST_HERTZ).log() / math.log(rate / 2 / LOWEST_HERTZ) * (KNOTS - 1)
    return (1 - (place - torch.arange(KNOTS)[:, None]).abs()).clamp(min=0)
