"""Metrics of pictures, for the frames of a video one by one."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from tokkit.metrics.base import Metric, check_pair
from tokkit.metrics.lpips import LPIPSVGG, LPIPSAlex
from tokkit.metrics.psnr import PSNR
from tokkit.metrics.ssim import SSIM
from tokkit.registry import register


class FrameMetric(Metric):
    """Base of metrics that are the mean over frames of a metric of pictures.

    Attributes:
        picture: that metric.
    """

    modality: ClassVar[str] = "video"
    picture: Metric

    def __call__(self, original: Tensor, reconstruction: Tensor) -> float:
        check_pair(self.name, original, reconstruction)
        values = [self.picture(*pair) for pair in zip(original.unbind(1), reconstruction.unbind(1), strict=True)]
        return sum(values) / len(values)


@register("metric", "psnr_frames")
class PSNRFrames(FrameMetric):
    """The mean over frames of their PSNR (peak 1). With one frame that is exact it is infinite; `psnr_clip` then says more."""

    name: ClassVar[str] = "psnr_frames"
    unit: ClassVar[str] = "dB"
    higher_is_better: ClassVar[bool] = True

    def __init__(self) -> None:
        self.picture = PSNR()


@register("metric", "ssim_frames")
class SSIMFrames(FrameMetric):
    """The mean over frames of their SSIM, as `ssim` of pictures."""

    name: ClassVar[str] = "ssim_frames"
    higher_is_better: ClassVar[bool] = True

    def __init__(self) -> None:
        self.picture = SSIM()


@register("metric", "lpips_alex_frames")
class LPIPSAlexFrames(FrameMetric):
    """The mean over frames of their LPIPS with AlexNet features."""

    name: ClassVar[str] = "lpips_alex_frames"
    higher_is_better: ClassVar[bool] = False

    def __init__(self, *, weights: str | None = None):
        """
        Args:
            weights: as of `lpips_alex`.
        """
        self.picture = LPIPSAlex(weights=weights)


@register("metric", "lpips_vgg_frames")
class LPIPSVGGFrames(FrameMetric):
    """The mean over frames of their LPIPS with VGG-16 features (TokenBench's)."""

    name: ClassVar[str] = "lpips_vgg_frames"
    higher_is_better: ClassVar[bool] = False

    def __init__(self, *, weights: str | None = None):
        """
        Args:
            weights: as of `lpips_vgg`.
        """
        self.picture = LPIPSVGG(weights=weights)
