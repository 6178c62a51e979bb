"""Losses of fields: [B, M, layers] values at points, negative inside. Targets are signed distances in the frame."""

from __future__ import annotations

from typing import Annotated

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from tokkit.losses.base import Loss, Weight
from tokkit.registry import register

Truncation = Annotated[float, Field(gt=0)]


@register("loss", "tsdf")
class TSDF(Loss):
    """The mean absolute error against the signed distance, clipped and divided by `truncation`: the field is 1 where that far outside."""

    def __init__(self, *, weight: Weight = 1.0, truncation: Truncation = 0.1):
        """
        Args:
            weight: what the training loop multiplies the loss with.
            truncation: the distance beyond which distances are all alike.
        """
        super().__init__()
        self.weight = weight
        self.truncation = truncation

    def forward(self, target: Tensor, reconstruction: Tensor) -> Tensor:
        clipped = (target.float() / self.truncation).clamp(-1, 1)
        return F.l1_loss(reconstruction.float(), clipped)


@register("loss", "occupancy")
class Occupancy(Loss):
    """Binary cross-entropy of inside against outside, the field times `-sharpness` being the logit of inside."""

    def __init__(self, *, weight: Weight = 1.0, sharpness: Annotated[float, Field(gt=0)] = 10.0):
        """
        Args:
            weight: what the training loop multiplies the loss with.
            sharpness: see above; with a field that is 1 at the truncation, 10 makes the step from sure to unsure a tenth of that wide.
        """
        super().__init__()
        self.weight = weight
        self.sharpness = sharpness

    def forward(self, target: Tensor, reconstruction: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(-self.sharpness * reconstruction.float(), (target < 0).float())
