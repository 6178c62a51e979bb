"""What every quantizer is. Knows latents and codes, never pictures or sound."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from tokkit.errors import InputError

Grid = tuple[int, ...]


@dataclass
class Quantized:
    """What a quantizer makes of latents.

    Attributes:
        latents: [B, N, D] in the dtype of the input, what the decoder receives; gradient reaches the input through it (straight-through).
        codes: [B, N, Q] int64, each below its `codebook_sizes[q]`.
        loss: scalar fp32, the weighted sum that training adds (codebook, commitment, entropy ...); 0 in eval mode, which computes none.
        terms: the un-weighted parts of `loss` and other scalars worth logging, detached; empty in eval mode.
        kept: [B], the share of its tokens that nested dropout left of each sample; None: all.
        semantic: [B, N, F], what the loss `distill` compares to a teacher's features, in training of a quantizer that has such a part.
    """

    latents: Tensor
    codes: Tensor
    loss: Tensor
    terms: dict[str, Tensor] = field(default_factory=dict)
    kept: Tensor | None = None
    semantic: Tensor | None = None


class Quantizer(nn.Module):
    """Base of quantizers.

    A subclass sets `dim` and `codebook_sizes` in its constructor and defines `forward` and `lookup`. In eval mode
    `lookup(forward(x).codes)` equals `forward(x).latents`, bit for bit in fp32. The arithmetic is fp32 whatever the input and autocast.

    Attributes:
        dim: D, the size of a latent.
        codebook_sizes: the size of each of the Q codebooks of a token.
        variable_length: whether `lookup` accepts leading tokens only (an ordered code).
        latents_per_token: neighbours along one axis that share a token; 1 unless tokens are slower than latents.
        variable_levels: whether `lookup` accepts leading codebooks only, codes[..., :k] (a residual code).
        progress: the share of the training that is over, for what is not the same all the time; 1 unless whoever trains sets it.
    """

    kind: ClassVar[str] = "quantizer"
    dim: int
    codebook_sizes: tuple[int, ...]
    latents_per_token: int = 1
    variable_length: bool = False
    variable_levels: bool = False
    progress: float = 1.0

    def forward(self, latents: Tensor, grid: Grid | None = None) -> Quantized:
        """Quantize.

        Args:
            latents: [B, N, D] floating point.
            grid: the arrangement of the N latents, (H, W) say, for the quantizers that need it.

        Raises:
            InputError: the latents have another shape (`check_latents`).
        """
        raise NotImplementedError

    def lookup(self, codes: Tensor, grid: Grid | None = None) -> Tensor:
        """Latents of codes: [B, N, Q] int64 -> [B, N, D].

        Raises:
            InputError: the codes have another Q (`check_codes`).
        """
        raise NotImplementedError

    def initialize(self, latents: Tensor) -> None:
        """Start codebooks from a first batch of latents [B, N, D]; a wrapper calls it before it feeds parts or residuals of them."""

    def num_codes(self, num_latents: int, grid: Grid | None = None) -> int:
        """How many tokens stand for that many latents: as many, unless the quantizer says otherwise."""
        return num_latents

    def prefix_lengths(self, num_latents: int, grid: Grid | None = None) -> tuple[int, ...]:
        """The numbers of leading tokens that `lookup` accepts, ascending: any where the length is variable, else all."""
        most = self.num_codes(num_latents, grid)
        return tuple(range(1, most + 1)) if self.variable_length else (most,)

    @property
    def bits_per_token(self) -> int:
        """Payload bits of one token: the sum of ceil(log2 K) over its codebooks."""
        return sum(math.ceil(math.log2(size)) if size > 1 else 0 for size in self.codebook_sizes)

    def check_latents(self, latents: Tensor) -> None:
        """Refuse latents of another shape or of whole numbers."""
        if latents.ndim != 3 or latents.shape[-1] != self.dim:
            raise InputError(f"{type(self).__name__}: latents must be [B, N, {self.dim}], got {list(latents.shape)}")
        if not latents.is_floating_point():
            raise InputError(f"{type(self).__name__}: latents must be floating point, got {latents.dtype}")

    def check_codes(self, codes: Tensor) -> None:
        """Refuse codes of another shape or type."""
        most = len(self.codebook_sizes)
        fewer = codes.ndim == 3 and self.variable_levels and 1 <= codes.shape[-1] <= most
        if codes.ndim != 3 or (codes.shape[-1] != most and not fewer):
            expected = f"1 to {most}" if self.variable_levels else str(most)
            raise InputError(f"{type(self).__name__}: codes must be [B, N, {expected}], got {list(codes.shape)}")
        if codes.dtype != torch.int64:
            raise InputError(f"{type(self).__name__}: codes must be int64, got {codes.dtype}")

    @classmethod
    def example_options(cls) -> dict[str, Any]:
        """Small options that a contract test builds this quantizer with."""
        return {"dim": 8}

    @classmethod
    def example_grid(cls) -> Grid | None:
        """A grid that the example options can work on; None where any N is fine."""
        return None


class FloatLinear(nn.Linear):
    """A linear map computed in fp32, whatever autocast or the dtype of the module says."""

    def forward(self, input: Tensor) -> Tensor:
        with torch.autocast(input.device.type, enabled=False):
            return functional.linear(input.float(), self.weight.float(), None if self.bias is None else self.bias.float())


def straight_through(latents: Tensor, quantized: Tensor) -> Tensor:
    """`quantized` forward (exactly: the term added is zero), the identity to `latents` backward (https://arxiv.org/abs/1308.3432)."""
    return quantized.detach() + (latents - latents.detach())


def rotate_to(values: Tensor, rows: Tensor) -> Tensor:
    """`rows` forward; backward the gradient is turned and scaled as the latent is to reach its code (https://arxiv.org/abs/2410.06424).

    With unit vectors u = x/|x|, v = q/|q|, w = (u+v)/|u+v|, the map is |q|/|x| (I - 2 w w' + 2 v u'), held constant.
    """
    with torch.no_grad():
        norms = values.norm(dim=-1, keepdim=True), rows.norm(dim=-1, keepdim=True)
        scale = norms[1] / norms[0].clamp(min=1e-6)
        start = values / norms[0].clamp(min=1e-6)
        end = rows / norms[1].clamp(min=1e-6)
        middle = functional.normalize(start + end, dim=-1)
    along_middle = (values * middle).sum(-1, keepdim=True) * middle
    along_start = (values * start).sum(-1, keepdim=True) * end
    turned = scale * (values - 2 * along_middle + 2 * along_start)
    return rows.detach() + (turned - turned.detach())


def squared_error(a: Tensor, b: Tensor) -> Tensor:
    """Mean of (a - b)^2 over everything; 0, not NaN, when there is nothing."""
    return (a - b).square().sum() / max(a.numel(), 1)
