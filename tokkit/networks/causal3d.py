"""Causal convolutions over time and space for video: an image is a video of one frame.

The networks of MAGVIT-v2 (https://arxiv.org/abs/2310.05737) and, with `factorized`, of Cosmos (https://arxiv.org/abs/2501.03575): no output
depends on a later frame, the first frame has a latent frame of its own, and each group of `time stride` frames after it has one:
T = 1 + k * stride frames make 1 + k latent frames. Before the first frame stands its repetition, as in Cosmos (MAGVIT-v2: zeros), so that a
still picture and a video that does not move are the same to the network.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn

from tokkit.errors import InputError
from tokkit.networks.base import Grid, Latents
from tokkit.networks.causal import CausalDecoder, CausalEncoder, Chain, State
from tokkit.networks.layers import Attention, NormSwish, depth_to_space, space_to_depth
from tokkit.registry import register

Positive = Annotated[int, Field(ge=1)]
Steps = tuple[int, int]
"""(along time, along height and width)"""


@register("encoder", "causal3d")
class CausalEncoder3d(CausalEncoder):
    """Causal residual convolutions over [T, H, W], norms of single positions (https://arxiv.org/abs/2310.05737).

    The defaults halve height and width three times and time twice: 17 x 256 x 256 becomes 5 x 32 x 32. A frame more or less later changes
    nothing before it, so long videos are coded in pieces with the very codes of the whole.
    """

    rank = 3

    def __init__(
        self,
        *,
        channels: Positive = 3,
        width: Positive = 128,
        multipliers: tuple[int, ...] = (1, 2, 2, 4),
        time: tuple[int, ...] = (1, 2, 2),
        blocks: Positive = 2,
        dim: Positive = 256,
        attention: bool = False,
        patch: Positive = 1,
        factorized: bool = False,
    ):
        """
        Args:
            channels: of the input.
            width: channels of a level are `width * multiplier`.
            multipliers: one a level, the full size first; height and width are halved between two levels.
            time: between two levels, what time is divided by: 1, 2 or 4.
            blocks: residual blocks a level.
            dim: D of the latents.
            attention: self-attention within each frame at the lowest level; its cost grows with the square of a frame's cells, and crops
                of a frame are no longer coded as the whole is.
            patch: fold patch x patch pixels of each frame into channels before the first convolution. At 2 or 4 a step costs a fraction.
            factorized: each 3 x 3 x 3 convolution as one over space and one over time, (2 + 1)D (https://arxiv.org/abs/1711.11248).

        Raises:
            InputError: `time` does not fit the levels.
        """
        super().__init__()
        widths = _widths(width, multipliers, time)
        self.channels, self.dim, self.patch = channels, dim, patch
        self.stride, self.time_stride = _strides(patch, time)
        self.stem = CausalConv3d(channels * patch**2, widths[0], (3, 3), factorized=factorized)
        layers: list[nn.Module] = []
        for level, (below, this) in enumerate(pairwise([widths[0], *widths])):
            lowest = level == len(widths) - 1
            for block in range(blocks):
                layers.append(Block(this if block else below, this, factorized))
            if attention and lowest:
                layers.append(EachFrame(Attention(this, None)))
            if not lowest:
                layers.append(CausalConv3d(this, this, (2 * time[level] - 1, 3), stride=(time[level], 2), factorized=factorized))
        self.layers = Chain(*layers, Block(widths[-1], widths[-1], factorized))
        self.norm = NormSwish(widths[-1], None)
        self.head = CausalConv3d(widths[-1], dim, (3, 3), factorized=factorized)

    @property
    def strides(self) -> tuple[int, ...]:
        return (self.time_stride, self.stride, self.stride)

    @property
    def first(self) -> int:
        return 1

    @property
    def tile_axes(self) -> int:
        return 2

    def padded_size(self, size: tuple[int, ...]) -> tuple[int, ...]:
        frames, height, width = size
        return (1 + _up(frames - 1, self.time_stride), _up(height, self.stride), _up(width, self.stride))

    def forward(self, inputs: Tensor) -> Latents:
        return self._encode(inputs, None)

    def step(self, inputs: Tensor, state: State) -> Latents:
        """The first piece has 1 + k * time_stride frames, later ones k * time_stride."""
        return self._encode(inputs, state)

    def _encode(self, inputs: Tensor, state: State | None) -> Latents:
        self._check(inputs, begun=bool(state))
        folded = each_frame(lambda frames: space_to_depth(frames, self.patch), inputs) if self.patch > 1 else inputs
        latents = self.head(self.norm(self.layers(self.stem(folded, state), state)), state)
        return Latents(latents.flatten(2).transpose(1, 2), tuple(latents.shape[2:]))

    def _check(self, inputs: Tensor, *, begun: bool) -> None:
        sizes = list(inputs.shape[2:])
        if len(sizes) != 3:
            raise InputError(f"encoder causal3d: expected [B, C, T, H, W] with 3 spatial axes, got {len(sizes)}: {sizes}")
        if sizes[1] % self.stride or sizes[2] % self.stride or 0 in sizes:
            raise InputError(f"encoder causal3d: height and width must be a multiple of the stride {self.stride}, got {sizes}; pad them")
        if (sizes[0] - (not begun)) % self.time_stride:
            wanted = f"a multiple of {self.time_stride}" if begun else f"1 + a multiple of {self.time_stride}"
            raise InputError(f"encoder causal3d: the number of frames must be {wanted}, got {sizes[0]}; pad them")

    @classmethod
    def example_options(cls) -> dict[str, Any]:
        return {"width": 8, "multipliers": (1, 2), "time": (2,), "blocks": 1, "dim": 12}


@register("decoder", "causal3d")
class CausalDecoder3d(CausalDecoder):
    """The mirror of the `causal3d` encoder, enlarging by depth-to-space (https://arxiv.org/abs/2310.05737)."""

    rank = 3

    def __init__(
        self,
        *,
        channels: Positive = 3,
        width: Positive = 128,
        multipliers: tuple[int, ...] = (1, 2, 2, 4),
        time: tuple[int, ...] = (1, 2, 2),
        blocks: Positive = 2,
        dim: Positive = 256,
        attention: bool = False,
        patch: Positive = 1,
        factorized: bool = False,
    ):
        """
        Args:
            channels: of the output.
            width: channels of a level are `width * multiplier`.
            multipliers, time: those of the encoder, the full size first.
            blocks: residual blocks a level.
            dim: D of the latents.
            attention: self-attention within each frame at the lowest level.
            patch: each cell of the last convolution holds patch x patch pixels of a frame.
            factorized: each 3 x 3 x 3 convolution as one over space and one over time.

        Raises:
            InputError: `time` does not fit the levels.
        """
        super().__init__()
        widths = _widths(width, multipliers, time)[::-1]
        self.channels, self.dim, self.patch = channels, dim, patch
        self.stride, self.time_stride = _strides(patch, time)
        self.stem = CausalConv3d(dim, widths[0], (3, 3), factorized=factorized)
        layers: list[nn.Module] = [Block(widths[0], widths[0], factorized)]
        if attention:
            layers.append(EachFrame(Attention(widths[0], None)))
        for level, this in enumerate(widths):
            layers += [Block(this, this, factorized) for _ in range(blocks)]
            if level < len(widths) - 1:
                layers.append(CausalUpsample3d(this, widths[level + 1], time[-1 - level], factorized))
        self.layers = Chain(*layers)
        self.norm = NormSwish(widths[-1], None)
        self.head = CausalConv3d(widths[-1], channels * patch**2, (3, 3))

    @property
    def strides(self) -> tuple[int, ...]:
        return (self.time_stride, self.stride, self.stride)

    def output_size(self, grid: Grid) -> tuple[int, ...]:
        frames, height, width = grid
        return (1 + (frames - 1) * self.time_stride, height * self.stride, width * self.stride)

    def forward(self, latents: Tensor, grid: Grid) -> Tensor:
        return self._decode(latents, grid, None)

    def step(self, latents: Tensor, state: State, grid: Grid | None = None) -> Tensor:
        assert grid is not None
        return self._decode(latents, grid, state)

    def _decode(self, latents: Tensor, grid: Grid, state: State | None) -> Tensor:
        cells = latents.transpose(1, 2).unflatten(2, grid)
        pixels = self.head(self.norm(self.layers(self.stem(cells, state), state)), state)
        return each_frame(lambda frames: depth_to_space(frames, self.patch), pixels) if self.patch > 1 else pixels

    @property
    def last_layer(self) -> nn.Parameter:
        return self.head.get_parameter("conv.weight")

    @classmethod
    def example_options(cls) -> dict[str, Any]:
        return CausalEncoder3d.example_options()


class CausalConv3d(nn.Module):
    """A convolution over [T, H, W] that sees frames up to the present one: [B, C, 1 + n * stride, H, W] -> [B, C', 1 + n, H / s, W / s]."""

    def __init__(self, width_in: int, width_out: int, kernel: Steps, *, stride: Steps = (1, 1), factorized: bool = False):
        """
        Args:
            kernel: (frames, pixels a side).
            stride: (along time, along height and width).
            factorized: over space first, then over time, through the narrower of the two widths.
        """
        super().__init__()
        self.kernel, self.stride = kernel[0], stride[0]
        pixels, step = kernel[1], stride[1]
        padding = (0, pixels // 2, pixels // 2)
        self.space: nn.Module | None = None
        if factorized and kernel[0] > 1 and pixels > 1:
            between = min(width_in, width_out)
            self.space = nn.Conv3d(width_in, between, (1, pixels, pixels), (1, step, step), padding)
            self.conv = nn.Conv3d(between, width_out, (kernel[0], 1, 1), (stride[0], 1, 1))
        else:
            self.conv = nn.Conv3d(width_in, width_out, (kernel[0], pixels, pixels), (stride[0], step, step), padding)

    def forward(self, inputs: Tensor, state: State | None = None) -> Tensor:
        inputs = inputs if self.space is None else self.space(inputs)
        if self.kernel > 1:
            before = None if state is None else state.get(self)
            past = inputs[:, :, :1].expand(-1, -1, self.kernel - 1, -1, -1) if before is None else before
            inputs = torch.cat([past, inputs], 2)
            if state is not None:
                state[self] = inputs[:, :, inputs.shape[2] - (self.kernel - self.stride) :].clone()
        output: Tensor = self.conv(inputs)
        return output


class CausalUpsample3d(nn.Module):
    """Twice the height and width, `time` times the frames but for the first: [B, C, 1 + n, H, W] -> [B, C', 1 + n * time, 2 H, 2 W]."""

    def __init__(self, width_in: int, width_out: int, time: int, factorized: bool):
        super().__init__()
        self.time = time
        self.conv = CausalConv3d(width_in, width_out * 4 * time, (3, 3), factorized=factorized)

    def forward(self, inputs: Tensor, state: State | None = None) -> Tensor:
        parts = self.conv(inputs, state).unflatten(1, (-1, self.time, 2, 2))  # [B, C, t, 2, 2, T, H, W]
        larger = parts.permute(0, 1, 5, 2, 6, 3, 7, 4).flatten(6, 7).flatten(4, 5).flatten(2, 3)
        begun = state is not None and self in state
        if state is not None:
            state[self] = True
        return larger if begun else larger[:, :, self.time - 1 :]


class Block(nn.Module):
    """Norm, swish, convolution, twice, around a shortcut (a linear map of each position where the width changes)."""

    def __init__(self, width_in: int, width_out: int, factorized: bool):
        super().__init__()
        self.norm1, self.norm2 = NormSwish(width_in, None), NormSwish(width_out, None)
        self.conv1 = CausalConv3d(width_in, width_out, (3, 3), factorized=factorized)
        self.conv2 = CausalConv3d(width_out, width_out, (3, 3), factorized=factorized)
        self.shortcut = nn.Identity() if width_in == width_out else nn.Conv3d(width_in, width_out, 1)

    def forward(self, inputs: Tensor, state: State | None = None) -> Tensor:
        hidden = self.conv2(self.norm2(self.conv1(self.norm1(inputs), state)), state)
        output: Tensor = self.shortcut(inputs) + hidden
        return output


class EachFrame(nn.Module):
    """A layer of pictures, for every frame by itself."""

    def __init__(self, layer: nn.Module):
        super().__init__()
        self.layer = layer

    def forward(self, inputs: Tensor, state: State | None = None) -> Tensor:
        return each_frame(self.layer, inputs)


def each_frame(function: Callable[[Tensor], Tensor], inputs: Tensor) -> Tensor:
    """A function of [B, C, H, W], applied to the frames of [B, C, T, H, W]."""
    frames = inputs.shape[2]
    return function(inputs.transpose(1, 2).flatten(0, 1)).unflatten(0, (-1, frames)).transpose(1, 2)


def _widths(width: int, multipliers: tuple[int, ...], time: tuple[int, ...]) -> list[int]:
    if min(multipliers, default=0) < 1:
        raise InputError(f"causal3d: multipliers must be one or more positive numbers, got {multipliers}")
    if len(time) != len(multipliers) - 1 or not set(time) <= {1, 2, 4}:
        raise InputError(f"causal3d: time must be {len(multipliers) - 1} numbers, 1, 2 or 4, one between two of the levels; got {time}")
    return [width * multiplier for multiplier in multipliers]


def _strides(patch: int, time: tuple[int, ...]) -> tuple[int, int]:
    """Along height and width, and along time."""
    return patch * 2 ** len(time), math.prod(time)


def _up(length: int, step: int) -> int:
    return -(-length // step) * step
