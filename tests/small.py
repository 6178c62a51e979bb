"""Small tokenizers and recipes that tests share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

import tokkit

CONV: dict[str, Any] = {"width": 8, "multipliers": (1, 2), "blocks": 1, "dim": 8, "groups": 4, "attention": False}

RECIPE = """\
modality: image
data: {name: synthetic, size: 16, count: 24}
encoder: {name: conv, width: 8, multipliers: [1, 2], blocks: 1, dim: 8, groups: 4, attention: false}
quantizer: {name: vq, dim: 8, codebook_size: 32}
decoder: {name: conv, width: 8, multipliers: [1, 2], blocks: 1, dim: 8, groups: 4, attention: false}
losses: [{name: l1}]
train: {steps: 6, batch_size: 4, lr: 1e-3, log_every: 2, sample_every: 3, checkpoint_every: 2}
evaluate: {every: 3, limit: 2, metrics: [psnr]}
"""


def tokenizer(quantizer: tokkit.Quantizer | None = None, *, name: str = "small") -> tokkit.Tokenizer:
    """An image tokenizer of stride 2 with random weights, the same every time."""
    torch.manual_seed(0)
    return tokkit.Tokenizer(
        modality="image",
        encoder=tokkit.build("encoder", "conv", **CONV),
        quantizer=quantizer or tokkit.build("quantizer", "fsq", levels=(8, 5, 5)),
        decoder=tokkit.build("decoder", "conv", **CONV),
        name=name,
    ).eval()


def pictures(count: int = 2, height: int = 12, width: int = 10) -> torch.Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(1))


def write_recipe(folder: Path, text: str = RECIPE) -> Path:
    path = folder / "small.yaml"
    path.write_text(text)
    return path
