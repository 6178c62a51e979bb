"""Chamfer distances."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from torch import Tensor

from tokkit.metrics.base import Metric
from tokkit.metrics.shapes import compare
from tokkit.registry import register


@register("metric", "chamfer_l1")
class ChamferL1(Metric):
    """(mean distance original to reconstruction + mean distance back) / 2, not squared; the longest side of the original is 2."""

    name: ClassVar[str] = "chamfer_l1"
    higher_is_better: ClassVar[bool] = False
    modality: ClassVar[str] = "mesh"

    def __call__(self, original: Tensor, reconstruction: Tensor) -> float:
        pair = compare(self.name, original, reconstruction, empty_fails=True)
        return float(pair.to_reconstruction.distances.mean() + pair.to_original.distances.mean()) / 2


@register("metric", "chamfer_l1_sum")
class ChamferL1Sum(Metric):
    """Mean distance original to reconstruction + mean distance back, not squared and not halved: 3DShape2VecSet's Chamfer distance."""

    name: ClassVar[str] = "chamfer_l1_sum"
    higher_is_better: ClassVar[bool] = False
    modality: ClassVar[str] = "mesh"

    def __call__(self, original: Tensor, reconstruction: Tensor) -> float:
        pair = compare(self.name, original, reconstruction, empty_fails=True)
        return float(pair.to_reconstruction.distances.mean() + pair.to_original.distances.mean())


@register("metric", "chamfer_l2")
class ChamferL2(Metric):
    """Mean squared distance original to reconstruction + mean squared distance back."""

    name: ClassVar[str] = "chamfer_l2"
    higher_is_better: ClassVar[bool] = False
    modality: ClassVar[str] = "mesh"

    def __call__(self, original: Tensor, reconstruction: Tensor) -> float:
        pair = compare(self.name, original, reconstruction, empty_fails=True)
        return float(np.square(pair.to_reconstruction.distances).mean() + np.square(pair.to_original.distances).mean())
