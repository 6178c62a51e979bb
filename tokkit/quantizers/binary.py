"""UniWeTok's binary quantization, up to 2^128 codes and beyond."""

from __future__ import annotations

from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor

from tokkit.ops.binary_entropy import binary_entropy
from tokkit.quantizers.base import Grid, Quantized, Quantizer, squared_error, straight_through
from tokkit.quantizers.bits import group_sizes, pack_bits, unpack_bits
from tokkit.registry import register


@register("quantizer", "binary")
class Binary(Quantizer):
    """Binary quantization of bounded latents, any number of bits a token (UniWeTok, https://arxiv.org/abs/2602.14178).

    SigLu bounds a latent, u = 2 sigmoid(x) - 1, and its sign is the bit. Without the bound the token entropy drives |x| to infinity while
    the commitment pulls it to 1; with it both are least at |u| = 1. The entropies factorise over bits, so nothing is 2^bits wide:
    loss = entropy_weight * (sum_i mean H2(p_i) - sum_i H2(mean p_i)) + commitment * mean (u - sg q)^2, p_i = sigmoid(4 u_i / temperature).
    The 128 bits of a token are 16 codes of 8 bits.
    """

    def __init__(
        self,
        *,
        bits: Annotated[int, Field(ge=1)] = 128,
        group_bits: Annotated[int, Field(ge=1, le=62)] = 8,
        temperature: Annotated[float, Field(gt=0)] = 0.01,
        entropy_weight: Annotated[float, Field(ge=0)] = 0.1,
        commitment: Annotated[float, Field(ge=0)] = 0.25,
    ):
        """
        Args:
            bits: bits of a token; D = bits.
            group_bits: bits of one code; the last code of a token holds what is left. Changes the codes, not the training.
            temperature: of the soft bits in the entropies.
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
            bounded = torch.sigmoid(latents.float()) * 2 - 1
            codes = pack_bits(latents > 0, self.group_bits)
            signs = self.lookup(codes)
            loss, terms = bounded.new_zeros(()), {}
            if self.training:
                terms["commitment"] = squared_error(bounded, signs)
                loss = self.commitment * terms["commitment"]
                if self.entropy_weight > 0:
                    sample, batch = binary_entropy(bounded.flatten(0, 1), self.temperature)
                    terms |= {"entropy_sample": sample, "entropy_batch": batch}
                    loss = loss + self.entropy_weight * (sample - batch)
            quantized = straight_through(bounded, signs)
        return Quantized(quantized.to(latents.dtype), codes, loss, {name: term.detach() for name, term in terms.items()})

    def lookup(self, codes: Tensor, grid: Grid | None = None) -> Tensor:
        self.check_codes(codes)
        return unpack_bits(codes, self.dim, self.group_bits).float() * 2 - 1

    @classmethod
    def example_options(cls) -> dict[str, Any]:
        return {"bits": 13, "group_bits": 4}
