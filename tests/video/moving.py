"""What the tests of video share."""

from __future__ import annotations

import torch
from torch import Tensor


def moving(frames: int = 9, height: int = 32, width: int = 48, *, seed: int = 0) -> Tensor:
    """Waves on the move, [3, T, H, W] in steps of 1/255; every frame differs from the one before."""
    t = torch.arange(frames).float()[:, None, None] + 7 * seed
    y, x = torch.meshgrid(torch.arange(height).float(), torch.arange(width).float(), indexing="ij")
    waves = torch.stack([((x + 2 * t) / 9).sin(), ((y - t) / 7).sin(), ((x + y + 3 * t) / 20).sin()])
    return ((waves * 0.5 + 0.5) * 255).round() / 255
