"""Transformer encoder and decoder with hierarchical residuals of patches and of latents (ResTok, https://arxiv.org/abs/2601.03955).

Latents come in levels of 1, 1, 2, 4, ... tokens. Each level starts from what the levels before it leave of the picture, pooled; and inside
the encoder the patches are merged into ever coarser ones, which the finer ones then only complete.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tokkit.errors import InputError
from tokkit.networks.base import Decoder, Encoder, Grid, Latents
from tokkit.networks.layers import check_size
from tokkit.networks.transformer import Patchify, Rank, Size, Transformer, attention_dtype, learned_tokens, resolve_shape, rotary
from tokkit.networks.vit1d import ViT1DDecoder
from tokkit.registry import register


def level_sizes(num_tokens: int) -> list[int]:
    """Tokens of every level: 1, 1, 2, 4, ..., num_tokens / 2, so that the first levels together are 1, 2, 4, ... tokens.

    Raises:
        InputError: `num_tokens` is not a power of two.
    """
    if num_tokens < 1 or num_tokens & (num_tokens - 1):
        raise InputError(f"restok: num_tokens must be a power of two, got {num_tokens}")
    return [1, *(2**power for power in range(num_tokens.bit_length() - 1))]


def level_shape(size: int, rank: int) -> tuple[int, ...]:
    """The arrangement of a level's tokens: 1x1, 1x2, 2x2, 2x4, ... for pictures, the last axis being halved first."""
    doublings = size.bit_length() - 1
    return tuple(2 ** ((doublings + axis) // rank) for axis in range(rank))


def residual_pyramid(features: Tensor, num_tokens: int) -> Tensor:
    """[B, D, *spatial] to [B, num_tokens, D]: of every level the mean over its cells of what the levels before it leave.

    A level is spread over its cells by repetition and subtracted before the next is pooled.
    """
    rank = features.ndim - 2
    levels = []
    for size in level_sizes(num_tokens):
        pooled = F.interpolate(features, level_shape(size, rank), mode="area")
        features = features - F.interpolate(pooled, features.shape[2:], mode="nearest")
        levels.append(pooled.flatten(2))
    return torch.cat(levels, 2).transpose(1, 2)


def merge(tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Halve [B, n, D] along the sequence by leaving out every other token: the half, and what it leaves of the whole."""
    merged = tokens[:, ::2]
    return merged, tokens - merged.repeat_interleave(2, 1)[:, : tokens.shape[1]]


@register("encoder", "restok")
class ResTokEncoder(Encoder):
    """Latents in levels over patches that are merged on the way (https://arxiv.org/abs/2601.03955).

    A token looks at its own and coarser levels of patches; a latent looks at all patches and at latents of its own and earlier levels, so
    whole leading levels do not depend on those that follow. The grid it returns is that of the patches.

    Attributes:
        num_tokens: N, a power of two.
    """

    def __init__(
        self,
        *,
        num_tokens: int = 128,
        dim: int = 32,
        merges: int = 3,
        channels: int = 3,
        patch: int = 16,
        size: Size = "large",
        width: int | None = None,
        depth: int | None = None,
        heads: int | None = None,
        rank: Rank = 2,
    ):
        """
        Args:
            num_tokens: N.
            dim: D of the latents; every level has its own map to them.
            merges: how often the patches are halved, at equal distances in depth, between attention and MLP.
            channels: of the input.
            patch: side of a patch in pixels; the stride.
            size: names width, depth and heads.
            width, depth, heads: instead of the size's.
            rank: spatial axes of the input.

        Raises:
            InputError: num_tokens is no power of two, there are not more blocks than merges, or a number is not positive.
        """
        super().__init__()
        shape = resolve_shape(size, width, depth, heads)
        sizes = level_sizes(num_tokens)
        if dim < 1 or not 0 <= merges < shape.depth:
            raise InputError(f"restok: dim must be positive and merges 0 to {shape.depth - 1}, got {dim} and {merges}")
        self.channels, self.dim, self.rank, self.stride = channels, dim, rank, patch
        self.num_tokens = num_tokens
        self.merge_after = {index * shape.depth // (merges + 1) - 1 for index in range(1, merges + 1)}
        self.patchify = Patchify(channels, self.strides, shape.width)
        self.embeddings = learned_tokens(num_tokens, shape.width)
        self.transformer = Transformer(shape)
        self.outputs = LevelMaps(sizes, shape.width, dim)
        self._groups: Tensor
        groups = [level for level, size in enumerate(sizes, start=1) for _ in range(size)]
        self.register_buffer("_groups", torch.tensor(groups), persistent=False)

    def forward(self, inputs: Tensor) -> Latents:
        check_size("encoder restok", inputs.shape[2:], self.rank, self.stride)
        grid = tuple(size // self.stride for size in inputs.shape[2:])
        patches = self.patchify(inputs)
        latents = residual_pyramid(patches.transpose(1, 2).unflatten(2, grid), self.num_tokens)
        tokens = torch.cat([latents + self.embeddings.to(latents.dtype), patches], 1)
        rope = rotary(grid, self.num_tokens, self.transformer.head_width, tokens.device).to(attention_dtype(tokens))
        # Who may look at whom: groups rise from the coarsest patches over the given ones, 0, to the levels of latents, 1, 2, ...
        groups = torch.cat([self._groups, self._groups.new_zeros(patches.shape[1])])
        coarsest = patches.shape[1]  # of the tokens, the last ones
        blocks: Iterable[Any] = self.transformer.blocks
        for index, block in enumerate(blocks):
            tokens = tokens + block.attn(block.norm1(tokens), rope=rope, attn_mask=groups <= groups.unsqueeze(1))
            if index in self.merge_after:
                merged, left = merge(tokens[:, -coarsest:])
                tokens = torch.cat([tokens[:, :-coarsest], left, merged], 1)
                rope = torch.cat([rope, rope[-coarsest::2]])
                groups = torch.cat([groups, groups[-coarsest::2] - 1])
                coarsest = merged.shape[1]
            tokens = tokens + block.mlp(block.norm2(tokens))
        return Latents(self.outputs(self.transformer.norm(tokens[:, : self.num_tokens])), grid)

    @classmethod
    def example_options(cls) -> dict[str, Any]:
        return {"num_tokens": 8, "dim": 6, "merges": 2, "patch": 4, "width": 16, "depth": 3, "heads": 2}


@register("decoder", "restok")
class ResTokDecoder(Decoder):
    """The decoder of `vit1d` behind a map of its own for every level (https://arxiv.org/abs/2601.03955).

    Takes any number of leading latents up to N.

    Attributes:
        num_tokens: N, a power of two.
    """

    def __init__(
        self,
        *,
        num_tokens: int = 128,
        dim: int = 32,
        channels: int = 3,
        patch: int = 16,
        size: Size = "large",
        width: int | None = None,
        depth: int | None = None,
        heads: int | None = None,
        rank: Rank = 2,
        smooth: bool = True,
    ):
        """
        Args:
            num_tokens: N, the most latents it can take.
            dim: D of the latents.
            channels: of the output.
            patch: side of a patch in pixels; the stride.
            size: names width, depth and heads.
            width, depth, heads: instead of the size's.
            rank: spatial axes of the output.
            smooth: end with a residual 3x3 convolution over the pixels, against seams between patches.

        Raises:
            InputError: num_tokens is no power of two, or a number is not positive.
        """
        super().__init__()
        sizes = level_sizes(num_tokens)
        if dim < 1:
            raise InputError(f"restok: dim must be positive, got {dim}")
        self.network = ViT1DDecoder(
            num_tokens=num_tokens,
            channels=channels,
            patch=patch,
            size=size,
            width=width,
            depth=depth,
            heads=heads,
            rank=rank,
            smooth=smooth,
        )
        self.channels, self.dim, self.rank, self.stride = channels, dim, rank, patch
        self.num_tokens = num_tokens
        self.inputs = LevelMaps(sizes, dim, self.network.dim)

    def forward(self, latents: Tensor, grid: Grid) -> Tensor:
        if latents.shape[1] > self.num_tokens:
            raise InputError(f"decoder restok: got {latents.shape[1]} latents, and it was built for at most num_tokens={self.num_tokens}")
        return self.network(self.inputs(latents), grid)

    @property
    def last_layer(self) -> nn.Parameter:
        return self.network.last_layer

    @classmethod
    def example_options(cls) -> dict[str, Any]:
        return {"num_tokens": 8, "dim": 6, "patch": 4, "width": 16, "depth": 1, "heads": 2}


class LevelMaps(nn.Module):
    """[B, k, D] -> [B, k, D']: a linear map for each level of tokens; k may end anywhere."""

    def __init__(self, sizes: list[int], width_in: int, width_out: int):
        super().__init__()
        self.sizes = sizes
        self.maps = nn.ModuleList(nn.Linear(width_in, width_out) for _ in sizes)

    def forward(self, tokens: Tensor) -> Tensor:
        found, start = [], 0
        for size, level in zip(self.sizes, self.maps, strict=True):
            found.append(level(tokens[:, start : start + size]))
            start += size
        return torch.cat(found, 1)
