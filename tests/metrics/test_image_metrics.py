"""PSNR, SSIM, MS-SSIM and MAE against scikit-image and against formulas written out, on real pictures."""

from __future__ import annotations

import io
import math

import numpy as np
import PIL.Image
import pytest
import torch
from scipy.ndimage import correlate1d
from skimage.metrics import mean_squared_error, peak_signal_noise_ratio, structural_similarity
from torch import Tensor

import tokkit
from tokkit.metrics.base import MetricFailure

IMAGE = tokkit.build("modality", "image")
SAMPLES = tokkit.build("data", "samples", cache=False).open(IMAGE, split="val")
SKIMAGE = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1.0}


def pairs() -> list[tuple[Tensor, Tensor]]:
    """Pictures of several sizes beside what JPEG makes of them."""
    found = []
    for index, size in ((0, (180, 177)), (1, (200, 176)), (2, (181, 230))):
        original = SAMPLES.sample(index).values[:, 40 : 40 + size[0], 30 : 30 + size[1]]
        stream = io.BytesIO()
        PIL.Image.fromarray((original * 255).round().byte().permute(1, 2, 0).numpy()).save(stream, "JPEG", quality=15 + 30 * index)
        stream.seek(0)
        found.append((original, IMAGE.read(stream).values))
    return found


PAIRS = pairs()


@pytest.mark.parametrize("pair", PAIRS)
def test_psnr(pair: tuple[Tensor, Tensor]) -> None:
    a, b = (values.double().numpy() for values in pair)
    value = tokkit.build("metric", "psnr")(*pair)
    assert value == pytest.approx(peak_signal_noise_ratio(a, b, data_range=1), abs=1e-9)
    assert value == pytest.approx(-10 * math.log10(mean_squared_error(a, b)), abs=1e-9)
    assert 20 < value < 45


def test_psnr_by_hand() -> None:
    psnr = tokkit.build("metric", "psnr")
    assert psnr(torch.zeros(3, 4, 4), torch.full((3, 4, 4), 0.1)) == pytest.approx(20, abs=1e-6)
    assert psnr(torch.zeros(3, 4, 4), torch.ones(3, 4, 4)) == 0
    assert psnr(torch.rand(3, 4, 4).fill_(0.3), torch.zeros(3, 4, 4).fill_(0.3)) == math.inf


@pytest.mark.parametrize("pair", PAIRS)
def test_mae(pair: tuple[Tensor, Tensor]) -> None:
    a, b = (values.double().numpy() for values in pair)
    assert tokkit.build("metric", "mae")(*pair) == pytest.approx(np.abs(a - b).mean(), abs=1e-12)


@pytest.mark.parametrize("pair", PAIRS)
def test_ssim(pair: tuple[Tensor, Tensor]) -> None:
    a, b = (values.double().numpy() for values in pair)
    value = tokkit.build("metric", "ssim")(*pair)
    padded = (np.pad(picture, ((0, 0), (5, 5), (5, 5)), mode="reflect") for picture in (a, b))
    assert value == pytest.approx(structural_similarity(*padded, channel_axis=0, **SKIMAGE), abs=5e-6)
    assert value == pytest.approx(structural_similarity(a, b, channel_axis=0, **SKIMAGE), abs=5e-3), "the border is all that differs"


def blurred(picture: np.ndarray) -> np.ndarray:
    """Under the Gaussian window, continued by reflection."""
    window = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
    window /= window.sum()
    return correlate1d(correlate1d(picture, window, -1, mode="mirror"), window, -2, mode="mirror")


def ms_ssim_by_hand(a: np.ndarray, b: np.ndarray) -> float:
    """Wang et al. 2003 as torchmetrics does it: contrast without the border, the last scale with it, halving by 2 x 2 means."""
    terms = []
    for scale in range(5):
        mean_a, mean_b = blurred(a), blurred(b)
        var_a, var_b, cov = blurred(a * a) - mean_a**2, blurred(b * b) - mean_b**2, blurred(a * b) - mean_a * mean_b
        contrast = (2 * cov + 0.03**2) / (var_a + var_b + 0.03**2)
        luminance = (2 * mean_a * mean_b + 0.01**2) / (mean_a**2 + mean_b**2 + 0.01**2)
        terms.append((contrast * luminance).mean() if scale == 4 else contrast[:, 5:-5, 5:-5].mean())
        height, width = (side // 2 * 2 for side in a.shape[1:])
        a, b = (p[:, :height, :width].reshape(3, height // 2, 2, width // 2, 2).mean((2, 4)) for p in (a, b))
    return float(np.prod(np.maximum(terms, 0) ** np.array([0.0448, 0.2856, 0.3001, 0.2363, 0.1333])))


@pytest.mark.parametrize("pair", PAIRS)
def test_ms_ssim(pair: tuple[Tensor, Tensor]) -> None:
    value = tokkit.build("metric", "ms_ssim")(*pair)
    assert value == pytest.approx(ms_ssim_by_hand(*(values.double().numpy() for values in pair)), abs=5e-6)
    assert 0.8 < value < 1


@pytest.mark.parametrize(("name", "smallest"), [("ssim", 11), ("ms_ssim", 176)])
def test_pictures_smaller_than_the_window(name: str, smallest: int) -> None:
    metric = tokkit.build("metric", name)
    exact = torch.rand(3, smallest, smallest + 3)
    assert metric(exact, exact) == pytest.approx(1)
    with pytest.raises(MetricFailure, match=f"{name}: .*{smallest}"):
        metric(exact[:, 1:], exact[:, 1:])


def test_half_precision_is_not_lost_on_the_way() -> None:
    original, reconstruction = (values.bfloat16() for values in PAIRS[0])
    for name in ("psnr", "ssim", "ms_ssim", "mae"):
        metric = tokkit.build("metric", name)
        assert metric(original, reconstruction) == pytest.approx(metric(original.float(), reconstruction.float()), abs=1e-9)
