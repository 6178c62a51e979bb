"""A field from three planes of features (VAT, LRM)."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from tokkit.errors import InputError
from tokkit.networks.base import FieldDecoder, Grid
from tokkit.networks.layers import ResBlock, Upsample
from tokkit.networks.sets import CrossBlock, Fourier, SelfBlocks
from tokkit.networks.transformer import learned_tokens, resolve_shape
from tokkit.registry import register


class FieldHead(nn.Module):
    """Features of a point and the Fourier features of its place to the values there, through three layers."""

    def __init__(self, features: int, hidden: int, frequencies: int, layers: int):
        super().__init__()
        self.fourier = Fourier(frequencies)
        self.enter = nn.Linear(features + self.fourier.width, hidden)
        self.middle = nn.Linear(hidden, hidden)
        self.leave = nn.Linear(hidden, layers)

    def forward(self, features: Tensor, points: Tensor) -> Tensor:
        """[B, M, features] and places [B, M, 3] -> [B, M, layers]."""
        hidden = F.silu(self.enter(torch.cat([features, self.fourier(points).to(features.dtype)], -1)))
        return self.leave(hidden + F.silu(self.middle(hidden)))


@register("decoder", "triplane")
class TriplaneDecoder(FieldDecoder):
    """Plane tokens attend to the latents, become three feature planes through convolutions, and a point reads its place in each of them.

    The decoder of VAT (https://arxiv.org/abs/2412.02202) as its page describes it: transformer, triplane, convolutional upsampling,
    occupancy by a perceptron. D is the width. Takes up to N latents.
    """

    def __init__(
        self,
        *,
        num_tokens: Annotated[int, Field(ge=1)] = 256,
        layers: Annotated[int, Field(ge=1)] = 1,
        width: Annotated[int, Field(ge=1)] = 384,
        depth: Annotated[int, Field(ge=1)] = 8,
        heads: Annotated[int, Field(ge=1)] = 6,
        cells: Annotated[int, Field(ge=1)] = 16,
        upsamplings: Annotated[int, Field(ge=0)] = 2,
        features: Annotated[int, Field(ge=8)] = 48,
    ):
        """
        Args:
            num_tokens: N, the most latents it can take.
            layers: values of the field at a point: the modality's layers.
            width: D.
            depth: number of self-attention blocks over the latents and the plane tokens together.
            heads: attention heads.
            cells: tokens along a side of a plane.
            upsamplings: how often the planes' sides are doubled.
            features: channels of the finished planes, a multiple of 8.

        Raises:
            InputError: the heads do not get an even number of channels each.
        """
        super().__init__()
        shape = resolve_shape("small", width, depth, heads)
        if features % 8:
            raise InputError(f"decoder triplane: features={features} must be a multiple of 8")
        self.channels, self.dim, self.rank, self.stride = layers, width, 1, 1
        self.num_tokens, self.layers, self.cells = num_tokens, layers, cells
        self.positions = learned_tokens(num_tokens, width)
        self.planes = learned_tokens(3 * cells**2, width)
        self.attend = CrossBlock(width, width, heads)
        self.work = SelfBlocks(shape)
        widths = [features * 2**level for level in range(upsamplings, -1, -1)]
        self.project = nn.Linear(width, widths[0])
        steps: list[nn.Module] = [ResBlock(2, widths[0], widths[0], 8)]
        for before, after in pairwise(widths):
            steps += [Upsample(2, before), ResBlock(2, before, after, 8)]
        self.upsample = nn.Sequential(*steps)
        self.head = FieldHead(3 * features, 128, 6, layers)

    def forward(self, latents: Tensor, grid: Grid) -> Tensor:
        given = latents.shape[1]
        if given > self.num_tokens:
            raise InputError(f"decoder triplane: got {given} latents, and it was built for at most num_tokens={self.num_tokens}")
        latents = latents + self.positions[:given].to(latents.dtype)
        planes = self.attend(self.planes.to(latents.dtype).expand(latents.shape[0], -1, -1), latents)
        planes = self.project(self.work(torch.cat([latents, planes], 1))[:, given:])
        maps = planes.unflatten(1, (3, self.cells, self.cells)).movedim(-1, 2).flatten(0, 1)  # [3B, C, cells, cells]
        return self.upsample(maps).unflatten(0, (-1, 3))

    def query(self, prepared: Tensor, points: Tensor) -> Tensor:
        """Prepared: [B, 3, features, R, R]."""
        places = torch.stack([points[..., [0, 1]], points[..., [0, 2]], points[..., [1, 2]]], 1).flatten(0, 1).float()
        read = F.grid_sample(prepared.flatten(0, 1).float(), places.unsqueeze(1), align_corners=False, padding_mode="border")
        features = read.squeeze(2).unflatten(0, (-1, 3)).flatten(1, 2).transpose(1, 2)  # [B, M, 3 * features]
        return self.head(features.to(prepared.dtype), points)

    @property
    def last_layer(self) -> nn.Parameter:
        return self.head.leave.get_parameter("weight")

    @classmethod
    def example_options(cls) -> dict[str, Any]:
        return {"num_tokens": 4, "width": 16, "depth": 1, "heads": 2, "cells": 4, "upsamplings": 1, "features": 8}
