"""Scale-invariant signal-to-distortion ratio."""

from __future__ import annotations

import math
from typing import ClassVar

from torch import Tensor

from tokkit.metrics.base import Metric, MetricFailure, check_pair
from tokkit.registry import register


@register("metric", "si_sdr")
class SiSdr(Metric):
    """10 log10(|a r|^2 / |e - a r|^2), a = <e, r> / <r, r>, of zero-mean signals (https://arxiv.org/abs/1811.02508); mean over channels.

    It compares sample by sample: a shift that nobody hears ruins it, so it says little by itself about a codec that was trained otherwise.
    An exact reconstruction has an infinite one.
    """

    name: ClassVar[str] = "si_sdr"
    unit: ClassVar[str] = "dB"
    higher_is_better: ClassVar[bool] = True
    modality: ClassVar[str] = "audio"

    def __call__(self, original: Tensor, reconstruction: Tensor) -> float:
        check_pair(self.name, original, reconstruction)
        values = [_channel(r, e) for r, e in zip(original.double(), reconstruction.double(), strict=True)]
        return sum(values) / len(values)


def _channel(original: Tensor, reconstruction: Tensor) -> float:
    original, reconstruction = original - original.mean(), reconstruction - reconstruction.mean()
    energy = original.square().sum().item()
    if energy == 0:
        raise MetricFailure("si_sdr: the original is silent")
    projection = (reconstruction @ original).item() / energy * original
    signal, error = projection.square().sum().item(), (reconstruction - projection).square().sum().item()
    if signal == 0:
        return -math.inf
    return 10 * math.log10(signal / error) if error > 0 else math.inf
