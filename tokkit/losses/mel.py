"""Distances between mel spectrograms, and between spectrograms, of several resolutions."""

from __future__ import annotations

from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from tokkit import dsp
from tokkit.errors import InputError
from tokkit.losses.base import Loss
from tokkit.registry import register

FLOOR = 1e-5
DAC_MELS = {32: 5, 64: 10, 128: 20, 256: 40, 512: 80, 1024: 160, 2048: 320}
"""Window -> number of mel bands in DAC's training (https://arxiv.org/abs/2306.06546)."""


@register("loss", "mel")
class MelLoss(Loss):
    """L1 of log10 mel magnitudes, summed over resolutions: DAC's training loss (https://arxiv.org/abs/2306.06546).

    Periodic Hann windows, hop of a quarter window, librosa's mel filters from 0 Hz to half the sample rate, magnitudes clamped to 1e-5.
    """

    def __init__(
        self,
        *,
        sample_rate: Annotated[int, Field(ge=1)] = 24000,
        windows: tuple[int, ...] = tuple(DAC_MELS),
        mels: tuple[int, ...] = tuple(DAC_MELS.values()),
        magnitude_weight: Annotated[float, Field(ge=0)] = 0.0,
        weight: Annotated[float, Field(ge=0)] = 15.0,
    ):
        """
        Args:
            sample_rate: of the sound.
            windows: in samples.
            mels: the number of bands of each window.
            magnitude_weight: of the L1 of the magnitudes themselves, added to that of their logarithms; 0 in DAC's training.
            weight: what the training loop multiplies the loss with.

        Raises:
            InputError: not as many `mels` as `windows`.
        """
        super().__init__()
        if len(windows) != len(mels) or not windows:
            raise InputError(f"loss mel: {len(windows)} windows need as many numbers of mels, got {len(mels)}")
        self.sample_rate = sample_rate
        self.scales = tuple(zip(windows, mels, strict=True))
        self.magnitude_weight = magnitude_weight
        self.weight = weight

    def forward(self, target: Tensor, reconstruction: Tensor) -> Tensor:
        target, reconstruction = target.float(), reconstruction.float()
        total = target.new_zeros(())
        for window, mels in self.scales:
            a, b = (dsp.mel_magnitude(signal, self.sample_rate, window, mels) for signal in (target, reconstruction))
            total = total + F.l1_loss(_log(b), _log(a))
            if self.magnitude_weight:
                total = total + self.magnitude_weight * F.l1_loss(b, a)
        return total


@register("loss", "stft")
class StftLoss(Loss):
    """L1 of log10 power and of magnitudes of spectrograms, summed over resolutions: DAC's definition (https://arxiv.org/abs/2306.06546).

    With `phase` the L1 of real and imaginary parts is added, which a wrong phase cannot escape.
    """

    def __init__(
        self,
        *,
        windows: tuple[int, ...] = (2048, 512),
        phase: bool = False,
        weight: Annotated[float, Field(ge=0)] = 1.0,
    ):
        """
        Args:
            windows: in samples; the hop is a quarter of each.
            phase: compare real and imaginary parts too.
            weight: what the training loop multiplies the loss with.
        """
        super().__init__()
        self.windows, self.phase, self.weight = windows, phase, weight

    def forward(self, target: Tensor, reconstruction: Tensor) -> Tensor:
        total = target.new_zeros((), dtype=torch.float32)
        for window in self.windows:
            a, b = (dsp.stft(signal.float(), window, window // 4) for signal in (target, reconstruction))
            if self.phase:
                total = total + F.l1_loss(torch.view_as_real(b), torch.view_as_real(a))
            a, b = a.abs(), b.abs()
            total = total + 2 * F.l1_loss(_log(b), _log(a)) + F.l1_loss(b, a)
        return total


def _log(magnitude: Tensor) -> Tensor:
    return magnitude.clamp(min=FLOOR).log10()
