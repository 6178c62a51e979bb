"""Learned perceptual image patch similarity."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor

from tokkit.metrics.base import Metric, MetricFailure, check_pair, exact_convolutions
from tokkit.registry import register
from tokkit.weights import lpips_network


class _LPIPS(Metric):
    """What both have in common."""

    higher_is_better: ClassVar[bool] = False
    modality: ClassVar[str] = "image"
    backbone: ClassVar[Literal["vgg", "alex"]]
    smallest: ClassVar[int]

    def __init__(self, *, weights: str | None = None):
        """
        Args:
            weights: torchvision's file of the backbone or its folder, where it is not in torch.hub's.

        Raises:
            InputError: the weights are not there; the message says where to put them.
        """
        self._network = lpips_network(self.backbone, path=weights)
        self._device = torch.device("cpu")

    @torch.no_grad()
    def __call__(self, original: Tensor, reconstruction: Tensor) -> float:
        check_pair(self.name, original, reconstruction)
        if original.shape[0] != 3 or min(original.shape[1:]) < self.smallest:
            raise MetricFailure(f"{self.name}: needs 3 channels and {self.smallest} pixels a side, got {tuple(original.shape)}")
        if original.device != self._device:
            self._network.to(original.device)
            self._device = original.device
        with torch.autocast(original.device.type, enabled=False), exact_convolutions():
            pair = original.float()[None], reconstruction.to(original.device).float()[None]
            return float(self._network(*pair, normalize=True))


@register("metric", "lpips_vgg")
class LPIPSVGG(_LPIPS):
    """LPIPS v0.1 (https://arxiv.org/abs/1801.03924), the lpips package with VGG-16 features."""

    name: ClassVar[str] = "lpips_vgg"
    backbone: ClassVar[Literal["vgg", "alex"]] = "vgg"
    smallest: ClassVar[int] = 16

    def __init__(self, *, weights: str | None = None):
        super().__init__(weights=weights)


@register("metric", "lpips_alex")
class LPIPSAlex(_LPIPS):
    """LPIPS v0.1 (https://arxiv.org/abs/1801.03924), the lpips package with AlexNet features."""

    name: ClassVar[str] = "lpips_alex"
    backbone: ClassVar[Literal["vgg", "alex"]] = "alex"
    smallest: ClassVar[int] = 31

    def __init__(self, *, weights: str | None = None):
        super().__init__(weights=weights)
