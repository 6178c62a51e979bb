"""Binary spherical quantization."""

from __future__ import annotations

import math
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from tokkit.ops.binary_entropy import binary_entropy
from tokkit.quantizers.base import Grid, Quantized, Quantizer, squared_error, straight_through
from tokkit.quantizers.bits import group_sizes, pack_bits, unpack_bits
from tokkit.registry import register


@register("quantizer", "bsq")
class BSQ(Quantizer):
    """Binary spherical quantization: the signs of a latent on the unit sphere (https://arxiv.org/abs/2406.07548).

    u = x / |x|, q = sign(u) / sqrt(bits), so u and q lie on one sphere and the error of a token is bounded. The soft assignment over the
    corners factorises into bits p_i = sigmoid(4 u_i / (sqrt(bits) temperature)):
    loss = entropy_weight * (sum_i mean H2(p_i) - sum_i H2(mean p_i)) + commitment * mean |u - sg q|^2, the last a sum over the channels.
    """

    def __init__(
        self,
        *,
        bits: Annotated[int, Field(ge=1)] = 18,
        group_bits: Annotated[int, Field(ge=1, le=62)] = 8,
        temperature: Annotated[float, Field(gt=0)] = 0.01,
        entropy_weight: Annotated[float, Field(ge=0)] = 0.1,
        commitment: Annotated[float, Field(ge=0)] = 0.25,
    ):
        """
        Args:
            bits: bits of a token; D = bits.
            group_bits: bits of one code; the last code of a token holds what is left. Changes the codes, not the training.
            temperature: of the soft assignment (the inverse of the authors' `inv_temperature`).
            entropy_weight: of the entropy loss; 0 computes none.
            commitment: weight of the commitment loss.
        """
        super().__init__()
        self.dim = bits
        self.group_bits = group_bits
        self.codebook_sizes = group_sizes(bits, group_bits)
        self.temperature = temperature
        self.entropy_weight = entropy_weight
        self.commitment = commitment

    def forward(self, latents: Tensor, grid: Grid | None = None) -> Quantized:
        self.check_latents(latents)
        with torch.autocast(latents.device.type, enabled=False):
            unit = functional.normalize(latents.float(), dim=-1)
            codes = pack_bits(latents > 0, self.group_bits)
            corners = self.lookup(codes)
            loss, terms = unit.new_zeros(()), {}
            if self.training:
                terms["commitment"] = squared_error(unit, corners) * self.dim
                loss = self.commitment * terms["commitment"]
                if self.entropy_weight > 0:
                    sample, batch = binary_entropy(unit.flatten(0, 1) / math.sqrt(self.dim), self.temperature)
                    terms |= {"entropy_sample": sample, "entropy_batch": batch}
                    loss = loss + self.entropy_weight * (sample - batch)
            quantized = straight_through(unit, corners)
        return Quantized(quantized.to(latents.dtype), codes, loss, {name: term.detach() for name, term in terms.items()})

    def lookup(self, codes: Tensor, grid: Grid | None = None) -> Tensor:
        self.check_codes(codes)
        return (unpack_bits(codes, self.dim, self.group_bits).float() * 2 - 1) / math.sqrt(self.dim)

    @classmethod
    def example_options(cls) -> dict[str, Any]:
        return {"bits": 12, "group_bits": 5}
