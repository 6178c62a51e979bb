"""Distance of the textures of two pictures, whatever the places of their details."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from tokkit.metrics.base import Metric, MetricFailure, check_pair
from tokkit.registry import register

SIDE, STEP = 32, 16
FLOOR = 1 / 255**2 / 12
"""Variance of rounding to 8 bits: what lies below it no picture shows."""


@register("metric", "patch_spectrum")
class PatchSpectrum(Metric):
    """Log-spectral distance in dB of patches' mean power: 32 x 32, half overlapping, Hann window, rings of frequency 1 to 16; 0 is best.

    Of the mean of the channels, less each patch's own mean: the power spectra of all patches are averaged, then the frequencies of a ring;
    the value is the root mean square over rings of 10 log10(original / reconstruction), both raised by the noise of 8-bit rounding.

    Blur is told by the high rings, at whatever place it is, and details in other places than the original's cost nothing: unlike PSNR it
    does not ask a decoder that draws details to draw the very same. It does not tell plausible from implausible details of equal power.
    """

    name: ClassVar[str] = "patch_spectrum"
    unit: ClassVar[str] = "dB"
    higher_is_better: ClassVar[bool] = False
    modality: ClassVar[str] = "image"

    def __call__(self, original: Tensor, reconstruction: Tensor) -> float:
        check_pair(self.name, original, reconstruction)
        if min(original.shape[1:]) < SIDE:
            raise MetricFailure(f"patch_spectrum: the picture is {tuple(original.shape[1:])}, below {SIDE} on a side")
        ratios = 10 * torch.log10(ring_power(original) / ring_power(reconstruction))
        return float(ratios.square().mean().sqrt())


def ring_power(picture: Tensor) -> Tensor:
    """Mean power at frequencies 1 to 16 cycles a patch of a picture [C, H, W], with that of rounding: [16], of white noise its variance."""
    grey = picture.double().mean(0)
    patches = grey.unfold(0, SIDE, STEP).unfold(1, SIDE, STEP).flatten(0, 1)
    window = torch.hann_window(SIDE, dtype=torch.float64, device=grey.device)
    window = window.unsqueeze(1) * window
    spectra = torch.fft.fft2((patches - patches.mean((1, 2), keepdim=True)) * window).abs().square().mean(0) / window.square().sum()
    frequency = torch.fft.fftfreq(SIDE, 1 / SIDE, device=grey.device)
    radius = (frequency.unsqueeze(1).square() + frequency.square()).sqrt().round()
    return torch.stack([spectra[radius == ring].mean() for ring in range(1, SIDE // 2 + 1)]) + FLOOR
