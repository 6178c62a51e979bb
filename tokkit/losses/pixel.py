"""Losses between pixels (or samples of sound), element by element."""

from __future__ import annotations

from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from tokkit.losses.base import Loss, Weight
from tokkit.registry import register

PEAK = 2.0
"""Of samples in [-1, 1]."""


@register("loss", "l1")
class L1(Loss):
    """The mean absolute error."""

    def __init__(self, *, weight: Weight = 1.0):
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

    def __init__(self, *, weight: Weight = 1.0):
        """
        Args:
            weight: what the training loop multiplies the loss with.
        """
        super().__init__()
        self.weight = weight

    def forward(self, target: Tensor, reconstruction: Tensor) -> Tensor:
        return F.mse_loss(reconstruction.float(), target.float())


@register("loss", "psnr")
class PSNR(Loss):
    """Minus the mean PSNR of the samples, in dB (NAFNet's loss, https://arxiv.org/abs/2204.04676).

    Where `l2` is the error of the hard samples, this gives every sample the same say: one decibel is one decibel, smooth or not.
    """

    def __init__(self, *, limit: Annotated[float, Field(gt=0)] = 50.0, weight: Weight = 1.0):
        """
        Args:
            limit: dB at which a sample gains no more: a mean squared error of 4 * 10^(-limit / 10) is added to each, so that samples that
                are all but perfect do not take the gradient.
            weight: what the training loop multiplies the loss with.
        """
        super().__init__()
        self.floor = PEAK**2 * 10 ** (-limit / 10)
        self.weight = weight

    def forward(self, target: Tensor, reconstruction: Tensor) -> Tensor:
        errors = (reconstruction.float() - target.float()).square().flatten(1).mean(1)
        return 10 * torch.log10((errors + self.floor) / PEAK**2).mean()
