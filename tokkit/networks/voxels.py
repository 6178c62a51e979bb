"""Point clouds to latents on a coarse grid of cells, and a field from such a grid: local, so it learns from few shapes."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from tokkit.errors import InputError
from tokkit.networks.base import Encoder, FieldDecoder, Grid, Latents
from tokkit.networks.layers import ResBlock, check_size, conv, depth_to_space
from tokkit.networks.transformer import Transformer, resolve_shape
from tokkit.networks.triplane import FieldHead
from tokkit.registry import register


@register("encoder", "voxels")
class VoxelsEncoder(Encoder):
    """Points are gathered in small cells, convolved down to `cells` along a side, and the cells look at each other in a transformer.

    The encoder of convolutional occupancy networks (https://arxiv.org/abs/2003.04618) with attention at its bottom. D is the width; the
    grid is (cells, cells, cells).
    """

    def __init__(
        self,
        *,
        cells: Annotated[int, Field(ge=1)] = 8,
        downsamplings: Annotated[int, Field(ge=0)] = 2,
        channels: Annotated[int, Field(ge=3)] = 6,
        features: Annotated[int, Field(ge=8)] = 32,
        width: Annotated[int, Field(ge=1)] = 256,
        depth: Annotated[int, Field(ge=1)] = 6,
        heads: Annotated[int, Field(ge=1)] = 8,
    ):
        """
        Args:
            cells: along a side; N = cells^3.
            downsamplings: how often the side is halved to get there: points are gathered in cells * 2^downsamplings along a side.
            channels: of a point: its place, then anything (normal, group).
            features: channels of the finest grid, a multiple of 8; doubled where the side is halved.
            width: D, of the transformer.
            depth: number of its blocks.
            heads: its attention heads.

        Raises:
            InputError: the heads do not get an even number of channels each, or `features` is no multiple of 8.
        """
        super().__init__()
        shape = resolve_shape("small", width, depth, heads)
        _check_features("encoder voxels", features)
        self.channels, self.dim, self.rank, self.stride = channels, width, 1, 1
        self.cells, self.fine = cells, cells * 2**downsamplings
        self.embed = nn.Sequential(nn.Linear(channels + 3, 2 * features), nn.SiLU(), nn.Linear(2 * features, features))
        self.merge = conv(3, features + 1, features, 1)
        steps: list[nn.Module] = [ResBlock(3, features, features, 8)]
        for level in range(downsamplings):
            wide = features * 2**level
            steps += [conv(3, wide, 2 * wide, 3, stride=2), ResBlock(3, 2 * wide, 2 * wide, 8)]
        self.downsample = nn.Sequential(*steps)
        self.project = nn.Linear(features * 2**downsamplings, width)
        self.transformer = Transformer(shape)

    def forward(self, inputs: Tensor) -> Latents:
        check_size("encoder voxels", inputs.shape[2:], self.rank, self.stride)
        rows = inputs.transpose(1, 2)
        scaled = (rows[..., :3].float() + 1) * (self.fine / 2)
        cell = scaled.floor().clamp(0, self.fine - 1)
        within = (scaled - cell) * 2 - 1
        index = (cell[..., 0] * self.fine + cell[..., 1]) * self.fine + cell[..., 2]
        features = self.embed(torch.cat([rows, within.to(rows.dtype)], -1))
        grid = (self.cells,) * 3
        cells = self.downsample(self.merge(self._gather(features.float(), index.long()).to(features.dtype)))
        tokens = self.project(cells.flatten(2).transpose(1, 2))
        return Latents(self.transformer(tokens, grid), grid)

    def _gather(self, features: Tensor, index: Tensor) -> Tensor:
        """Features of points [B, P, C] at cells [B, P] -> [B, C + 1, fine, fine, fine]: their mean, and whether there is a point."""
        batch, _, width = features.shape
        # One sum for the features and the number of points: at fp32 the fine grid is the largest tensor of a training step.
        rows = torch.cat([features, torch.ones_like(features[..., :1])], -1)
        sums = torch.zeros(batch, self.fine**3, width + 1, device=features.device).scatter_add(1, index.unsqueeze(-1).expand_as(rows), rows)
        count = sums[..., -1:]
        gathered = torch.cat([sums[..., :-1] / count.clamp(min=1), (count > 0).float()], -1)
        return gathered.transpose(1, 2).unflatten(2, (self.fine,) * 3)

    @classmethod
    def example_options(cls) -> dict[str, Any]:
        return {"cells": 2, "downsamplings": 1, "features": 8, "width": 16, "depth": 1, "heads": 2}


class Unfold(nn.Module):
    """Twice the side: every cell becomes eight by one linear map. A third of the work of a convolution at the doubled side."""

    def __init__(self, width_in: int, width_out: int):
        super().__init__()
        self.spread = conv(3, width_in, 8 * width_out, 1)

    def forward(self, inputs: Tensor) -> Tensor:
        return depth_to_space(self.spread(inputs), 2)


@register("decoder", "volume")
class VolumeDecoder(FieldDecoder):
    """Latents on a grid of cells through a transformer and convolutions to a finer grid of features, which points read in between.

    The decoder of convolutional occupancy networks (https://arxiv.org/abs/2003.04618) with attention at its top. D is the width.
    """

    def __init__(
        self,
        *,
        layers: Annotated[int, Field(ge=1)] = 1,
        upsamplings: Annotated[int, Field(ge=0)] = 2,
        features: Annotated[int, Field(ge=8)] = 32,
        width: Annotated[int, Field(ge=1)] = 256,
        depth: Annotated[int, Field(ge=1)] = 6,
        heads: Annotated[int, Field(ge=1)] = 8,
        hidden: Annotated[int, Field(ge=1)] = 128,
    ):
        """
        Args:
            layers: values of the field at a point: the modality's layers.
            upsamplings: how often the side of the grid is doubled.
            features: channels of the finest grid, a multiple of 8; doubled with every coarser one.
            width: D, of the transformer.
            depth: number of its blocks.
            heads: its attention heads.
            hidden: width of the perceptron at a point.

        Raises:
            InputError: the heads do not get an even number of channels each, or `features` is no multiple of 8.
        """
        super().__init__()
        shape = resolve_shape("small", width, depth, heads)
        _check_features("decoder volume", features)
        self.channels, self.dim, self.rank, self.stride = layers, width, 1, 1
        self.layers = layers
        self.transformer = Transformer(shape)
        widths = [features * 2**level for level in range(upsamplings, -1, -1)]
        self.project = nn.Linear(width, widths[0])
        steps: list[nn.Module] = [ResBlock(3, widths[0], widths[0], 8)]
        for before, after in pairwise(widths):
            steps += [Unfold(before, after), ResBlock(3, after, after, 8)]
        self.upsample = nn.Sequential(*steps)
        self.head = FieldHead(features, hidden, 7, layers)

    def forward(self, latents: Tensor, grid: Grid) -> Tensor:
        if len(grid) != 3 or latents.shape[1] != math.prod(grid):
            raise InputError(f"decoder volume: {latents.shape[1]} latents do not fill the grid {list(grid)}; use the encoder `voxels`")
        cells = self.project(self.transformer(latents, grid)).transpose(1, 2).unflatten(2, grid)
        return self.upsample(cells)

    def query(self, prepared: Tensor, points: Tensor) -> Tensor:
        """Prepared: [B, features, X, Y, Z]."""
        if torch.compiler.is_compiling():
            read = read_cells(prepared, points)
        else:
            places = points.float().flip(-1)[:, :, None, None]  # grid_sample wants the last axis first
            read = F.grid_sample(prepared.float(), places, align_corners=False, padding_mode="border").flatten(2).transpose(1, 2)
        return self.head(read.to(prepared.dtype), points)

    @property
    def last_layer(self) -> nn.Parameter:
        return self.head.leave.get_parameter("weight")

    @classmethod
    def example_options(cls) -> dict[str, Any]:
        return {"upsamplings": 1, "features": 8, "width": 16, "depth": 1, "heads": 2, "hidden": 16}


def read_cells(volume: Tensor, points: Tensor) -> Tensor:
    """What `grid_sample` reads between the middles of cells, for the compiler.

    `grid_sample` adds the gradients of a point's channels at places that lie a whole grid apart, and the compiler leaves it alone. Here the
    channels of a cell lie side by side, forward and backward, and the eight cells of a point are never stored.

    Args:
        volume: [B, C, X, Y, Z].
        points: [B, M, 3] in [-1, 1].

    Returns:
        [B, M, C] float32.
    """
    _, y, z = volume.shape[2:]
    last = torch.tensor(volume.shape[2:], device=points.device) - 1
    place = torch.minimum(((points.float() + 1) * (last + 1) - 1).clamp(min=0) / 2, last)
    low = place.floor()
    share = torch.stack([low + 1 - place, place - low], -1)  # [B, M, 3, 2]
    pair = torch.stack([low.long(), torch.minimum(low.long() + 1, last)], -1)
    cells = ((pair[:, :, 0, :, None, None] * y + pair[:, :, 1, None, :, None]) * z + pair[:, :, 2, None, None, :]).flatten(1)  # [B, 8M]
    weights = (share[:, :, 0, :, None, None] * share[:, :, 1, None, :, None] * share[:, :, 2, None, None, :]).flatten(2)  # [B, M, 8]
    rows = volume.flatten(2).transpose(1, 2).float()
    read = rows.gather(1, cells.unsqueeze(-1).expand(-1, -1, rows.shape[-1])).unflatten(1, (-1, 8))
    return (read * weights.unsqueeze(-1)).sum(2)


def _check_features(name: str, features: int) -> None:
    if features % 8:
        raise InputError(f"{name}: features={features} must be a multiple of 8")
