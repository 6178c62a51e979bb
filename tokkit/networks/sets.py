"""What the networks on sets of points and tokens share: Fourier features of places, and attention blocks without positions."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tokkit.networks.transformer import Shape


class Fourier(nn.Module):
    """A place as itself and its sines and cosines at octaves from pi on: [..., 3] -> [..., 3 + 6 * frequencies], in fp32."""

    bands: Tensor

    def __init__(self, frequencies: int):
        super().__init__()
        self.width = 3 + 6 * frequencies
        self.register_buffer("bands", math.pi * 2.0 ** torch.arange(frequencies), persistent=False)

    def forward(self, places: Tensor) -> Tensor:
        angles = (places.float().unsqueeze(-1) * self.bands).flatten(-2)
        return torch.cat([places.float(), angles.sin(), angles.cos()], -1)


class Attend(nn.Module):
    """Multi-head attention of queries [B, N, width] to a context [B, M, context], torch's fused kernel."""

    def __init__(self, width: int, context: int, heads: int):
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(context, 2 * width)
        self.out = nn.Linear(width, width)

    def forward(self, queries: Tensor, context: Tensor) -> Tensor:
        q = self.query(queries).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        k, v = self.key_value(context).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class CrossBlock(nn.Module):
    """Pre-norm attention to a context, then a perceptron, each around a shortcut."""

    def __init__(self, width: int, context: int, heads: int):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.norm_context = nn.LayerNorm(context)
        self.attend = Attend(width, context, heads)
        self.mlp = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, tokens: Tensor, context: Tensor) -> Tensor:
        tokens = tokens + self.attend(self.norm(tokens), self.norm_context(context))
        return tokens + self.mlp(tokens)


class SelfBlocks(nn.Module):
    """Pre-norm transformer over a set [B, N, width], without positions. Ends with a norm."""

    def __init__(self, shape: Shape):
        super().__init__()
        self.blocks = nn.ModuleList(_SelfBlock(shape.width, shape.heads) for _ in range(shape.depth))
        self.norm = nn.LayerNorm(shape.width)

    def forward(self, tokens: Tensor) -> Tensor:
        for block in self.blocks:
            tokens = block(tokens)
        return self.norm(tokens)


class _SelfBlock(nn.Module):
    def __init__(self, width: int, heads: int):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.attend = Attend(width, width, heads)
        self.mlp = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, tokens: Tensor) -> Tensor:
        normed = self.norm(tokens)
        tokens = tokens + self.attend(normed, normed)
        return tokens + self.mlp(tokens)
