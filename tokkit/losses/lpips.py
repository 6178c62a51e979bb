"""The perceptual loss of the lpips package."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from tokkit.errors import InputError
from tokkit.losses.base import Loss, Weight, pictures
from tokkit.registry import register
from tokkit.weights import lpips_network


@register("loss", "lpips")
class LPIPS(Loss):
    """LPIPS v0.1: the distance of ImageNet features, weighted as people see them (https://arxiv.org/abs/1801.03924).

    For pictures, and frames of video, of at least 32 pixels a side; grey ones are repeated to three channels. The backbone is frozen and
    always in eval mode.
    """

    def __init__(self, *, weight: Weight = 1.0, backbone: Literal["vgg", "alex"] = "vgg", weights: str | None = None):
        """
        Args:
            weight: what the training loop multiplies the loss with.
            backbone: vgg is the usual one to train with.
            weights: torchvision's file of the backbone's ImageNet weights, or the folder that holds it; by default torch.hub's folder, and
                then torchvision's own download.

        Raises:
            InputError: the backbone's weights cannot be found or downloaded; the message says where to put which file.
        """
        super().__init__()
        self.weight = weight
        self.network = lpips_network(backbone, path=weights)

    def train(self, mode: bool = True) -> LPIPS:
        """Only the flag changes: the network has dropout, which a loss must not."""
        super().train(mode)
        self.network.eval()
        return self

    def forward(self, target: Tensor, reconstruction: Tensor) -> Tensor:
        target, reconstruction = pictures(target), pictures(reconstruction)
        if target.ndim != 4 or target.shape[1] not in (1, 3):
            raise InputError(f"loss lpips: expected pictures [B, 1 or 3, H, W], got {list(target.shape)}")
        shape = (-1, 3, -1, -1)
        with torch.no_grad():
            wanted = target.expand(shape)
        return self.network(reconstruction.expand(shape), wanted).float().mean()
