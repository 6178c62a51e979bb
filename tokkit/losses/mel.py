"""Distances between mel spectrograms, and between spectrograms, of several resolutions."""

from __future__ import annotations

from typing import Annotated, Any

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from tokkit import dsp
from tokkit.errors import InputError
from tokkit.losses.base import Loss, Weight
from tokkit.registry import register

FLOOR = 1e-5
SMALLEST_POWER = 1e-20
"""The square root of 0 has no gradient."""
DAC_MELS = {32: 5, 64: 10, 128: 20, 256: 40, 512: 80, 1024: 160, 2048: 320}
"""Window -> number of mel bands in DAC's training (https://arxiv.org/abs/2306.06546)."""


class SpectralLoss(Loss):
    """Base of losses between spectrograms."""

    compiles = True

    def compile(self, *args: Any, mode: str = "default", **kwargs: Any) -> None:
        """As torch has it, but without strides padded to whole cache lines, which torch's compiler does on GPUs.

        That padding let the backward pass of `stft` with `phase` write a buffer in one order and read it in another: right values, and
        gradients a thousand times too long in random directions (torch 2.11; https://github.com/pytorch/pytorch/issues/194281).
        """
        from torch._inductor import list_mode_options

        options = {**list_mode_options(mode), "comprehensive_padding": False}
        super().compile(*args, options=options, **kwargs)


@register("loss", "mel")
class MelLoss(SpectralLoss):
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
        weight: Weight = 15.0,
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
        self.spectra = nn.ModuleList(_Spectrum(window, dsp.mel_basis(sample_rate, window, mels)) for window, mels in self.scales)
        self.magnitude_weight = magnitude_weight
        self.weight = weight

    def forward(self, target: Tensor, reconstruction: Tensor) -> Tensor:
        target, reconstruction = target.float(), reconstruction.float()
        total = target.new_zeros(())
        for spectrum in self.spectra:
            a, b = (spectrum(signal)[1] for signal in (target, reconstruction))
            total = total + F.l1_loss(_log(b), _log(a))
            if self.magnitude_weight:
                total = total + self.magnitude_weight * F.l1_loss(b, a)
        return total


@register("loss", "stft")
class StftLoss(SpectralLoss):
    """L1 of log10 power and of magnitudes of spectrograms, summed over resolutions: DAC's definition (https://arxiv.org/abs/2306.06546).

    With `phase` the L1 of real and imaginary parts is added, which a wrong phase cannot escape.
    """

    def __init__(
        self,
        *,
        windows: tuple[int, ...] = (2048, 512),
        phase: bool = False,
        weight: Weight = 1.0,
    ):
        """
        Args:
            windows: in samples; the hop is a quarter of each.
            phase: compare real and imaginary parts too.
            weight: what the training loop multiplies the loss with.
        """
        super().__init__()
        self.windows, self.phase, self.weight = windows, phase, weight
        self.spectra = nn.ModuleList(_Spectrum(window) for window in windows)

    def forward(self, target: Tensor, reconstruction: Tensor) -> Tensor:
        total = target.new_zeros((), dtype=torch.float32)
        for spectrum in self.spectra:
            (waves_a, a), (waves_b, b) = (spectrum(signal.float()) for signal in (target, reconstruction))
            if self.phase:
                total = total + F.l1_loss(waves_b, waves_a)
            total = total + 2 * F.l1_loss(_log(b), _log(a)) + F.l1_loss(b, a)
        return total


class _Spectrum(nn.Module):
    """One resolution: spectrograms with their constants on the device, in real numbers, so that the compiler can join what follows."""

    def __init__(self, window: int, basis: Tensor | None = None):
        super().__init__()
        self.window = window
        self.register_buffer("shape", torch.hann_window(window), persistent=False)
        self.register_buffer("basis", None if basis is None else basis.contiguous(), persistent=False)
        self.shape: Tensor
        self.basis: Tensor | None

    def forward(self, signal: Tensor) -> tuple[Tensor, Tensor]:
        """[..., T] fp32 -> real and imaginary parts [..., frames, bins, 2], and magnitudes [..., frames, bins or mel bands].

        Frames first: the order that they lie in memory.
        """
        waves = torch.view_as_real(dsp.stft(signal, self.window, self.window // 4, self.shape).transpose(-1, -2))
        magnitudes = waves.square().sum(-1).clamp(min=SMALLEST_POWER).sqrt()
        return waves, magnitudes if self.basis is None else magnitudes @ self.basis


def _log(magnitude: Tensor) -> Tensor:
    return magnitude.clamp(min=FLOOR).log10()
