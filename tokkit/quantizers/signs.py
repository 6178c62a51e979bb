"""What quantizers to signs share: the signs of the channels are the bits, and the loss is commitment and entropy."""

from __future__ import annotations

import torch
from torch import Tensor

from tokkit.errors import InputError
from tokkit.quantizers.base import Grid, Quantized, Quantizer, squared_error, straight_through
from tokkit.quantizers.bits import group_sizes, pack_bits, unpack_bits


class SignQuantizer(Quantizer):
    """Base of quantizers to the corners of a cube. A subclass says where latents are bounded, how entropies are taken, and the corners.

    With several levels a channel has as many signs: each is the sign of what those before it left, and counts half as much. The corners are
    then 2^levels equally spaced values a channel.

    loss = commitment * `distance`(bounded, corners) + entropy_weight * (sample entropy - batch entropy), in training.
    """

    def __init__(self, *, bits: int, group_bits: int, temperature: float, entropy_weight: float, commitment: float, levels: int = 1):
        super().__init__()
        if bits % levels:
            raise InputError(f"{levels} levels do not divide {bits} bits; every channel has a bit a level")
        self.bits = bits
        self.dim = bits // levels
        self.group_bits = group_bits
        self.codebook_sizes = group_sizes(bits, group_bits)
        self.temperature = temperature
        self.entropy_weight = entropy_weight
        self.commitment = commitment
        self.levels = levels
        self._steps: Tensor
        self.register_buffer("_steps", 0.5 ** torch.arange(levels), persistent=False)

    def forward(self, latents: Tensor, grid: Grid | None = None) -> Quantized:
        self.check_latents(latents)
        with torch.autocast(latents.device.type, enabled=False):
            bounded = self.bounded(latents.float())
            left = self.residuals(bounded)
            codes = pack_bits(left.flatten(-2) > 0, self.group_bits)
            corners = self.lookup(codes)
            loss, terms = bounded.new_zeros(()), {}
            if self.training:
                terms["commitment"] = self.distance(bounded, corners)
                loss = self.commitment * terms["commitment"]
                if self.entropy_weight > 0:
                    sample, batch = self.entropies(left.flatten(-2).flatten(0, 1))
                    terms |= {"entropy_sample": sample, "entropy_batch": batch}
                    loss = loss + self.entropy_weight * (sample - batch)
            quantized = straight_through(bounded, corners)
        return Quantized(quantized.to(latents.dtype), codes, loss, {name: term.detach() for name, term in terms.items()})

    def residuals(self, bounded: Tensor) -> Tensor:
        """What each level takes the sign of, in units of its step: [..., D] -> [..., D, levels]."""
        left = [bounded]
        for _ in range(self.levels - 1):
            left.append(2 * (left[-1] - torch.where(left[-1] > 0, 1.0, -1.0)))
        return torch.stack(left, -1)

    def lookup(self, codes: Tensor, grid: Grid | None = None) -> Tensor:
        self.check_codes(codes)
        signs = (unpack_bits(codes, self.bits, self.group_bits).float() * 2 - 1).unflatten(-1, (self.dim, -1))
        return (signs * self._steps).sum(-1)

    def bounded(self, latents: Tensor) -> Tensor:
        """What the loss and the straight-through gradient see of fp32 latents [B, N, D]; their signs must stay."""
        return latents

    def distance(self, bounded: Tensor, corners: Tensor) -> Tensor:
        """The commitment term."""
        return squared_error(bounded, corners)

    def entropies(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """(sample, batch) entropy in nats of what the bits are the signs of, [B * N, bits]."""
        raise NotImplementedError
