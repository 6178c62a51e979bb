"""What holds for every registered metric that judges pairs."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

import tokkit
from tokkit import registry
from tokkit.errors import InputError
from tokkit.metrics.base import Metric, MetricFailure


def image() -> tuple[Tensor, Tensor]:
    """A smooth picture and noise for it."""
    generator = torch.Generator().manual_seed(0)
    y, x = torch.meshgrid(torch.linspace(0, 1, 176), torch.linspace(0, 1, 192), indexing="ij")
    return torch.stack([x, y, (x * 9).sin() / 3 + 0.5]) * 0.6 + 0.2, torch.randn(3, 176, 192, generator=generator)


def video() -> tuple[Tensor, Tensor]:
    """A bar that moves over a picture that stands still, and noise for it."""
    still, noise = image()
    frames = still[:, None, :40, :48].repeat(1, 3, 1, 1)
    for index in range(3):
        frames[:, index, 10:20, 5 + 4 * index : 20 + 4 * index] = 0.5
    return frames, torch.stack([noise[:, :40, offset : offset + 48] for offset in (0, 50, 100)], 1)


EXAMPLES = {"image": image, "video": video}
"""Modality -> a sample and noise of its shape; a modality whose metrics need more than that tests them itself."""


def metric_of(name: str) -> Metric:
    try:
        return tokkit.build("metric", name)
    except InputError as error:
        pytest.skip(f"cannot be built here: {error}")


@pytest.mark.parametrize("name", tokkit.names("metric"))
def test_it_says_what_it_is(name: str) -> None:
    cls = registry.get("metric", name)
    assert issubclass(cls, Metric) and cls.name == name
    assert isinstance(cls.higher_is_better, bool) and isinstance(cls.unit, str)
    assert cls.modality in tokkit.names("modality")
    assert registry.entries("metric")[name].summary


@pytest.mark.parametrize("name", tokkit.names("metric"))
def test_it_judges(name: str) -> None:
    metric = metric_of(name)
    if metric.modality not in EXAMPLES:
        pytest.skip(f"no example of the modality {metric.modality}")
    original, noise = EXAMPLES[metric.modality]()
    scores = [metric(original, original + strength * noise) for strength in (0.0, 0.02, 0.1)]
    assert all(isinstance(score, float) and not math.isnan(score) for score in scores)
    assert scores == sorted(scores, reverse=metric.higher_is_better) and len(set(scores)) == 3, "more noise must be worse"
    assert metric(original, original + 0.02 * noise) == scores[1], "the same twice"


@pytest.mark.parametrize("name", tokkit.names("metric"))
def test_it_fails_rather_than_invents(name: str) -> None:
    metric = metric_of(name)
    if metric.modality not in EXAMPLES:
        pytest.skip(f"no example of the modality {metric.modality}")
    original, _ = EXAMPLES[metric.modality]()
    broken = original.clone()
    broken.view(-1)[7] = math.nan
    for pair in ((original, original[:, 1:]), (original, broken), (broken, original), (original[:, :0], original[:, :0])):
        with pytest.raises(MetricFailure, match=name):
            metric(*pair)
