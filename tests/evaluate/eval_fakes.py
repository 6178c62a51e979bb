"""Systems whose loss is known, and small pictures for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

import tokkit
from tokkit.errors import InputError
from tokkit.evaluate.systems import Coded, System
from tokkit.metrics.base import Metric, MetricFailure
from tokkit.modalities.base import Sample


class Fake(System):
    """Gives back what a function makes of the values, in so many bytes."""

    def __init__(self, function: Callable[[Tensor], Tensor], *, name: str = "fake", file_bytes: int = 500):
        self.name = name
        self.modality = tokkit.build("modality", "image")
        self.function = function
        self.file_bytes = file_bytes

    def code(self, samples: Sequence[Sample]) -> list[Coded]:
        if any(sample.name == "refused" for sample in samples):
            raise InputError("this one is refused")
        return [Coded(self.function(sample.values), 8 * self.file_bytes - 80, self.file_bytes) for sample in samples]


class OnlyLarge(Metric):
    """The mean error, of pictures that are not small."""

    name = "only_large"
    higher_is_better = False
    modality = "image"

    def __call__(self, original: Tensor, reconstruction: Tensor) -> float:
        if original.shape[1] < 20:
            raise MetricFailure("too small")
        return (original - reconstruction).abs().mean().item()


def pictures(count: int, size: int = 48, seed: int = 0) -> list[Sample]:
    """Smooth pictures with some detail, each another."""
    generator = torch.Generator().manual_seed(seed)
    made = []
    for index in range(count):
        coarse = torch.rand(1, 3, 6, 6, generator=generator)
        smooth = torch.nn.functional.interpolate(coarse, (size, size), mode="bicubic")[0]
        noise = 0.05 * torch.randn(3, size, size, generator=generator)
        made.append(Sample((smooth + noise).clamp(0, 1), f"picture-{index}"))
    return made


def brighter(amount: float) -> Callable[[Tensor], Tensor]:
    """A function that adds so much to every value."""
    return lambda values: values + amount


def noisy(amount: float, seed: int) -> Callable[[Tensor], Tensor]:
    """A function that adds noise of that strength, other noise each time."""
    generator = torch.Generator().manual_seed(seed)
    return lambda values: values + amount * torch.randn(values.shape, generator=generator)
