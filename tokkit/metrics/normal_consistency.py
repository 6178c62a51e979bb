"""How well the directions of two surfaces agree."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from tokkit.metrics.base import Metric
from tokkit.metrics.shapes import compare
from tokkit.registry import register


@register("metric", "normal_consistency")
class NormalConsistency(Metric):
    """Mean |cosine| between a point's normal and that of the nearest point of the other surface, averaged over both directions."""

    name: ClassVar[str] = "normal_consistency"
    higher_is_better: ClassVar[bool] = True
    modality: ClassVar[str] = "mesh"

    def __call__(self, original: Tensor, reconstruction: Tensor) -> float:
        pair = compare(self.name, original, reconstruction, empty_fails=True)
        return float(pair.to_reconstruction.cosines.mean() + pair.to_original.cosines.mean()) / 2
