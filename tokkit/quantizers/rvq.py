"""Residual vector quantization."""

from __future__ import annotations

from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from tokkit.errors import InputError
from tokkit.ops.residual_lookup import residual_lookup
from tokkit.quantizers.base import FloatLinear, Grid, Quantized, Quantizer, straight_through
from tokkit.quantizers.codebook import Codebook, Learning, Metric
from tokkit.registry import register


@register("quantizer", "rvq")
class RVQ(Quantizer):
    """Residual vector quantization: each level codes what the levels before it left (SoundStream, https://arxiv.org/abs/2107.03312).

    `lookup` takes any number of leading levels. `code_dim=8, metric="cosine"` gives each level its own maps to a small space and back, as
    DAC does (https://arxiv.org/abs/2306.06546). loss = sum over levels of commitment * mean (r - sg q)^2, plus mean (sg r - q)^2 where the
    codebooks learn by gradient; a level's residual r stops the gradient of the quantized values before it, so every level's commitment
    reaches the encoder, and the decoder's gradient passes straight through the sum once.
    """

    variable_levels = True

    def __init__(
        self,
        *,
        dim: Annotated[int, Field(ge=1)] = 128,
        levels: Annotated[int, Field(ge=1)] = 8,
        codebook_size: Annotated[int, Field(ge=1)] = 1024,
        code_dim: Annotated[int, Field(ge=1)] | None = None,
        metric: Metric = "euclidean",
        learning: Learning = "ema",
        shared: bool = False,
        dropout: Annotated[float, Field(ge=0, le=1)] = 0.0,
        decay: Annotated[float, Field(ge=0, lt=1)] = 0.99,
        commitment: Annotated[float, Field(ge=0)] = 0.25,
        dead_threshold: Annotated[float, Field(ge=0, lt=1)] = 0.1,
    ):
        """
        Args:
            dim: D, the size of a latent.
            levels: Q, the number of codes of a token.
            codebook_size: K of each level.
            code_dim: the size of a code vector; each level has linear maps from D to it and back. None: D itself, no maps.
            metric: "cosine" compares directions of unit vectors; it needs `code_dim`, whose maps give the codes their length.
            learning: of the codebooks, "ema" (moving averages, no loss) or "gradient" (codebook loss).
            shared: one codebook for all levels.
            dropout: the chance that a sample of a training batch keeps only its first n levels, n uniform in 1 to `levels`. Drawn for each
                sample, so it works at batch size 1. Dropped levels add no loss and do not move the averages.
            decay: of the moving averages of usage and, with "ema", of the codes.
            commitment: weight of the commitment loss.
            dead_threshold: a code used less than this fraction of uniform usage is replaced by a residual of the batch; 0 never replaces.

        Raises:
            InputError: the cosine metric without `code_dim`: residuals shrink from level to level, unit vectors cannot.
        """
        super().__init__()
        if metric == "cosine" and code_dim is None:
            raise InputError("rvq: metric=cosine needs code_dim, whose output maps give unit vectors the length of a residual")
        self.dim = dim
        self.levels = levels
        self.codebook_sizes = (codebook_size,) * levels
        self.shared = shared
        self.dropout = dropout
        self.commitment = commitment
        self.project_in = nn.ModuleList(FloatLinear(dim, code_dim) if code_dim else nn.Identity() for _ in range(levels))
        self.project_out = nn.ModuleList(FloatLinear(code_dim, dim) if code_dim else nn.Identity() for _ in range(levels))
        self.codebooks = nn.ModuleList(
            Codebook(size=codebook_size, dim=code_dim or dim, metric=metric, learning=learning, decay=decay, dead_threshold=dead_threshold)
            for _ in range(1 if shared else levels)
        )
        self._projects = code_dim is not None

    def forward(self, latents: Tensor, grid: Grid | None = None) -> Quantized:
        self.check_latents(latents)
        with torch.autocast(latents.device.type, enabled=False):
            values = latents.float()
            if not self.training:
                codes = self._encode(values)
                return Quantized(self.lookup(codes).to(latents.dtype), codes, values.new_zeros(()))
            quantized, codes, loss, terms = self._train_step(values)
        return Quantized(quantized.to(latents.dtype), codes, loss, terms)

    def lookup(self, codes: Tensor, grid: Grid | None = None) -> Tensor:
        """Latents of the leading levels: [B, N, k] int64, 1 <= k <= Q -> [B, N, D]."""
        self.check_codes(codes)
        total = self.project_out[0](self._codebook(0).rows(codes[..., 0]))
        for level in range(1, codes.shape[-1]):
            total = total + self.project_out[level](self._codebook(level).rows(codes[..., level]))
        return total

    def initialize(self, latents: Tensor) -> None:
        if not self.training or all(self._codebook(level).is_started for level in range(self.levels)):
            return
        with torch.no_grad():
            residual = latents.float()
            for level in range(self.levels):
                rows = self._level_input(level, residual)
                self._codebook(level).start(rows)
                residual = residual - self._level_output(level, self._codebook(level).nearest(rows))

    def _train_step(self, values: Tensor) -> tuple[Tensor, Tensor, Tensor, dict[str, Tensor]]:
        kept = self._draw_kept_levels(values)
        total = torch.zeros_like(values)  # what the levels so far give: gradient passes straight through each level's input
        output = torch.zeros_like(values)  # the same without the dropped levels
        commitment, codebook = values.new_zeros(()), values.new_zeros(())
        codes: list[Tensor] = []
        assigned: list[tuple[Tensor, Tensor]] = []
        for level in range(self.levels):
            book = self._codebook(level)
            rows = self._level_input(level, values - total.detach())
            if level == 0 or not self.shared:
                book.maintain(rows)
            codes.append(book.nearest(rows))
            nearest = book.rows(codes[-1])
            commitment = commitment + _mean_of_kept(rows - nearest.detach(), kept[:, level])
            if book.learning == "gradient":
                codebook = codebook + _mean_of_kept(rows.detach() - nearest, kept[:, level])
            assigned.append((rows, torch.where(kept[:, level, None], codes[-1], book.size)))
            # Without maps this adds `values - total` straight through, whose gradient is the identity at the first level and zero after it:
            # one straight-through of the sum. With maps it also trains them, and only what a level's maps let through is taken away.
            passed = straight_through(self._level_input(level, values - total) if self._projects or level == 0 else rows.detach(), nearest)
            contribution = self._spread(level, self.project_out[level](passed))
            total = total + contribution
            output = output + contribution * kept[:, level, None, None]
        for index in range(len(self.codebooks)):
            self._codebook(index).observe(assigned if self.shared else [assigned[index]])
        loss = self.commitment * commitment + codebook
        terms = {"commitment": commitment.detach()}
        if self._codebook(0).learning == "gradient":
            terms["codebook"] = codebook.detach()
        return output, self._join(codes), loss, terms

    def _encode(self, values: Tensor) -> Tensor:
        if not self._projects:
            codebooks = torch.stack([self._codebook(level).vectors for level in range(self.levels)])
            codes, _ = residual_lookup(values.detach().reshape(-1, self.dim), codebooks.detach())
            return codes.view(*values.shape[:-1], self.levels)
        codes_of_levels: list[Tensor] = []
        residual = values
        for level in range(self.levels):
            codes_of_levels.append(self._codebook(level).nearest(self._level_input(level, residual)))
            residual = residual - self._level_output(level, codes_of_levels[-1])
        return self._join(codes_of_levels)

    def _draw_kept_levels(self, values: Tensor) -> Tensor:
        """[B, Q] bool, the leading levels that each sample keeps."""
        batch, device = len(values), values.device
        drops = torch.rand(batch, device=device) < self.dropout
        keep = torch.where(drops, torch.randint(1, self.levels + 1, (batch,), device=device), self.levels)
        return torch.arange(self.levels, device=device) < keep.unsqueeze(-1)

    def _codebook(self, level: int) -> Codebook:
        book = self.codebooks[0 if self.shared else level]
        assert isinstance(book, Codebook)
        return book

    def _level_input(self, level: int, residual: Tensor) -> Tensor:
        rows = self.project_in[level](residual)
        return functional.normalize(rows, dim=-1) if self._codebook(level).metric == "cosine" else rows

    def _level_output(self, level: int, codes: Tensor) -> Tensor:
        return self._spread(level, self.project_out[level](self._codebook(level).rows(codes)))

    def _spread(self, level: int, latents: Tensor) -> Tensor:
        """What a level codes, at the rate of the latents: the same here."""
        return latents

    def _join(self, codes: list[Tensor]) -> Tensor:
        """Codes of the levels [B, N] to [B, N, Q]."""
        return torch.stack(codes, -1)

    @classmethod
    def example_options(cls) -> dict[str, Any]:
        return {"dim": 8, "levels": 3, "codebook_size": 16, "dropout": 0.5}


def _mean_of_kept(difference: Tensor, kept: Tensor) -> Tensor:
    """Mean of squares [B, N, d] over the samples that are kept [B]; 0 when there are none."""
    per_sample = difference.square().sum((1, 2)) / max(difference.shape[1] * difference.shape[2], 1)
    return (per_sample * kept).sum() / kept.sum().clamp(min=1)
