"""Losses of how a video changes."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from tokkit.errors import InputError
from tokkit.losses.base import Loss, Weight
from tokkit.registry import register


@register("loss", "motion")
class Motion(Loss):
    """The mean absolute error of the differences between neighbouring frames: flicker costs, an error that stays does not."""

    def __init__(self, *, weight: Weight = 1.0):
        """
        Args:
            weight: what the training loop multiplies the loss with.
        """
        super().__init__()
        self.weight = weight

    def forward(self, target: Tensor, reconstruction: Tensor) -> Tensor:
        if target.ndim != 5:
            raise InputError(f"loss motion: expected video [B, C, T, H, W], got {list(target.shape)}")
        if target.shape[2] < 2:
            return reconstruction.new_zeros(())
        return F.l1_loss(reconstruction.float().diff(dim=2), target.float().diff(dim=2))
