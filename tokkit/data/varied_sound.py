"""Augmentation of sound: a small set of recordings, heard from other speakers and other microphones."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from tokkit import dsp
from tokkit.data.base import Source
from tokkit.data.varied import Varied
from tokkit.errors import InputError
from tokkit.modalities.base import Modality
from tokkit.registry import register

SPEED_STEPS = 20
"""Speeds are multiples of 1/20: resampling by ratios of small numbers is fast."""
KNOTS, LOWEST_HERTZ = 8, 80.0
"""Of the equalizer: frequencies, evenly spaced on a logarithmic scale up to half the sample rate, that each draw a gain."""


@register("data", "varied_sound")
class VariedSound(Varied):
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
        super().__init__(of)
        self.speed, self.gain, self.equalizer = speed, gain, equalizer

    def check(self, modality: Modality) -> None:
        if modality.sample_rate is None:
            raise InputError(f"the data source `varied_sound` varies sound, and the modality is {modality.name}")

    def plan(self, generator: torch.Generator) -> tuple[int, Callable[[Tensor], Tensor]]:
        most = math.floor(self.speed * SPEED_STEPS)
        step = SPEED_STEPS + int(torch.randint(-most, most + 1, (), generator=generator))
        return math.ceil(self.size * step / SPEED_STEPS), lambda sound: self._varied(sound, step, generator)

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
