"""UniWeTok's binary quantization, up to 2^128 codes and beyond."""

from __future__ import annotations

from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor

from tokkit.ops.binary_entropy import binary_entropy
from tokkit.quantizers.signs import SignQuantizer
from tokkit.registry import register


@register("quantizer", "binary")
class Binary(SignQuantizer):
    """Binary quantization of bounded latents, any number of bits a token (UniWeTok, https://arxiv.org/abs/2602.14178).

    SigLu bounds a latent, u = 2 sigmoid(x) - 1, and its sign is the bit. Without the bound the token entropy drives |x| to infinity while
    the commitment pulls it to 1; with it both are least at |u| = 1. The entropies factorise over bits, so nothing is 2^bits wide:
    loss = entropy_weight * (sum_i mean H2(p_i) - sum_i H2(mean p_i)) + commitment * mean (u - sg q)^2, p_i = sigmoid(4 u_i / temperature).
    The 128 bits of a token are 16 codes of 8 bits. With several `levels` u reaches 2 - 2^(1 - levels) and a channel's further bits are the
    signs of what is left of it, each at half the step of the last.
    """

    def __init__(
        self,
        *,
        bits: Annotated[int, Field(ge=1)] = 128,
        group_bits: Annotated[int, Field(ge=1, le=62)] = 8,
        levels: Annotated[int, Field(ge=1)] = 1,
        temperature: Annotated[float, Field(gt=0)] = 0.01,
        entropy_weight: Annotated[float, Field(ge=0)] = 0.1,
        commitment: Annotated[float, Field(ge=0)] = 0.25,
    ):
        """
        Args:
            bits: bits of a token; D = bits / levels.
            group_bits: bits of one code; the last code of a token holds what is left. Changes the codes, not the training.
            levels: bits of a channel, side by side in the codes.
            temperature: of the soft bits in the entropies.
            entropy_weight: of the entropy loss; 0 computes none.
            commitment: weight of the commitment loss.

        Raises:
            InputError: the levels do not divide the bits.
        """
        super().__init__(
            bits=bits, group_bits=group_bits, levels=levels, temperature=temperature, entropy_weight=entropy_weight, commitment=commitment
        )

    def bounded(self, latents: Tensor) -> Tensor:
        # 2 sigmoid(x) - 1 as it is written loses the sign of an x below 1e-7.
        return torch.tanh(latents / 2) * (2 - 2.0 ** (1 - self.levels))

    def entropies(self, values: Tensor) -> tuple[Tensor, Tensor]:
        return binary_entropy(values, self.temperature)

    @classmethod
    def example_options(cls) -> dict[str, Any]:
        return {"bits": 13, "group_bits": 4}
