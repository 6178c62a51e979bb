"""Convolutional encoder and decoder, one class for sound (rank 1), pictures (rank 2) and video or volumes (rank 3).

The network of VQGAN (https://arxiv.org/abs/2012.09841) as LlamaGen trains it (https://arxiv.org/abs/2406.06525); with `adaptive_norm` and
`upsample="shuffle"` that of Open-MAGVIT2 (https://arxiv.org/abs/2409.04410) and WeTok (https://arxiv.org/abs/2508.05599).
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from tokkit.errors import InputError
from tokkit.networks.base import Decoder, Encoder, Grid, Latents
from tokkit.networks.layers import (
    AdaptiveNorm,
    Attention,
    NormSwish,
    ResBlock,
    ShuffleUpsample,
    Upsample,
    check_size,
    conv,
    depth_to_space,
    space_to_depth,
)
from tokkit.networks.noise import seeded_noise
from tokkit.registry import register

Rank = Literal[1, 2, 3]


@register("encoder", "conv")
class ConvEncoder(Encoder):
    """Residual convolutions, halving the size between levels, attention at the lowest (https://arxiv.org/abs/2406.06525).

    The defaults are LlamaGen's VQ-16 (29.3 M parameters). Group norms look at the whole picture: crops and tiles of it give other codes;
    `groups=None` does not.
    """

    def __init__(
        self,
        *,
        channels: int = 3,
        width: int = 128,
        multipliers: tuple[int, ...] = (1, 1, 2, 2, 4),
        blocks: int = 2,
        dim: int = 256,
        attention: bool = True,
        groups: int | None = 32,
        patch: int = 1,
        rank: Rank = 2,
    ):
        """
        Args:
            channels: of the input; 3 for colour pictures.
            width: channels of a level are `width * multiplier`.
            multipliers: one a level, the full size first; stride = patch * 2^(levels - 1).
            blocks: residual blocks a level.
            dim: D of the latents.
            attention: self-attention after the residual blocks of the lowest level. Its cost grows with the square of the cells.
            groups: of the group norms; must divide every level's channels. None: norms over the channels of each position alone, so that
                crops and tiles are coded as the whole is (without attention).
            patch: fold patch x patch pixels into channels before the first convolution. At 2 or 4 a step costs a fraction.
            rank: spatial axes of the input.

        Raises:
            InputError: an option is not positive, or `groups` does not divide a level.
        """
        super().__init__()
        widths = _widths(channels, width, multipliers, blocks, dim, patch)
        self.channels, self.dim, self.rank, self.patch = channels, dim, rank, patch
        self.stride = patch * 2 ** (len(multipliers) - 1)
        self.stem = conv(rank, channels * patch**rank, widths[0], 3)
        levels: list[nn.Module] = []
        for level, (below, this) in enumerate(pairwise([widths[0], *widths])):
            lowest = level == len(widths) - 1
            levels.extend(_level(rank, below, this, blocks, groups, attention and lowest))
            if not lowest:
                levels.append(conv(rank, this, this, 3, stride=2))
        self.levels = nn.Sequential(*levels, *_middle(rank, widths[-1], groups, attention))
        self.head = nn.Sequential(NormSwish(widths[-1], groups), conv(rank, widths[-1], dim, 3))

    def forward(self, inputs: Tensor) -> Latents:
        check_size("encoder conv", inputs.shape[2:], self.rank, self.stride)
        folded = space_to_depth(inputs, self.patch) if self.patch > 1 else inputs
        latents = self.head(self.levels(self.stem(folded)))
        return Latents(latents.flatten(2).transpose(1, 2), tuple(latents.shape[2:]))

    @classmethod
    def example_options(cls) -> dict[str, Any]:
        return {"width": 8, "multipliers": (1, 2), "blocks": 1, "dim": 12, "groups": 4}


@register("decoder", "conv")
class ConvDecoder(Decoder):
    """The mirror of the `conv` encoder (https://arxiv.org/abs/2406.06525). The defaults are LlamaGen's VQ-16 (42.4 M parameters).

    With `noise` it is WeTok's generative decoder (https://arxiv.org/abs/2508.05599): noise joins the latents, new noise in training, that
    of `seed` in eval mode, so that a sample decodes to the same whatever its batch.

    Attributes:
        seed: of the noise; may be set at any time.
    """

    seed: int = 0

    def __init__(
        self,
        *,
        channels: int = 3,
        width: int = 128,
        multipliers: tuple[int, ...] = (1, 1, 2, 2, 4),
        blocks: int = 3,
        dim: int = 256,
        attention: bool = True,
        groups: int | None = 32,
        patch: int = 1,
        rank: Rank = 2,
        adaptive_norm: bool = False,
        upsample: Literal["nearest", "shuffle"] = "nearest",
        noise: bool = False,
    ):
        """
        Args:
            channels: of the output.
            width: channels of a level are `width * multiplier`.
            multipliers: one a level, the full size first, as in the encoder; stride = patch * 2^(levels - 1).
            blocks: residual blocks a level; LlamaGen's decoder has one more than its encoder.
            dim: D of the latents.
            attention: self-attention after the residual blocks of the lowest level.
            groups: of the group norms; must divide every level's channels. None: norms over the channels of each position alone, so that
                crops and tiles are coded as the whole is (without attention).
            patch: each cell of the last convolution holds patch x patch pixels.
            rank: spatial axes of the output.
            adaptive_norm: before each level, a group norm whose scale and shift come from the latents (MAGVIT-v2).
            upsample: nearest neighbour and convolution, or convolution and depth-to-space (Open-MAGVIT2).
            noise: the first convolution sees standard normal noise of the latents' shape beside them, through weights that are zero at the
                start: what it decodes then is what it decodes without. `train.init_from` starts it from a stage without noise.

        Raises:
            InputError: an option is not positive, or `groups` does not divide a level.
        """
        super().__init__()
        widths = _widths(channels, width, multipliers, blocks, dim, patch)[::-1]
        self.channels, self.dim, self.rank, self.patch = channels, dim, rank, patch
        self.stride = patch * 2 ** (len(multipliers) - 1)
        self.stem = conv(rank, dim, widths[0], 3)
        self.noise_stem = _zero_conv(rank, dim, widths[0]) if noise else None
        self.middle = nn.Sequential(*_middle(rank, widths[0], groups, attention))
        upsampler = {"nearest": Upsample, "shuffle": ShuffleUpsample}[upsample]
        self.levels = nn.ModuleList()
        self.norms = nn.ModuleList()
        for level, (below, this) in enumerate(pairwise([widths[0], *widths])):
            layers = list(_level(rank, below, this, blocks, groups, attention and level == 0))
            if level < len(widths) - 1:
                layers.append(upsampler(rank, this))
            self.levels.append(nn.Sequential(*layers))
            if adaptive_norm:
                self.norms.append(AdaptiveNorm(below, groups, dim))
        self.head = nn.Sequential(NormSwish(widths[-1], groups), conv(rank, widths[-1], channels * patch**rank, 3))

    def forward(self, latents: Tensor, grid: Grid) -> Tensor:
        cells = latents.transpose(1, 2).unflatten(2, grid)
        hidden = self.stem(cells)
        if self.noise_stem is not None:
            hidden = hidden + self.noise_stem(self._noise(cells))
        hidden = self.middle(hidden)
        for index, level in enumerate(self.levels):
            hidden = level(self.norms[index](hidden, latents) if self.norms else hidden)
        pixels = self.head(hidden)
        return depth_to_space(pixels, self.patch) if self.patch > 1 else pixels

    def _noise(self, cells: Tensor) -> Tensor:
        if self.training:
            return torch.randn_like(cells)
        seeds = torch.full((1,), self.seed, device=cells.device)
        return seeded_noise(seeds, tuple(cells.shape[1:])).to(cells.dtype).expand(cells.shape)

    @property
    def last_layer(self) -> nn.Parameter:
        return cast(nn.Parameter, self.head[-1].weight)

    @classmethod
    def example_options(cls) -> dict[str, Any]:
        return ConvEncoder.example_options()


def _widths(channels: int, width: int, multipliers: tuple[int, ...], blocks: int, dim: int, patch: int) -> list[int]:
    """The channels of every level, full size first."""
    options = {
        "channels": channels,
        "width": width,
        "blocks": blocks,
        "dim": dim,
        "patch": patch,
        "multipliers": min(multipliers, default=0),
    }
    for name, value in options.items():
        if value < 1:
            raise InputError(f"conv: {name} must be positive, got {multipliers if name == 'multipliers' else value}")
    return [width * multiplier for multiplier in multipliers]


def _zero_conv(rank: int, width_in: int, width_out: int) -> nn.Module:
    """The columns that a convolution grows by when noise is put beside its input: zero, and no bias of their own."""
    grown = conv(rank, width_in, width_out, 3)
    nn.init.zeros_(grown.get_parameter("weight"))
    grown.register_parameter("bias", None)
    return grown


def _level(rank: int, width_in: int, width_out: int, blocks: int, groups: int | None, attention: bool) -> Iterator[nn.Module]:
    for block in range(blocks):
        yield ResBlock(rank, width_out if block else width_in, width_out, groups)
        if attention:
            yield Attention(width_out, groups)


def _middle(rank: int, width: int, groups: int | None, attention: bool) -> Iterator[nn.Module]:
    yield ResBlock(rank, width, width, groups)
    if attention:
        yield Attention(width, groups)
    yield ResBlock(rank, width, width, groups)
