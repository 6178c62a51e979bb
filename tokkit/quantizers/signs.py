"""What quantizers to signs share: the signs of the channels are the bits, and the loss is commitment and entropy."""

from __future__ import annotations

import torch
from torch import Tensor

from tokkit.quantizers.base import Grid, Quantized, Quantizer, squared_error, straight_through
from tokkit.quantizers.bits import group_sizes, pack_bits, unpack_bits


class SignQuantizer(Quantizer):
    """Base of quantizers to the corners of a cube. A subclass says where latents are bounded, how entropies are taken, and the corners.

    loss = commitment * `distance`(bounded, corners) + entropy_weight * (sample entropy - batch entropy), in training.
    """

    def __init__(self, *, bits: int, group_bits: int, temperature: float, entropy_weight: float, commitment: float):
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
            bounded = self.bounded(latents.float())
            codes = pack_bits(latents > 0, self.group_bits)
            corners = self.lookup(codes)
            loss, terms = bounded.new_zeros(()), {}
            if self.training:
                terms["commitment"] = self.distance(bounded, corners)
                loss = self.commitment * terms["commitment"]
                if self.entropy_weight > 0:
                    sample, batch = self.entropies(bounded.flatten(0, 1))
                    terms |= {"entropy_sample": sample, "entropy_batch": batch}
                    loss = loss + self.entropy_weight * (sample - batch)
            quantized = straight_through(bounded, corners)
        return Quantized(quantized.to(latents.dtype), codes, loss, {name: term.detach() for name, term in terms.items()})

    def lookup(self, codes: Tensor, grid: Grid | None = None) -> Tensor:
        self.check_codes(codes)
        return unpack_bits(codes, self.dim, self.group_bits).float() * 2 - 1

    def bounded(self, latents: Tensor) -> Tensor:
        """What the loss and the straight-through gradient see of fp32 latents [B, N, D]; their signs must stay."""
        return latents

    def distance(self, bounded: Tensor, corners: Tensor) -> Tensor:
        """The commitment term."""
        return squared_error(bounded, corners)

    def entropies(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """(sample, batch) entropy in nats of bounded latents [B * N, D]."""
        raise NotImplementedError
