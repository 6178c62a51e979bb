"""Nested dropout over any quantizer: tokens ordered from coarse to fine."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from tokkit.errors import InputError
from tokkit.quantizers.base import Grid, Quantized, Quantizer
from tokkit.quantizers.fsq import FSQ
from tokkit.registry import register

Mode = Literal["uniform", "pow2", "uniform_pow2", "weighted"]
FULL_LENGTH_SHARE = 0.8
"""How often ResTok trains on all tokens, with its default weights."""


@register("quantizer", "nested")
class Nested(Quantizer):
    """Nested dropout: any number of leading tokens is a code of its own (FlexTok, https://arxiv.org/abs/2502.13967).

    In training each sample keeps its first k tokens, k drawn anew, and a learned mask token stands in for the others, after quantization.
    `lookup` takes any number of leading tokens and fills up the same way. In eval mode all tokens are kept.

    The quantizer inside sees, and takes its loss over, all N tokens: the codes of dropped positions stay valid and their codebooks in use,
    while the decoder's gradient reaches the kept tokens only.

    With `padding`, ReTok's redundant token padding (https://github.com/zfu006/ReTok): the encoder has that many tokens beyond N, k is drawn
    from all of them, and they exist in training only. So the last of the N tokens are kept nearly as often as the first, and learn as well.
    """

    variable_length = True

    def __init__(
        self,
        *,
        quantizer: Quantizer,
        num_tokens: Annotated[int, Field(ge=1)],
        mode: Mode = "uniform",
        lengths: tuple[int, ...] | None = None,
        weights: tuple[float, ...] | None = None,
        padding: Annotated[int, Field(ge=0)] = 0,
        warmup: Annotated[float, Field(ge=0, lt=1)] = 0.0,
    ):
        """
        Args:
            quantizer: what codes the tokens.
            num_tokens: N, the number of tokens of a sample when none is dropped. With `padding`, read N + padding for N in `mode` and
                `lengths`.
            mode: of drawing k. "uniform": 1 to N. "pow2": one of 1, 2, 4, ..., N. "uniform_pow2": 1 to N, rounded up to a power of two (at
                most N). "weighted": one of `lengths`, as ResTok does (https://arxiv.org/abs/2601.03955).
            lengths: with "weighted", the values of k, the last of them N.
            weights: with "weighted", their relative weights. None: ResTok's, doubling from length to length, and the full length four times
                all the others together (0.8 of the draws).
            padding: tokens of the encoder beyond N, for training.
            warmup: the share of the training, at its start, in which no token is dropped. Tokens that are dropped from the first step on
                all learn to speak of the whole picture, leave most of their codes unused, and together stay behind what they could say.

        Raises:
            InputError: lengths or weights that do not fit the mode, N or each other; or a quantizer that itself needs a grid.
        """
        super().__init__()
        if quantizer.variable_length:
            raise InputError(f"nested: {type(quantizer).__name__} orders its tokens itself")
        self.quantizer = quantizer
        self.num_tokens = num_tokens
        self.dim = quantizer.dim
        self.codebook_sizes = quantizer.codebook_sizes
        self.variable_levels = quantizer.variable_levels
        self.mask_token = nn.Parameter(torch.randn(self.dim) * 0.02)
        self.num_latents = num_tokens + padding
        self.warmup = warmup
        table = length_distribution(self.num_latents, mode, lengths, weights)
        self._lengths: Tensor
        self._probabilities: Tensor
        self.register_buffer("_lengths", torch.tensor(list(table)), persistent=False)
        self.register_buffer("_probabilities", torch.tensor(list(table.values())), persistent=False)

    def forward(self, latents: Tensor, grid: Grid | None = None) -> Quantized:
        self.check_latents(latents)
        if latents.shape[1] != self.num_latents:
            asked = f"num_tokens={self.num_tokens}"
            if self.num_latents > self.num_tokens:
                asked += f" and padding={self.num_latents - self.num_tokens}"
            raise InputError(f"nested: built for {asked}, got latents {list(latents.shape)}")
        if not self.training:
            quantized = self.quantizer(latents[:, : self.num_tokens], grid)
            quantized.latents = self._filled(quantized.latents)
            return quantized
        quantized = self.quantizer(latents, grid)
        keep = self.draw_lengths(len(latents))
        quantized.kept = keep.clamp(max=self.num_tokens) / self.num_tokens
        kept = torch.arange(self.num_latents, device=latents.device) < keep.unsqueeze(-1)
        quantized.latents = torch.where(kept.unsqueeze(-1), quantized.latents, self.mask_token.to(quantized.latents.dtype))
        quantized.codes = quantized.codes[:, : self.num_tokens]
        return quantized

    def lookup(self, codes: Tensor, grid: Grid | None = None) -> Tensor:
        """Latents of the leading tokens, filled up with the mask token: [B, k, Q] int64, k <= N -> [B, N + padding, D]."""
        self.check_codes(codes)
        if codes.shape[1] > self.num_tokens:
            raise InputError(f"nested: at most {self.num_tokens} tokens, got codes {list(codes.shape)}")
        return self._filled(self.quantizer.lookup(codes, grid))

    def num_codes(self, num_latents: int, grid: Grid | None = None) -> int:
        return min(num_latents, self.num_tokens)

    def _filled(self, latents: Tensor) -> Tensor:
        """[B, k, D] with the mask token in all places behind."""
        missing = self.num_latents - latents.shape[1]
        if not missing:
            return latents
        return torch.cat([latents, self.mask_token.to(latents.dtype).expand(latents.shape[0], missing, -1)], dim=1)

    def draw_lengths(self, batch: int) -> Tensor:
        """[batch] int64, a number of tokens to keep for each sample."""
        if batch == 0 or self.progress < self.warmup:
            return self._lengths[-1:].expand(batch)
        return self._lengths[torch.multinomial(self._probabilities, batch, replacement=True)]

    def initialize(self, latents: Tensor) -> None:
        self.quantizer.initialize(latents)

    @classmethod
    def example_options(cls) -> dict[str, Any]:
        return {"quantizer": FSQ(levels=(8, 5, 5)), "num_tokens": 5}

    @classmethod
    def example_grid(cls) -> Grid | None:
        return (5,)


def length_distribution(
    num_tokens: int, mode: Mode, lengths: tuple[int, ...] | None = None, weights: tuple[float, ...] | None = None
) -> dict[int, float]:
    """Length -> probability, as the arguments of `Nested` describe it.

    Raises:
        InputError: lengths or weights that do not fit the mode, N or each other.
    """
    if mode != "weighted" and (lengths or weights):
        raise InputError(f"nested: lengths and weights go with mode=weighted, not {mode}")
    if mode == "uniform":
        return dict.fromkeys(range(1, num_tokens + 1), 1 / num_tokens)
    powers = sorted({min(2**exponent, num_tokens) for exponent in range(num_tokens.bit_length() + 1)})
    if mode == "pow2":
        return {power: 1 / len(powers) for power in powers}
    if mode == "uniform_pow2":
        return {power: (power - below) / num_tokens for below, power in zip([0, *powers], powers, strict=False)}
    if not lengths or sorted(set(lengths)) != list(lengths) or lengths[0] < 1 or lengths[-1] != num_tokens:
        raise InputError(f"nested: mode=weighted needs lengths, increasing, from at least 1 to num_tokens={num_tokens}, got {lengths}")
    if weights is None:
        shorter = [2.0**index for index in range(len(lengths) - 1)]
        weights = (*shorter, sum(shorter) * FULL_LENGTH_SHARE / (1 - FULL_LENGTH_SHARE) or 1.0)
    if len(weights) != len(lengths) or min(weights) < 0 or sum(weights) <= 0:
        raise InputError(f"nested: {len(lengths)} lengths need as many weights, none negative and not all 0, got {weights}")
    return {length: weight / sum(weights) for length, weight in zip(lengths, weights, strict=True)}
