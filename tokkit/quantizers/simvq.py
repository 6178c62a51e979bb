"""SimVQ: a frozen codebook behind one learned linear map."""

from __future__ import annotations

import math
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from tokkit.ops.codebook_lookup import codebook_lookup
from tokkit.quantizers.base import FloatLinear, Grid, Quantized, Quantizer, rotate_to, squared_error, straight_through
from tokkit.registry import register


@register("quantizer", "simvq")
class SimVQ(Quantizer):
    """The codebook is a linear map of frozen random vectors, so one gradient moves every code (https://arxiv.org/abs/2411.02038).

    Codes are W e_k with e_k ~ N(0, 1/D) never trained; loss = mean (sg x - q)^2 + commitment * mean (x - sg q)^2.
    """

    def __init__(
        self,
        *,
        dim: Annotated[int, Field(ge=1)] = 256,
        codebook_size: Annotated[int, Field(ge=1)] = 16384,
        commitment: Annotated[float, Field(ge=0)] = 0.25,
        rotation: bool = True,
    ):
        """
        Args:
            dim: D, the size of a latent and of a code vector.
            codebook_size: K.
            commitment: weight of the commitment loss.
            rotation: carry the gradient through the rotation that takes the latent to its code, in place of the identity.
        """
        super().__init__()
        self.dim = dim
        self.codebook_sizes = (codebook_size,)
        self.commitment = commitment
        self.rotation = rotation
        self.map = FloatLinear(dim, dim, bias=False)
        self.register_buffer("basis", torch.randn(codebook_size, dim) / math.sqrt(dim))
        self.basis: Tensor

    def forward(self, latents: Tensor, grid: Grid | None = None) -> Quantized:
        self.check_latents(latents)
        with torch.autocast(latents.device.type, enabled=False):
            values = latents.float()
            found = codebook_lookup(values.detach().reshape(-1, self.dim), self.map(self.basis).detach())
            codes = found.view(*values.shape[:-1], 1)
            rows = self.lookup(codes)
            if not self.training:
                return Quantized(rows.to(latents.dtype), codes, values.new_zeros(()))
            terms = {"commitment": squared_error(values, rows.detach()), "codebook": squared_error(values.detach(), rows)}
            loss = terms["codebook"] + self.commitment * terms["commitment"]
            passed = rotate_to(values, rows) if self.rotation else straight_through(values, rows)
        return Quantized(passed.to(latents.dtype), codes, loss, {name: term.detach() for name, term in terms.items()})

    def lookup(self, codes: Tensor, grid: Grid | None = None) -> Tensor:
        self.check_codes(codes)
        return self.map(functional.embedding(codes.squeeze(-1), self.basis))

    @classmethod
    def example_options(cls) -> dict[str, Any]:
        return {"dim": 8, "codebook_size": 16}
