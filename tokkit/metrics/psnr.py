"""Peak signal-to-noise ratio."""

from __future__ import annotations

import math
from typing import ClassVar

from torch import Tensor

from tokkit.metrics.base import Metric, check_pair
from tokkit.registry import register


@register("metric", "psnr")
class PSNR(Metric):
    """Peak signal-to-noise ratio of a picture: -10 log10(MSE), the MSE over all pixels and channels in [0, 1] (peak 1).

    Identical pictures have an infinite one, and `math.inf` is returned: whoever averages pictures has to count those apart.
    """

    name: ClassVar[str] = "psnr"
    unit: ClassVar[str] = "dB"
    higher_is_better: ClassVar[bool] = True
    modality: ClassVar[str] = "image"

    def __call__(self, original: Tensor, reconstruction: Tensor) -> float:
        check_pair(self.name, original, reconstruction)
        error = (original.double() - reconstruction.double()).square().mean().item()
        return math.inf if error == 0 else -10 * math.log10(error)
