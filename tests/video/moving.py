"""What the tests of video share."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

import tokkit
from tokkit.modalities.video import Video


def moving(frames: int = 9, height: int = 32, width: int = 48, *, seed: int = 0) -> Tensor:
    """Waves on the move, [3, T, H, W] in steps of 1/255; every frame differs from the one before."""
    t = torch.arange(frames).float()[:, None, None] + 7 * seed
    y, x = torch.meshgrid(torch.arange(height).float(), torch.arange(width).float(), indexing="ij")
    waves = torch.stack([((x + 2 * t) / 9).sin(), ((y - t) / 7).sin(), ((x + y + 3 * t) / 20).sin()])
    return ((waves * 0.5 + 0.5) * 255).round() / 255


SMALL: dict[str, Any] = {"width": 8, "multipliers": (1, 2, 2), "time": (2, 2), "blocks": 1, "dim": 8}


def tokenizer(quantizer: tokkit.Quantizer | None = None, *, modality: str | Video = "video", **options: Any) -> tokkit.Tokenizer:
    """Random weights, the same every time: strides 4 x 4 x 4."""
    torch.manual_seed(0)
    return tokkit.Tokenizer(
        modality=modality,
        encoder=tokkit.build("encoder", "causal3d", **SMALL | options),
        quantizer=quantizer or tokkit.build("quantizer", "fsq", levels=(8, 5, 5)),
        decoder=tokkit.build("decoder", "causal3d", **SMALL | options),
        name="small",
    ).eval()
