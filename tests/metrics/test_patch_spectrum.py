"""The patch spectrum: known power, contrast in dB by hand, and that it tells blur but not where details are."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

import tokkit
from tokkit.metrics.base import MetricFailure
from tokkit.metrics.patch_spectrum import FLOOR, ring_power

SPECTRUM = tokkit.build("metric", "patch_spectrum")


def noise(seed: int, strength: float = 0.1, side: int = 256) -> torch.Tensor:
    drawn = torch.randn(1, side, side, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return 0.5 + strength * drawn.expand(3, -1, -1)


def test_power_of_white_noise_is_its_variance_in_every_ring() -> None:
    power = ring_power(noise(0))
    assert power.shape == (16,) and (power[1:] - 0.01).abs().max() < 0.0008
    assert ring_power(torch.full((3, 40, 50), 0.3)).tolist() == pytest.approx([FLOOR] * 16)


def test_power_of_a_wave_is_in_its_ring() -> None:
    """8 cycles a patch, amplitude a: a^2 / 2 over all frequencies, in the rings next to 8 only (the window widens a line to three)."""
    wave = 0.5 + 0.2 * torch.sin(2 * math.pi * 8 * torch.arange(64, dtype=torch.float64) / 32)
    power = ring_power(wave.expand(3, 64, 64)) - FLOOR
    assert power.argmax() == 7 and power[6:9].sum() / power.sum() > 0.9 and power[12:].max() < 1e-12


def test_half_the_contrast_is_6_db() -> None:
    original = noise(1)
    floor_db = 10 * math.log10((0.01 + FLOOR) / (0.0025 + FLOOR))
    assert SPECTRUM(original, 0.5 + (original - 0.5) / 2) == pytest.approx(floor_db, abs=2e-3) and floor_db == pytest.approx(6.02, abs=0.01)


def test_blur_is_told_and_other_places_are_not() -> None:
    original = noise(2)
    moved, blurred = original.roll((5, 9), (1, 2)), F.avg_pool2d(original, 3, stride=1, padding=1, count_include_pad=False)
    psnr = tokkit.build("metric", "psnr")
    assert psnr(original, blurred) > psnr(original, moved)
    assert SPECTRUM(original, moved) < 0.3 < 5 < SPECTRUM(original, blurred)
    assert SPECTRUM(original, noise(3)) < 0.5


def test_small_pictures_have_none() -> None:
    with pytest.raises(MetricFailure, match="below 32 on a side"):
        SPECTRUM(torch.rand(3, 31, 64), torch.rand(3, 31, 64))
