"""What every quantizer is. Knows latents and codes, never pictures or sound."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from tokkit.errors import InputError

Grid = tuple[int, ...]


@dataclass
class Quantized:
    """What a quantizer makes of latents.

    Attributes:
        latents: [B, N, D], what the decoder receives; gradient reaches the input through it (straight-through).
        codes: [B, N, Q] int64, each below its `codebook_sizes[q]`.
        loss: scalar, the weighted sum that training adds (codebook, commitment, entropy ...); 0 where there is none.
        terms: the un-weighted parts of `loss` and other scalars worth logging, detached.
    """

    latents: Tensor
    codes: Tensor
    loss: Tensor
    terms: dict[str, Tensor] = field(default_factory=dict)


class Quantizer(nn.Module):
    """Base of quantizers.

    A subclass sets `dim` and `codebook_sizes` in its constructor and defines `forward` and `lookup`. In eval mode
    `lookup(forward(x).codes)` equals `forward(x).latents`.

    Attributes:
        dim: D, the size of a latent.
        codebook_sizes: the size of each of the Q codebooks of a token.
        variable_length: whether `lookup` accepts any number of leading tokens (an ordered code).
        variable_levels: whether `lookup` accepts any number of leading codebooks of each token (a residual code).
    """

    kind: ClassVar[str] = "quantizer"
    dim: int
    codebook_sizes: tuple[int, ...]
    variable_length: ClassVar[bool] = False
    variable_levels: ClassVar[bool] = False

    def forward(self, latents: Tensor, grid: Grid | None = None) -> Quantized:
        """Quantize.

        Args:
            latents: [B, N, D] floating point.
            grid: the arrangement of the N latents, (H, W) say, for the quantizers that need it.
        """
        raise NotImplementedError

    def lookup(self, codes: Tensor, grid: Grid | None = None) -> Tensor:
        """Latents of codes: [B, N, Q] int64 -> [B, N, D].

        Raises:
            InputError: the codes have another Q (`check_codes`).
        """
        raise NotImplementedError

    @property
    def bits_per_token(self) -> int:
        """Payload bits of one token: the sum of ceil(log2 K) over its codebooks."""
        return sum(math.ceil(math.log2(size)) if size > 1 else 0 for size in self.codebook_sizes)

    def check_codes(self, codes: Tensor) -> None:
        """Refuse codes of another shape or out of range."""
        if codes.ndim != 3 or codes.shape[-1] != len(self.codebook_sizes):
            raise InputError(f"codes must be [B, N, {len(self.codebook_sizes)}], got {list(codes.shape)}")
        if codes.dtype != torch.int64:
            raise InputError(f"codes must be int64, got {codes.dtype}")

    @classmethod
    def example_options(cls) -> dict[str, Any]:
        """Small options that a contract test builds this quantizer with."""
        return {"dim": 8}


def straight_through(latents: Tensor, quantized: Tensor) -> Tensor:
    """`quantized` forward, the identity to `latents` backward (https://arxiv.org/abs/1308.3432)."""
    return latents + (quantized - latents).detach()
