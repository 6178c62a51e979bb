"""Vector quantization."""

from __future__ import annotations

from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from tokkit.quantizers.base import FloatLinear, Grid, Quantized, Quantizer, rotate_to, squared_error, straight_through
from tokkit.quantizers.codebook import Codebook, Learning, Metric
from tokkit.registry import register


@register("quantizer", "vq")
class VQ(Quantizer):
    """Vector quantization: the nearest of K learned vectors (VQ-VAE, https://arxiv.org/abs/1711.00937).

    loss = commitment * mean (x - sg q)^2, plus mean (sg x - q)^2 where the codebook learns by gradient. `code_dim=8, metric="cosine"` is
    the factorised, l2-normalised form of ViT-VQGAN (https://arxiv.org/abs/2110.04627) that LlamaGen and TiTok use, with the loss in that
    space.
    """

    def __init__(
        self,
        *,
        dim: Annotated[int, Field(ge=1)] = 256,
        codebook_size: Annotated[int, Field(ge=1)] = 16384,
        code_dim: Annotated[int, Field(ge=1)] | None = None,
        metric: Metric = "euclidean",
        learning: Learning = "ema",
        decay: Annotated[float, Field(ge=0, lt=1)] = 0.99,
        commitment: Annotated[float, Field(ge=0)] = 0.25,
        kmeans_init: bool = True,
        dead_threshold: Annotated[float, Field(ge=0, lt=1)] = 0.1,
        rotation: bool = False,
    ):
        """
        Args:
            dim: D, the size of a latent.
            codebook_size: K.
            code_dim: the size of a code vector; linear maps lead from D to it and back. None: D itself, no maps.
            metric: "cosine" normalises latents and codes to unit vectors.
            learning: of the codebook, "ema" (moving averages, no loss) or "gradient" (codebook loss).
            decay: of the moving averages of usage and, with "ema", of the codes.
            commitment: weight of the commitment loss.
            kmeans_init: start from k-means on the first training batch of all ranks.
            dead_threshold: a code used less than this fraction of uniform usage is replaced by a latent of the batch; 0 never replaces.
            rotation: carry the gradient through the rotation that takes the latent to its code, in place of the identity.
        """
        super().__init__()
        self.dim = dim
        self.codebook_sizes = (codebook_size,)
        self.commitment = commitment
        self.rotation = rotation
        self.project_in = FloatLinear(dim, code_dim) if code_dim else nn.Identity()
        self.project_out = FloatLinear(code_dim, dim) if code_dim else nn.Identity()
        self.codebook = Codebook(
            size=codebook_size,
            dim=code_dim or dim,
            metric=metric,
            learning=learning,
            decay=decay,
            kmeans_init=kmeans_init,
            dead_threshold=dead_threshold,
        )

    def forward(self, latents: Tensor, grid: Grid | None = None) -> Quantized:
        self.check_latents(latents)
        with torch.autocast(latents.device.type, enabled=False):
            values = self._project(latents)
            if not self.training:
                codes = self.codebook.nearest(values).unsqueeze(-1)
                return Quantized(self.lookup(codes).to(latents.dtype), codes, values.new_zeros(()))
            self.codebook.maintain(values)
            codes = self.codebook.nearest(values)
            rows = self.codebook.rows(codes)
            terms = {"commitment": squared_error(values, rows.detach())}
            loss = self.commitment * terms["commitment"]
            if self.codebook.learning == "gradient":
                terms["codebook"] = squared_error(values.detach(), rows)
                loss = loss + terms["codebook"]
            self.codebook.observe([(values, codes)])
            passed = rotate_to(values, rows) if self.rotation else straight_through(values, rows)
            quantized = self.project_out(passed)
        return Quantized(quantized.to(latents.dtype), codes.unsqueeze(-1), loss, {name: term.detach() for name, term in terms.items()})

    def lookup(self, codes: Tensor, grid: Grid | None = None) -> Tensor:
        self.check_codes(codes)
        return self.project_out(self.codebook.rows(codes.squeeze(-1)))

    def initialize(self, latents: Tensor) -> None:
        if self.training:
            self.codebook.start(self._project(latents))

    def _project(self, latents: Tensor) -> Tensor:
        values = self.project_in(latents.float())
        return functional.normalize(values, dim=-1) if self.codebook.metric == "cosine" else values

    @classmethod
    def example_options(cls) -> dict[str, Any]:
        return {"dim": 8, "codebook_size": 16, "code_dim": 4, "metric": "cosine"}
