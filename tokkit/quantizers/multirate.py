"""Residual vector quantization whose first levels are slower than its last."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from tokkit.errors import InputError
from tokkit.quantizers.base import Grid, Quantized
from tokkit.quantizers.codebook import Learning, Metric
from tokkit.quantizers.rvq import RVQ
from tokkit.registry import register


@register("quantizer", "multirate")
class MultiRate(RVQ):
    """SNAC's quantizer: a level of stride s codes the mean of s neighbouring residuals and repeats it s times (https://arxiv.org/abs/2410.14411).

    Levels have codebooks, and where `code_dim` is given maps, of their own; losses are those of `rvq`. A token stands for S = strides[0]
    latents and has S / s codes of each level, the slowest level first: strides (4, 2, 1) give 1 + 2 + 4. So any number of leading codes
    decodes (whole levels are 1, 3 and 7 here), and flattening gives the frames of codes that language models over SNAC are trained on. The
    last latent is repeated to fill up the last token, and `lookup` cuts to the grid.
    """

    def __init__(
        self,
        *,
        dim: Annotated[int, Field(ge=1)] = 128,
        strides: tuple[int, ...] = (8, 4, 2, 1),
        codebook_size: Annotated[int, Field(ge=1)] = 4096,
        code_dim: Annotated[int, Field(ge=1)] | None = None,
        metric: Metric = "euclidean",
        learning: Learning = "ema",
        dropout: Annotated[float, Field(ge=0, le=1)] = 0.0,
        decay: Annotated[float, Field(ge=0, lt=1)] = 0.99,
        commitment: Annotated[float, Field(ge=0)] = 0.25,
        dead_threshold: Annotated[float, Field(ge=0, lt=1)] = 0.1,
    ):
        """
        Args:
            dim: D, the size of a latent.
            strides: of the levels, each dividing the one before it.
            codebook_size: K of each level.
            code_dim, metric, learning, dropout, decay, commitment, dead_threshold: as of `rvq`; dropout drops whole levels.

        Raises:
            InputError: strides that do not divide each other, or the cosine metric without `code_dim`.
        """
        if not strides or min(strides) < 1 or any(slow % fast for slow, fast in pairwise(strides)):
            raise InputError(f"multirate: each stride must divide the one before it, as in (8, 4, 2, 1); got {strides}")
        super().__init__(
            dim=dim,
            levels=len(strides),
            codebook_size=codebook_size,
            code_dim=code_dim,
            metric=metric,
            learning=learning,
            dropout=dropout,
            decay=decay,
            commitment=commitment,
            dead_threshold=dead_threshold,
        )
        self.strides = tuple(strides)
        self.latents_per_token = strides[0]
        self.slots = tuple(strides[0] // stride for stride in strides)
        self.codebook_sizes = (codebook_size,) * sum(self.slots)
        # A mean is not the identity: what a level leaves depends on the latents even without maps.
        self._projects = True

    def forward(self, latents: Tensor, grid: Grid | None = None) -> Quantized:
        self.check_latents(latents)
        count = latents.shape[1]
        if grid is None and count % self.latents_per_token:
            raise InputError(f"multirate: without a grid the latents must be a multiple of {self.latents_per_token}, got {count}")
        if grid is not None and math.prod(grid) != count:
            raise InputError(f"multirate: a grid of {tuple(grid)} has {math.prod(grid)} latents, got {count}")
        missing = -count % self.latents_per_token
        filled = torch.cat([latents, latents[:, -1:].expand(-1, missing, -1)], 1) if missing else latents
        found = super().forward(filled, None)
        found.latents = found.latents[:, :count]
        return found

    def lookup(self, codes: Tensor, grid: Grid | None = None) -> Tensor:
        """Latents of the leading codes of each token: [B, M, k] int64 -> [B, N, D]; N is that of the grid, M * S without one."""
        self.check_codes(codes)
        count = codes.shape[1] * self.latents_per_token
        if grid is not None and self.num_codes(math.prod(grid)) != codes.shape[1]:
            raise InputError(
                f"multirate: a grid of {tuple(grid)} has {self.num_codes(math.prod(grid))} tokens, got codes {list(codes.shape)}"
            )
        parts = []
        for level, slots in enumerate(self.slots):
            own, codes = codes[..., :slots], codes[..., slots:]
            if not own.shape[-1]:
                break
            rows = self.project_out[level](self._codebook(level).rows(own))
            parts.append(self._spread(level, F.pad(rows, (0, 0, 0, slots - own.shape[-1])).flatten(1, 2)))
        total = parts[0]
        for part in parts[1:]:
            total = total + part
        return total[:, : math.prod(grid) if grid is not None else count]

    def num_codes(self, num_latents: int, grid: Grid | None = None) -> int:
        return -(-num_latents // self.latents_per_token)

    def _level_input(self, level: int, residual: Tensor) -> Tensor:
        stride = self.strides[level]
        return super()._level_input(level, residual.unflatten(1, (residual.shape[1] // stride, stride)).mean(2) if stride > 1 else residual)

    def _spread(self, level: int, latents: Tensor) -> Tensor:
        return latents.repeat_interleave(self.strides[level], 1)

    def _join(self, codes: list[Tensor]) -> Tensor:
        """Codes of the levels [B, N / stride] to [B, M, Q]."""
        tokens = codes[0].shape[1]
        return torch.cat([level.unflatten(1, (tokens, slots)) for level, slots in zip(codes, self.slots, strict=True)], -1)

    @classmethod
    def example_options(cls) -> dict[str, Any]:
        return {"dim": 8, "strides": (4, 2, 1), "codebook_size": 16, "dropout": 0.5}

    @classmethod
    def example_grid(cls) -> Grid | None:
        return (7,)
