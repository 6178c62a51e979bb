"""Losses between pixels (or samples), element by element."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from tokkit.losses.base import Loss
from tokkit.registry import register


@register("loss", "l1")
class L1(Loss):
    """The mean absolute error."""

    def __init__(self, *, weight: float = 1.0):
        """
        Args:
            weight: what the training loop multiplies the loss with.
        """
        super().__init__()
        self.weight = weight

    def forward(self, target: Tensor, reconstruction: Tensor) -> Tensor:
        return F.l1_loss(reconstruction.float(), target.float())


@register("loss", "l2")
class L2(Loss):
    """The mean squared error: what PSNR measures."""

    def __init__(self, *, weight: float = 1.0):
        """
        Args:
            weight: what the training loop multiplies the loss with.
        """
        super().__init__()
        self.weight = weight

    def forward(self, target: Tensor, reconstruction: Tensor) -> Tensor:
        return F.mse_loss(reconstruction.float(), target.float())
