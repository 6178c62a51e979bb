"""Structural similarity as a loss: a perceptual term that needs no weights."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure

from tokkit.errors import InputError
from tokkit.losses.base import Loss, Weight
from tokkit.registry import register

SMALLEST = 11
"""Pixels a side: the width of the Gaussian window (sigma 1.5)."""


@register("loss", "ssim")
class SSIM(Loss):
    """1 - SSIM with the Gaussian window of 11 pixels (https://doi.org/10.1109/TIP.2003.819861), for pictures in [-1, 1]."""

    def __init__(self, *, weight: Weight = 1.0):
        """
        Args:
            weight: what the training loop multiplies the loss with.
        """
        super().__init__()
        self.weight = weight

    def forward(self, target: Tensor, reconstruction: Tensor) -> Tensor:
        if target.ndim != 4 or min(target.shape[2:]) < SMALLEST:
            raise InputError(f"loss ssim: expected pictures [B, C, H, W] of at least {SMALLEST} pixels a side, got {list(target.shape)}")
        with torch.autocast(target.device.type, enabled=False):
            pair = [(pictures.float() + 1) / 2 for pictures in (reconstruction, target)]  # the luminance term wants black at 0
            similarity = structural_similarity_index_measure(*pair, data_range=1.0)
        return 1 - similarity
