"""Functions that spoil pictures in known ways, named by tests as a user names his own."""

from __future__ import annotations

import torch
from torch import Tensor


def darker(batch: Tensor) -> Tensor:
    """Half as bright."""
    return batch * 0.5


def blur(batch: Tensor) -> Tensor:
    """The means of 5 x 5 pixels."""
    return torch.nn.functional.avg_pool2d(batch, 5, stride=1, padding=2, count_include_pad=False)


def shuffle(batch: Tensor) -> Tensor:
    """Tiles of 8 x 8 pixels, out of order."""
    folded = torch.nn.functional.unfold(batch, 8, stride=8)
    order = torch.randperm(folded.shape[2], generator=torch.Generator().manual_seed(0))
    return torch.nn.functional.fold(folded[..., order], batch.shape[2:], 8, stride=8)
