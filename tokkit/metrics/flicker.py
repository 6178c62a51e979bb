"""How much moves that should not."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from tokkit.metrics.base import Metric, MetricFailure, check_pair
from tokkit.registry import register

STILL = 1.5 / 255
"""A pixel whose channels all change by less than this between two frames of the original stands still."""
LEAST = 0.001
"""Share of the pixels that has to stand still for there to be a value."""


@register("metric", "flicker_still")
class Flicker(Metric):
    """Where the original stands still from one frame to the next (no channel changes by 1.5/255), the mean absolute change of the
    reconstruction beyond the original's, in steps of 1/255. No value where less than 0.1 percent of all pixels stands still.
    """

    name: ClassVar[str] = "flicker_still"
    unit: ClassVar[str] = "1/255"
    higher_is_better: ClassVar[bool] = False
    modality: ClassVar[str] = "video"

    def __call__(self, original: Tensor, reconstruction: Tensor) -> float:
        check_pair(self.name, original, reconstruction)
        if original.shape[1] < 2:
            raise MetricFailure(f"{self.name}: a single frame does not change")
        change = original.float().diff(dim=1)
        still = change.abs().amax(0) < STILL
        if still.float().mean() < LEAST:
            raise MetricFailure(f"{self.name}: {int(still.sum())} of {still.numel()} pixels stand still in the original, too few")
        wrong = (reconstruction.float().diff(dim=1) - change).abs().mean(0)
        return float(wrong[still].double().mean()) * 255
