"""Mean absolute error."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from tokkit.metrics.base import Metric, check_pair
from tokkit.registry import register


@register("metric", "mae")
class MAE(Metric):
    """Mean absolute error over all pixels and channels of a picture in [0, 1]."""

    name: ClassVar[str] = "mae"
    higher_is_better: ClassVar[bool] = False
    modality: ClassVar[str] = "image"

    def __call__(self, original: Tensor, reconstruction: Tensor) -> float:
        check_pair(self.name, original, reconstruction)
        return (original.double() - reconstruction.double()).abs().mean().item()
