"""F-scores: the share of two surfaces that lie within a distance of each other."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from tokkit.metrics.base import Metric
from tokkit.metrics.shapes import compare
from tokkit.registry import register


class _FScore(Metric):
    """Harmonic mean of precision (points of the reconstruction nearer than `threshold` to the original) and recall (the other way)."""

    higher_is_better: ClassVar[bool] = True
    modality: ClassVar[str] = "mesh"
    threshold: ClassVar[float]

    def __call__(self, original: Tensor, reconstruction: Tensor) -> float:
        pair = compare(self.name, original, reconstruction, empty_fails=False)
        if pair.empty:
            return 0.0
        precision = float((pair.to_original.distances < self.threshold).mean())
        recall = float((pair.to_reconstruction.distances < self.threshold).mean())
        return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


@register("metric", "fscore_0.01")
class FScore001(_FScore):
    """F-score at 0.01; the longest side of the original is 2. An empty reconstruction scores 0."""

    name: ClassVar[str] = "fscore_0.01"
    threshold: ClassVar[float] = 0.01


@register("metric", "fscore_0.02")
class FScore002(_FScore):
    """F-score at 0.02; the longest side of the original is 2. An empty reconstruction scores 0."""

    name: ClassVar[str] = "fscore_0.02"
    threshold: ClassVar[float] = 0.02


@register("metric", "fscore_0.05")
class FScore005(_FScore):
    """F-score at 0.05; the longest side of the original is 2. An empty reconstruction scores 0."""

    name: ClassVar[str] = "fscore_0.05"
    threshold: ClassVar[float] = 0.05
