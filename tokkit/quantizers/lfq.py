"""Lookup-free quantization, whole (MAGVIT-v2) or in groups (WeTok)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from tokkit.errors import InputError
from tokkit.ops.binary_entropy import group_entropy
from tokkit.quantizers.base import Grid, Quantized, Quantizer, squared_error, straight_through
from tokkit.quantizers.bits import group_sizes, pack_bits, unpack_bits
from tokkit.registry import register

LARGEST_HISTOGRAM = 20
"""Bits of the largest group whose batch entropy, a histogram of 2^bits, is worth its memory."""


@register("quantizer", "lfq")
class LFQ(Quantizer):
    """Lookup-free quantization: the sign of each channel is a bit (https://arxiv.org/abs/2310.05737).

    q = +1 where x > 0, else -1. With `groups` it is WeTok's group-wise form (https://arxiv.org/abs/2508.05599): one code a group and the
    entropy over groups. loss = entropy_weight * (sample - batch) + commitment * mean (x - sg q)^2, the entropies in nats of
    softmax(2 x.c / temperature) over the codes c of a group: confident tokens, all codes in use. The sample entropy is the exact
    factorised sum over bits, never 2^bits wide.
    """

    def __init__(
        self,
        *,
        bits: Annotated[int, Field(ge=1)] = 18,
        groups: Annotated[int, Field(ge=1)] = 1,
        temperature: Annotated[float, Field(gt=0)] = 0.01,
        entropy_weight: Annotated[float, Field(ge=0)] = 0.1,
        entropy_pool: Literal["shared", "per_group"] = "shared",
        commitment: Annotated[float, Field(ge=0)] = 0.25,
    ):
        """
        Args:
            bits: bits of a token; D = bits.
            groups: codes of a token, Q; K = 2^(bits / groups) each. WeTok has 8 bits a group.
            temperature: of the soft assignment in the entropies.
            entropy_weight: of the entropy loss; 0 computes none.
            entropy_pool: the batch entropy's histogram: one over all groups, as WeTok's released code has it, or one for each group,
                as BSQ has it.
            commitment: weight of the commitment loss.

        Raises:
            InputError: the groups do not divide the bits, or a group is too large for the histogram of its codes.
        """
        super().__init__()
        if bits % groups:
            raise InputError(f"lfq: {groups} groups do not divide {bits} bits")
        if entropy_weight > 0 and bits // groups > LARGEST_HISTOGRAM:
            raise InputError(
                f"lfq: the batch entropy of {bits // groups} bits a group needs a histogram of 2^{bits // groups}; use more groups (at "
                f"most {LARGEST_HISTOGRAM} bits each), entropy_weight=0, or the quantizer `binary`, whose entropy is over single bits"
            )
        self.dim = bits
        self.group_bits = bits // groups
        self.codebook_sizes = group_sizes(bits, self.group_bits)
        self.temperature = temperature
        self.entropy_weight = entropy_weight
        self.entropy_pool: Literal["shared", "per_group"] = entropy_pool
        self.commitment = commitment

    def forward(self, latents: Tensor, grid: Grid | None = None) -> Quantized:
        self.check_latents(latents)
        with torch.autocast(latents.device.type, enabled=False):
            values = latents.float()
            codes = pack_bits(values > 0, self.group_bits)
            signs = self.lookup(codes)
            loss, terms = values.new_zeros(()), {}
            if self.training:
                terms["commitment"] = squared_error(values, signs)
                loss = self.commitment * terms["commitment"]
                if self.entropy_weight > 0:
                    sample, batch = group_entropy(values.flatten(0, 1), self.group_bits, self.temperature, self.entropy_pool)
                    terms |= {"entropy_sample": sample, "entropy_batch": batch}
                    loss = loss + self.entropy_weight * (sample - batch)
            quantized = straight_through(values, signs)
        return Quantized(quantized.to(latents.dtype), codes, loss, {name: term.detach() for name, term in terms.items()})

    def lookup(self, codes: Tensor, grid: Grid | None = None) -> Tensor:
        self.check_codes(codes)
        return unpack_bits(codes, self.dim, self.group_bits).float() * 2 - 1

    @classmethod
    def example_options(cls) -> dict[str, Any]:
        return {"bits": 12, "groups": 3}
