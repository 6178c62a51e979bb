"""Intersection over union of the insides of two meshes."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from tokkit.metrics.base import Metric
from tokkit.metrics.shapes import compare
from tokkit.registry import register


@register("metric", "iou_volume")
class IoUVolume(Metric):
    """At 100,000 uniform points of the box around both; inside is where at least one body is. 0 for an empty reconstruction."""

    name: ClassVar[str] = "iou_volume"
    higher_is_better: ClassVar[bool] = True
    modality: ClassVar[str] = "mesh"

    def __call__(self, original: Tensor, reconstruction: Tensor) -> float:
        return compare(self.name, original, reconstruction, empty_fails=False).overlap(near=False)


@register("metric", "iou_near")
class IoUNear(Metric):
    """At 100,000 points of the original's surface, moved by a normal distribution of 0.02 along each axis; the longest side is 2."""

    name: ClassVar[str] = "iou_near"
    higher_is_better: ClassVar[bool] = True
    modality: ClassVar[str] = "mesh"

    def __call__(self, original: Tensor, reconstruction: Tensor) -> float:
        return compare(self.name, original, reconstruction, empty_fails=False).overlap(near=True)
