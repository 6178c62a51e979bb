"""Finite scalar quantization."""

from __future__ import annotations

import math
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor

from tokkit.errors import InputError
from tokkit.quantizers.base import Grid, Quantized, Quantizer, straight_through
from tokkit.registry import register


@register("quantizer", "fsq")
class FSQ(Quantizer):
    """Finite scalar quantization: each channel is bounded and rounded to a few levels (https://arxiv.org/abs/2309.15505).

    The code of a token is `sum_i digit_i * prod(levels[:i])`, the first channel the least significant. No loss is needed and the whole
    codebook is reachable by construction. With several groups of channels a token has a code for each, so it may have any number of bits.
    """

    def __init__(
        self,
        *,
        levels: tuple[int, ...] = (8, 8, 8, 5, 5, 5),
        groups: Annotated[int, Field(ge=1)] = 1,
        gain: Annotated[float, Field(gt=0)] = 1.0,
    ):
        """
        Args:
            levels: the number of levels of each channel of a group; K = prod(levels). The default is FlexTok's and Cosmos' 64,000.
            groups: how many, Q; D = groups * len(levels).
            gain: what latents are multiplied with before they are bounded. Behind a fresh linear map their standard deviation is about 0.6,
                which leaves the outer levels unused at the start; 2 reaches all of them.

        Raises:
            InputError: a channel has fewer than 2 levels, or K does not fit an int64.
        """
        super().__init__()
        if not levels or min(levels) < 2:
            raise InputError(f"fsq levels must all be >= 2, got {list(levels)}")
        if math.prod(levels) >= 2**63:
            raise InputError(f"fsq levels {list(levels)} make a codebook of {math.prod(levels)}, beyond an int64 code; use fewer levels")
        self.levels = tuple(levels)
        self.groups = groups
        self.gain = gain
        self.dim = groups * len(levels)
        self.codebook_sizes = (math.prod(levels),) * groups
        sizes = torch.tensor(levels)
        self._sizes: Tensor
        self._basis: Tensor
        self.register_buffer("_sizes", sizes, persistent=False)
        self.register_buffer("_basis", torch.cumprod(torch.tensor([1, *levels[:-1]]), 0), persistent=False)

    def forward(self, latents: Tensor, grid: Grid | None = None) -> Quantized:
        self.check_latents(latents)
        with torch.autocast(latents.device.type, enabled=False):
            bounded = self._bound(self.gain * latents.float().unflatten(-1, (self.groups, -1)))
            digits = bounded.detach().round()
            half = self._sizes // 2
            quantized = (straight_through(bounded, digits) / half).flatten(-2)
            codes = ((digits.long() + half) * self._basis).sum(-1)
        return Quantized(quantized.to(latents.dtype), codes, quantized.new_zeros(()))

    def lookup(self, codes: Tensor, grid: Grid | None = None) -> Tensor:
        self.check_codes(codes)
        half = self._sizes // 2
        digits = codes.unsqueeze(-1) // self._basis % self._sizes - half
        return (digits / half).flatten(-2)

    def _bound(self, latents: Tensor) -> Tensor:
        """Into the open interval whose rounding has exactly `levels` values: shifted by half a step where that number is even."""
        half_range = (self._sizes - 1) * (1 + 1e-3) / 2
        offset = torch.where(self._sizes % 2 == 0, 0.5, 0.0)
        shift = torch.atanh(offset / half_range)
        return torch.tanh(latents + shift) * half_range - offset

    @classmethod
    def example_options(cls) -> dict[str, Any]:
        return {"levels": (8, 5, 5)}
