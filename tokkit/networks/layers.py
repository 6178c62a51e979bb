"""Layers that the convolutional networks share, for one, two or three spatial axes. Every one keeps channels_last where it is given."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tokkit.errors import InputError

HEAD_WIDTH = 64


def conv(rank: int, width_in: int, width_out: int, kernel: int, *, stride: int = 1) -> nn.Module:
    """A convolution over `rank` spatial axes that keeps the size (at stride 1; at stride s an even size is divided by s)."""
    kinds: tuple[type[nn.Module], ...] = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
    return kinds[rank - 1](width_in, width_out, kernel, stride=stride, padding=kernel // 2)


def space_to_depth(inputs: Tensor, factor: int | tuple[int, ...]) -> Tensor:
    """[B, C, *spatial] -> [B, product of factors * C, *spatial / factor], the channel innermost; the result has channels_last strides.

    Args:
        inputs: sizes are multiples of the factors.
        factor: for all axes, or one for each.
    """
    batch, channels, *sizes = inputs.shape
    rank = len(sizes)
    factors = (factor,) * rank if isinstance(factor, int) else factor
    cells = [size // by for size, by in zip(sizes, factors, strict=True)]
    split = inputs.movedim(1, -1).reshape(batch, *(n for pair in zip(cells, factors, strict=True) for n in pair), channels)
    order = (0, *range(1, 2 * rank, 2), *range(2, 2 * rank + 1, 2), 2 * rank + 1)
    return split.permute(order).reshape(batch, *cells, math.prod(factors) * channels).movedim(-1, 1)


def depth_to_space(inputs: Tensor, factor: int | tuple[int, ...]) -> Tensor:
    """The inverse of `space_to_depth`: [B, product of factors * C, *spatial] -> [B, C, *spatial * factor]."""
    batch, depth, *cells = inputs.shape
    rank = len(cells)
    factors = (factor,) * rank if isinstance(factor, int) else factor
    channels = depth // math.prod(factors)
    split = inputs.movedim(1, -1).reshape(batch, *cells, *factors, channels)
    order = (0, *(axis for i in range(rank) for axis in (1 + i, 1 + rank + i)), 2 * rank + 1)
    return split.permute(order).reshape(batch, *(cell * by for cell, by in zip(cells, factors, strict=True)), channels).movedim(-1, 1)


class GroupNorm(nn.GroupNorm):
    """Group norm that keeps channels_last, and reads it in order, under torch.compile.

    The compiler's own version gathers the few channels of a group from everywhere and returns contiguous values: on an H100 with
    [16, 128, 256, 256] bf16 that costs three times as much, forward and backward. Without compilation torch's one kernel is the better.
    """

    def __init__(self, groups: int, width: int, *, affine: bool = True):
        if groups < 1 or width % groups:
            raise InputError(f"conv: {groups} norm groups do not divide a level of {width} channels; give groups=, width= or multipliers=")
        super().__init__(groups, width, eps=1e-6, affine=affine)

    def forward(self, input: Tensor) -> Tensor:
        return self.by_channel(input) if torch.compiler.is_compiling() else super().forward(input)

    def by_channel(self, inputs: Tensor) -> Tensor:
        """The same values from the moments of every channel, which are then joined into those of the groups."""
        by_group = (self.num_groups, -1)
        spatial = tuple(range(2, inputs.ndim))
        variances, means = torch.var_mean(inputs.float(), spatial, correction=0)  # [B, C]
        variances, means = variances.unflatten(1, by_group), means.unflatten(1, by_group)
        mean = means.mean(-1, keepdim=True)
        scale = ((variances + (means - mean).square()).mean(-1, keepdim=True) + self.eps).rsqrt().expand_as(means)
        if self.affine:
            scale = scale * self.weight.view(by_group)
        shift = -mean * scale
        if self.affine:
            shift = shift + self.bias.view(by_group)
        shape = (*inputs.shape[:2], *[1] * len(spatial))
        return (inputs.float() * scale.reshape(shape) + shift.reshape(shape)).to(inputs.dtype)


class PositionNorm(nn.Module):
    """RMS norm over the channels of each position alone (https://arxiv.org/abs/1910.07467).

    Nothing beyond the receptive field of the convolutions reaches an output, so crops and tiles are coded as the whole is; and with
    channels_last a position's channels lie side by side, which group norms have to gather from everywhere.
    """

    def __init__(self, width: int, *, affine: bool = True):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width)) if affine else None

    def forward(self, inputs: Tensor) -> Tensor:
        values = inputs.float()
        scale = (values.square().mean(1, keepdim=True) + 1e-6).rsqrt()
        if self.weight is not None:
            scale = scale * self.weight.view(-1, *[1] * (inputs.ndim - 2))
        return (values * scale).to(inputs.dtype)


def norm(width: int, groups: int | None, *, affine: bool = True) -> nn.Module:
    """Group norm; `PositionNorm` where there are no groups."""
    return PositionNorm(width, affine=affine) if groups is None else GroupNorm(groups, width, affine=affine)


class NormSwish(nn.Module):
    """A norm, then swish: one fused kernel under torch.compile."""

    def __init__(self, width: int, groups: int | None):
        super().__init__()
        self.norm = norm(width, groups)

    def forward(self, inputs: Tensor) -> Tensor:
        return F.silu(self.norm(inputs))


class ResBlock(nn.Module):
    """Norm, swish, convolution, twice, around a shortcut (1x1 convolution where the width changes)."""

    def __init__(self, rank: int, width_in: int, width_out: int, groups: int | None):
        super().__init__()
        self.norm1 = NormSwish(width_in, groups)
        self.conv1 = conv(rank, width_in, width_out, 3)
        self.norm2 = NormSwish(width_out, groups)
        self.conv2 = conv(rank, width_out, width_out, 3)
        self.shortcut = nn.Identity() if width_in == width_out else conv(rank, width_in, width_out, 1)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.conv2(self.norm2(self.conv1(self.norm1(inputs))))
        return self.shortcut(inputs) + hidden


class Attention(nn.Module):
    """Self-attention over all cells, with heads of 64 channels where those divide the width (VQGAN's has one head; as many parameters)."""

    def __init__(self, width: int, groups: int | None):
        super().__init__()
        self.heads = width // HEAD_WIDTH if width % HEAD_WIDTH == 0 else 1
        self.norm = norm(width, groups)
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, inputs: Tensor) -> Tensor:
        tokens = self.norm(inputs).flatten(2).transpose(1, 2)  # [B, N, C]
        queries, keys, values = self.qkv(tokens).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # each [B, heads, N, C / heads]
        mixed = F.scaled_dot_product_attention(queries, keys, values)
        return inputs + self.proj(mixed.transpose(1, 2).flatten(2)).transpose(1, 2).unflatten(2, inputs.shape[2:])


class Upsample(nn.Module):
    """Twice the size: nearest neighbour, then a 3x3 convolution."""

    def __init__(self, rank: int, width: int):
        super().__init__()
        self.conv = conv(rank, width, width, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.conv(F.interpolate(inputs, scale_factor=2.0, mode="nearest"))


class ShuffleUpsample(nn.Module):
    """Twice the size: a 3x3 convolution to 2^rank as many channels, laid out in space (https://arxiv.org/abs/1609.05158)."""

    def __init__(self, rank: int, width: int):
        super().__init__()
        self.conv = conv(rank, width, width * 2**rank, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        return depth_to_space(self.conv(inputs), 2)


class AdaptiveNorm(nn.Module):
    """GroupNorm whose scale and shift come from the latents' standard deviation and mean over the cells.

    The adaptive group normalization of MAGVIT-v2 (https://arxiv.org/abs/2310.05737), in the form Open-MAGVIT2 gives it.
    """

    def __init__(self, width: int, groups: int | None, latent_dim: int):
        super().__init__()
        self.norm = norm(width, groups, affine=False)
        self.scale = nn.Linear(latent_dim, width)
        self.shift = nn.Linear(latent_dim, width)

    def forward(self, inputs: Tensor, latents: Tensor) -> Tensor:
        """inputs: [B, C, *spatial]; latents: [B, N, D]."""
        variance, mean = latents.float().var(1, correction=0), latents.float().mean(1)
        shape = (*inputs.shape[:2], *[1] * (inputs.ndim - 2))
        return self.norm(inputs) * self.scale((variance + 1e-6).sqrt()).view(shape) + self.shift(mean).view(shape)


def check_size(name: str, sizes: tuple[int, ...], rank: int, stride: int) -> None:
    """Refuse inputs of another rank, or whose size is not a positive multiple of the stride.

    Raises:
        InputError: naming what was given and what would work.
    """
    if len(sizes) != rank:
        raise InputError(f"{name}: expected [B, C, *spatial] with {rank} spatial axes, got {len(sizes)}: {list(sizes)}")
    if any(size % stride or size == 0 for size in sizes):
        raise InputError(f"{name}: every spatial size must be a multiple of the stride {stride}, got {list(sizes)}; pad the input")
