"""Signal-to-noise ratios of whole clips, and of how they change."""

from __future__ import annotations

import math
from typing import ClassVar

from torch import Tensor

from tokkit.metrics.base import Metric, MetricFailure, check_pair
from tokkit.registry import register


@register("metric", "psnr_clip")
class PSNRClip(Metric):
    """-10 log10(MSE), the MSE over all frames, pixels and channels of a clip in [0, 1]: TokenBench's. Infinite for an identical clip."""

    name: ClassVar[str] = "psnr_clip"
    unit: ClassVar[str] = "dB"
    higher_is_better: ClassVar[bool] = True
    modality: ClassVar[str] = "video"

    def __call__(self, original: Tensor, reconstruction: Tensor) -> float:
        check_pair(self.name, original, reconstruction)
        return _decibels((original.double() - reconstruction.double()).square().mean().item())


@register("metric", "psnr_worst_frame")
class PSNRWorstFrame(Metric):
    """The least PSNR of any frame (peak 1): what a pulse of bad frames looks like, which means hide."""

    name: ClassVar[str] = "psnr_worst_frame"
    unit: ClassVar[str] = "dB"
    higher_is_better: ClassVar[bool] = True
    modality: ClassVar[str] = "video"

    def __call__(self, original: Tensor, reconstruction: Tensor) -> float:
        check_pair(self.name, original, reconstruction)
        return _decibels((original.double() - reconstruction.double()).square().mean((0, 2, 3)).max().item())


@register("metric", "psnr_differences")
class PSNRDifferences(Metric):
    """-10 log10 of the mean squared error of the differences between neighbouring frames: whether things change as they should.

    An error that stays the same from frame to frame does not count; noise that is new in every frame counts twice (3 dB less than
    `psnr_clip`). A single frame has none.
    """

    name: ClassVar[str] = "psnr_differences"
    unit: ClassVar[str] = "dB"
    higher_is_better: ClassVar[bool] = True
    modality: ClassVar[str] = "video"

    def __call__(self, original: Tensor, reconstruction: Tensor) -> float:
        check_pair(self.name, original, reconstruction)
        if original.shape[1] < 2:
            raise MetricFailure(f"{self.name}: a single frame does not change")
        return _decibels((original.double() - reconstruction.double()).diff(dim=1).square().mean().item())


def _decibels(error: float) -> float:
    return math.inf if error == 0 else -10 * math.log10(error)
