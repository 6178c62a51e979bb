"""Residual quantization over scales, coarse to fine, around any quantizer."""

from __future__ import annotations

import math
from itertools import accumulate
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from tokkit.errors import InputError
from tokkit.quantizers.base import Grid, Quantized, Quantizer, squared_error, straight_through
from tokkit.quantizers.fsq import FSQ
from tokkit.registry import register

SMOOTH = {1: "linear", 2: "bicubic", 3: "trilinear"}
CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}


@register("quantizer", "multiscale")
class MultiScale(Quantizer):
    """VAR's multi-scale residual quantization: a few tokens for the whole, more for what is left (https://arxiv.org/abs/2404.02905).

    For each scale: shrink the rest to it by area averages, quantize, enlarge, blend with a 3-wide convolution
    phi(h) = 0.5 h + 0.5 conv(h), add to the sum and take away from the rest. The tokens of all scales stand one after the other, and
    `lookup` takes those of any number of leading scales. With `rank=1` it works along time, or along the order of a set of tokens
    (VAT's growing token counts, https://arxiv.org/abs/2412.02202); `upsample="repeat"` is SNAC's (https://arxiv.org/abs/2410.14411).

    loss = mean over scales of the inner quantizer's loss + mean (sum_s - x)^2 + commitment * mean (sg sum_s - x)^2, sum_s the sum up to
    scale s. The decoder's gradient passes straight through to x; phi and the inner quantizer's maps learn from the middle term, whose
    gradient goes through the scales as the values do. (VAR's inner codebook learns from it too; here the inner quantizer sees to that.)
    """

    variable_length = True

    def __init__(
        self,
        *,
        quantizer: Quantizer,
        scales: tuple[int, ...] = (1, 2, 3, 4, 5, 6, 8, 10, 13, 16),
        rank: Literal[1, 2, 3] = 2,
        num_latents: Annotated[int, Field(ge=1)] | None = None,
        phi: Annotated[int, Field(ge=0)] = 4,
        upsample: Literal["smooth", "repeat"] = "smooth",
        commitment: Annotated[float, Field(ge=0)] = 0.25,
    ):
        """
        Args:
            quantizer: what codes the tokens of every scale.
            scales: increasing. A scale s takes g * s / scales[-1] tokens (rounded, at least 1) along an axis of g latents: on a square grid
                of side scales[-1], s x s of them.
            rank: the number of axes of the grid.
            num_latents: with rank 1, the number of latents where the grid is not (T,): sets, and 1D tokenizers, whose grid is of pixels.
            phi: the number of convolutions that the scales share; 0 for none.
            upsample: "smooth" is linear, bicubic or trilinear by rank.
            commitment: weight of the commitment of the latents to the sum of each scale.

        Raises:
            InputError: the scales do not increase from at least 1, or the inner quantizer has a variable length itself.
        """
        super().__init__()
        if not scales or scales[0] < 1 or sorted(set(scales)) != list(scales):
            raise InputError(f"multiscale: scales must increase from at least 1, got {scales}")
        if quantizer.variable_length:
            raise InputError(f"multiscale: {type(quantizer).__name__} has a variable length itself")
        if num_latents is not None and rank != 1:
            raise InputError(f"multiscale: num_latents goes with rank=1, not {rank}")
        self.quantizer = quantizer
        self.dim = quantizer.dim
        self.codebook_sizes = quantizer.codebook_sizes
        self.variable_levels = quantizer.variable_levels
        self.scales = tuple(scales)
        self.rank = rank
        self.num_latents = num_latents
        self.commitment = commitment
        self.upsample = "nearest-exact" if upsample == "repeat" else SMOOTH[rank]
        picks = [_nearest_tick(index / max(len(scales) - 1, 1), phi) for index in range(len(scales))] if phi else []
        used = sorted(set(picks))
        self.phi_of_scale = tuple(used.index(pick) for pick in picks)
        self.phi = nn.ModuleList(CONVOLUTIONS[rank](self.dim, self.dim, 3, padding=1) for _ in used)

    def forward(self, latents: Tensor, grid: Grid | None = None) -> Quantized:
        self.check_latents(latents)
        shape = self._shape(grid)
        if math.prod(shape) != latents.shape[1]:
            raise InputError(f"multiscale: a grid of {shape} holds {math.prod(shape)} latents, got {list(latents.shape)}")
        with torch.autocast(latents.device.type, enabled=False):
            if self.training:
                # The first scale alone, one token a sample, would start the codebook on a handful of rows.
                self.quantizer.initialize(latents)
            values = latents.float().transpose(1, 2).unflatten(2, shape)
            total = torch.zeros_like(values)
            loss, terms = values.new_zeros(()), {"scale_error": values.new_zeros(())}
            codes: list[Tensor] = []
            for index, size in enumerate(self._sizes(shape)):
                small = _resize(values - total, size, "area").flatten(2).transpose(1, 2)
                found = self.quantizer(small, size)
                codes.append(found.codes)
                total = total + self._spread(index, found.latents, size, shape)
                if self.training:
                    error = squared_error(total, values)
                    loss = loss + found.loss + error + self.commitment * squared_error(total.detach(), values)
                    terms["scale_error"] = terms["scale_error"] + error.detach()
                    for name, term in found.terms.items():
                        terms[name] = terms.get(name, 0) + term
            quantized = (straight_through(values, total) if self.training else total).flatten(2).transpose(1, 2)
        scales = len(self.scales)
        means = {name: term / scales for name, term in terms.items()} if self.training else {}
        return Quantized(quantized.to(latents.dtype), torch.cat(codes, 1), loss / scales, means)

    def lookup(self, codes: Tensor, grid: Grid | None = None) -> Tensor:
        """Latents of the leading scales: [B, M, Q] int64, M one of `prefix_lengths` -> [B, N, D]."""
        self.check_codes(codes)
        shape = self._shape(grid)
        lengths = self.prefix_lengths(math.prod(shape), grid)
        if codes.shape[1] not in lengths:
            raise InputError(
                f"multiscale: the first scales of a grid of {shape} have {list(lengths)} tokens, got codes {list(codes.shape)}"
            )
        sizes = self._sizes(shape)[: lengths.index(codes.shape[1]) + 1]
        with torch.autocast(codes.device.type, enabled=False):
            total = torch.zeros(())
            for index, (part, size) in enumerate(zip(codes.split([math.prod(size) for size in sizes], 1), sizes, strict=True)):
                spread = self._spread(index, self.quantizer.lookup(part, size), size, shape)
                total = spread if index == 0 else total + spread
        return total.flatten(2).transpose(1, 2)

    def num_codes(self, num_latents: int, grid: Grid | None = None) -> int:
        return self.prefix_lengths(num_latents, grid)[-1]

    def prefix_lengths(self, num_latents: int, grid: Grid | None = None) -> tuple[int, ...]:
        """The numbers of tokens up to each scale."""
        return tuple(accumulate(math.prod(size) for size in self._sizes(self._shape(grid))))

    def initialize(self, latents: Tensor) -> None:
        self.quantizer.initialize(latents)

    def _shape(self, grid: Grid | None) -> tuple[int, ...]:
        if self.num_latents is not None:
            return (self.num_latents,)
        if grid is None or len(grid) != self.rank or min(grid) < 1:
            hint = ", or num_latents where there is none" if self.rank == 1 else ""
            raise InputError(f"multiscale: rank={self.rank} needs a grid of {self.rank} axes, each at least 1{hint}; got {grid}")
        return tuple(grid)

    def _sizes(self, shape: tuple[int, ...]) -> list[tuple[int, ...]]:
        last = self.scales[-1]
        return [tuple(max(1, (axis * scale + last // 2) // last) for axis in shape) for scale in self.scales]

    def _spread(self, index: int, rows: Tensor, size: tuple[int, ...], shape: tuple[int, ...]) -> Tensor:
        """Rows of a scale [B, n, D] on the full grid [B, D, *shape], blended."""
        full = _resize(rows.float().transpose(1, 2).unflatten(2, size), shape, self.upsample)
        if not self.phi_of_scale:
            return full
        blend = self.phi[self.phi_of_scale[index]]
        return 0.5 * full + 0.5 * blend(full)

    @classmethod
    def example_options(cls) -> dict[str, Any]:
        return {"quantizer": FSQ(levels=(8, 5, 5)), "scales": (1, 2, 4), "phi": 2}

    @classmethod
    def example_grid(cls) -> Grid | None:
        return (4, 3)


def _resize(values: Tensor, size: tuple[int, ...], mode: str) -> Tensor:
    if tuple(values.shape[2:]) == size:
        return values
    return functional.interpolate(values, size, mode=mode)


def _nearest_tick(position: float, count: int) -> int:
    """Which of `count` convolutions, spread over [0, 1] as VAR spreads its four, serves a scale at this position.

    Two of VAR's ten scales lie midway between two ticks, so its weights depend on the rounding of numpy.linspace: the same sums here.
    """
    first = 1 / 3 / count if count == 4 else 1 / 2 / count
    step = (1 - first - first) / max(count - 1, 1)
    ticks = [index * step + first for index in range(count - 1)] + [1 - first]
    return min(range(count), key=lambda index: abs(ticks[index] - position))
