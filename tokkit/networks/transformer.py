"""What the transformer networks share: timm's blocks with rotary positions, and the way from and to patches.

Positions are computed from the grid, never looked up in a table, so that any size works. Knows no codes.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from timm.models.eva import EvaBlock
from torch import Tensor, nn

from tokkit.errors import InputError
from tokkit.networks.layers import conv, depth_to_space, space_to_depth

Rank = Literal[1, 2, 3]
Size = Literal["small", "base", "large", "d12", "d18", "d28"]
ROTARY_BASE = 100.0
"""The slowest rotation turns once in 2 pi * 100 cells (DINOv3's base): grids are tens of cells wide, sentences are thousands of words."""


class Shape(NamedTuple):
    """The size of a transformer: `heads` attention heads share `width` channels."""

    width: int
    depth: int
    heads: int


SIZES: dict[Size, Shape] = {
    "small": Shape(512, 8, 8),
    "base": Shape(768, 12, 12),
    "large": Shape(1024, 24, 16),
    "d12": Shape(768, 12, 12),
    "d18": Shape(1152, 18, 18),
    "d28": Shape(1792, 28, 28),
}
"""TiTok's sizes (https://arxiv.org/abs/2406.07550) and FlexTok's (https://arxiv.org/abs/2502.13967)."""


def resolve_shape(size: Size, width: int | None, depth: int | None, heads: int | None) -> Shape:
    """The shape of a named size, each part replaced where it is given.

    Raises:
        InputError: a part is not positive, or the heads do not get an even number of channels each.
    """
    given = zip((width, depth, heads), SIZES[size], strict=True)
    shape = Shape(*(named if part is None else part for part, named in given))
    if min(shape) < 1:
        raise InputError(f"transformer: width, depth and heads must be positive, got {tuple(shape)}")
    if shape.width % (2 * shape.heads):
        raise InputError(f"transformer: width {shape.width} gives {shape.heads} heads no even number of channels each; change either")
    return shape


def rotary(grid: tuple[int, ...], prefix: int, head_width: int, device: torch.device) -> Tensor:
    """Rotary position embedding of a grid of any rank (https://arxiv.org/abs/2104.09864).

    The axes share the channel pairs of a head equally; pairs left over, and the first `prefix` tokens, are not turned.

    Returns:
        [prefix + cells, 2 * head_width] float32, as timm's attention takes it: sin then cos, each for both halves of a head.
    """
    pairs = head_width // 2 // len(grid)
    bands = ROTARY_BASE ** -(torch.arange(pairs, device=device) / max(pairs, 1))
    axes = [torch.arange(size, device=device) for size in grid]
    cells = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).flatten(0, -2)  # [cells, rank]
    angles = (cells.unsqueeze(-1) * bands).flatten(1)  # [cells, rank * pairs]
    angles = F.pad(angles, (0, head_width // 2 - angles.shape[1], prefix, 0)).repeat(1, 2)
    return torch.cat([angles.sin(), angles.cos()], -1)


def attention_dtype(tokens: Tensor) -> torch.dtype:
    """What queries and keys come in: autocast's dtype, or the tokens' own. Rotations of another would first widen all of them."""
    kind = tokens.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else tokens.dtype


class Transformer(nn.Module):
    """Pre-norm transformer over the tokens of a grid, after any number of tokens that have no position. Ends with a norm."""

    def __init__(self, shape: Shape):
        super().__init__()
        self.head_width = shape.width // shape.heads
        self.blocks = nn.ModuleList(
            EvaBlock(shape.width, shape.heads, attn_type="rope", num_prefix_tokens=0, rotate_half=True, norm_layer=nn.LayerNorm)
            for _ in range(shape.depth)
        )
        self.norm = nn.LayerNorm(shape.width)
        self.apply(initialise)

    def forward(self, tokens: Tensor, grid: tuple[int, ...], mask: Tensor | None = None) -> Tensor:
        """Transform [B, prefix + cells, width].

        Args:
            tokens: those of the grid come last.
            grid: the arrangement of the cells.
            mask: [prefix + cells, prefix + cells] bool, true where the row may look at the column; None: everywhere.
        """
        rope = rotary(grid, tokens.shape[1] - math.prod(grid), self.head_width, tokens.device).to(attention_dtype(tokens))
        for block in self.blocks:
            tokens = block(tokens, rope=rope, attn_mask=mask)
        return self.norm(tokens)


class Patchify(nn.Module):
    """[B, C, *spatial] -> [B, cells, width]: every patch, of `patch` along each axis, through one linear map."""

    def __init__(self, channels: int, patch: tuple[int, ...], width: int):
        super().__init__()
        _check_patch(channels, patch)
        self.patch = patch
        self.embed = nn.Linear(channels * math.prod(patch), width)
        initialise(self.embed)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.embed(space_to_depth(inputs, self.patch).flatten(2).transpose(1, 2))


class Unpatchify(nn.Module):
    """[B, cells, width] -> [B, C, *spatial]; with `smooth` a residual 3x3 convolution, zero at the start, can mend the seams of patches."""

    def __init__(self, channels: int, patch: tuple[int, ...], width: int, smooth: bool):
        super().__init__()
        _check_patch(channels, patch)
        self.patch = patch
        self.project = nn.Linear(width, channels * math.prod(patch))
        start_faint(self.project)
        self.smooth = conv(len(patch), channels, channels, 3) if smooth else None
        if self.smooth is not None:
            for parameter in self.smooth.parameters():
                nn.init.zeros_(parameter)

    def forward(self, tokens: Tensor, grid: tuple[int, ...]) -> Tensor:
        pixels = depth_to_space(self.project(tokens).transpose(1, 2).unflatten(2, grid), self.patch)
        return pixels if self.smooth is None else pixels + self.smooth(pixels)

    @property
    def last_layer(self) -> nn.Parameter:
        layer = self.project if self.smooth is None else self.smooth
        return layer.get_parameter("weight")


def _check_patch(channels: int, patch: tuple[int, ...]) -> None:
    if min(channels, *patch) < 1:
        raise InputError(f"transformer: channels and patch must be positive, got {channels} and {patch}")


def learned_tokens(count: int, width: int, std: float = 0.02) -> nn.Parameter:
    """[count, width] learned vectors, small at the start unless `std` says otherwise."""
    return nn.Parameter(nn.init.trunc_normal_(torch.empty(count, width), std=std))


def register_mask(registers: int, cells: int, device: torch.device) -> Tensor:
    """Causal registers before patches: a register looks at itself, earlier registers and every patch; a patch looks at patches.

    Returns:
        [registers + cells, registers + cells] bool, true where the row may look at the column.
    """
    index = torch.arange(registers + cells, device=device)
    row, column = index[:, None], index[None, :]
    return (column >= registers) | ((row < registers) & (column <= row))


def check_cells(name: str, tokens: int, grid: tuple[int, ...]) -> None:
    """Refuse latents that are not one a cell."""
    if tokens != math.prod(grid):
        raise InputError(f"{name}: {tokens} latents do not fill the grid {list(grid)} of {math.prod(grid)} cells")


def initialise(module: nn.Module) -> None:
    """Linear maps that keep the size of what they are given, whatever the width: standard deviation 1 / sqrt(inputs).

    The usual 0.02 does so at a width of 2,500. In a narrower network attention is all but uniform at the start, and the branches are faint.
    """
    if isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=module.in_features**-0.5)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def start_faint(layer: nn.Linear) -> None:
    """A map whose result is small at the start, whatever it is given: the last one, and those of conditions."""
    nn.init.trunc_normal_(layer.weight, std=0.02)
    nn.init.zeros_(layer.bias)
