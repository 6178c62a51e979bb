"""Binary spherical quantization."""

from __future__ import annotations

import math
from typing import Annotated, Any

from pydantic import Field
from torch import Tensor
from torch.nn import functional

from tokkit.ops.binary_entropy import binary_entropy
from tokkit.quantizers.base import Grid
from tokkit.quantizers.signs import SignQuantizer
from tokkit.registry import register


@register("quantizer", "bsq")
class BSQ(SignQuantizer):
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
        super().__init__(bits=bits, group_bits=group_bits, temperature=temperature, entropy_weight=entropy_weight, commitment=commitment)

    def lookup(self, codes: Tensor, grid: Grid | None = None) -> Tensor:
        return super().lookup(codes, grid) / math.sqrt(self.dim)

    def bounded(self, latents: Tensor) -> Tensor:
        return functional.normalize(latents, dim=-1)

    def distance(self, bounded: Tensor, corners: Tensor) -> Tensor:
        return super().distance(bounded, corners) * self.dim

    def entropies(self, values: Tensor) -> tuple[Tensor, Tensor]:
        return binary_entropy(values / math.sqrt(self.dim), self.temperature)

    @classmethod
    def example_options(cls) -> dict[str, Any]:
        return {"bits": 12, "group_bits": 5}
