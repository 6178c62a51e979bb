"""Multi-scale structural similarity."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor
from torchmetrics.functional.image import multiscale_structural_similarity_index_measure

from tokkit.metrics.base import Metric, MetricFailure, check_pair, exact_convolutions
from tokkit.registry import register

SMALLEST = 176
"""Side from which the fifth scale holds a whole 11 x 11 window."""


@register("metric", "ms_ssim")
class MSSSIM(Metric):
    """Multi-scale structural similarity (Wang et al. 2003), torchmetrics' form: 5 scales by 2 x 2 means, the published exponents.

    Window and constants as in `ssim`; a negative term of a scale counts as 0.
    """

    name: ClassVar[str] = "ms_ssim"
    higher_is_better: ClassVar[bool] = True
    modality: ClassVar[str] = "image"

    def __call__(self, original: Tensor, reconstruction: Tensor) -> float:
        check_pair(self.name, original, reconstruction)
        if min(original.shape[1:]) < SMALLEST:
            raise MetricFailure(f"ms_ssim: the picture is {tuple(original.shape[1:])}, below {SMALLEST} on a side")
        pair = reconstruction.float()[None], original.float()[None]
        with exact_convolutions():
            return float(multiscale_structural_similarity_index_measure(*pair, data_range=1.0))
