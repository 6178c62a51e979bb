"""Alignment of latents with a vision model: latents that mean something are easier to generate."""

from __future__ import annotations

import math
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from tokkit.errors import InputError
from tokkit.losses.base import Loss, TokenizerParts, Weight
from tokkit.losses.vision import VisionTeacher
from tokkit.output import TokenizerOutput
from tokkit.registry import register

Share = Annotated[float, Field(ge=0, le=1)]


@register("loss", "align")
class Align(Loss):
    """Latents z, mapped linearly, near a frozen timm model's features f of the original (VA-VAE, https://arxiv.org/abs/2501.01423).

    The sum of two terms that leave alone what is near enough: mean relu(1 - margin - cos(z_i, f_i)) over places i, and mean
    relu(|cos(z_i, z_j) - cos(f_i, f_j)| - distance_margin) over pairs of places of a sample. With `pooled` a sample's mean stands for it,
    and the pairs are those of the batch: for latents that belong to no place.

    The latents are those that the quantizer gets. VA-VAE scales the loss by the ratio of gradient norms, which is not done here.
    """

    def __init__(
        self,
        *,
        weight: Weight = 0.1,
        teacher: str = "vit_base_patch14_dinov2",
        weights: str = "pretrained",
        size: int | None = 224,
        margin: Share = 0.5,
        distance_margin: Share | None = 0.25,
        pooled: bool = False,
    ):
        """
        Args:
            weight: what the training loop multiplies the loss with.
            teacher, weights, size: as of the loss `semantic`.
            margin: of the first term.
            distance_margin: of the second; None leaves it out. Pooled and without it: ResTok's loss of its encoder
                (https://arxiv.org/abs/2601.03955), with a margin of 0.25.
            pooled: see above.

        Raises:
            InputError: there is no such model, or its weights cannot be found or downloaded.
        """
        super().__init__()
        self.weight, self.margin, self.distance_margin, self.pooled = weight, margin, distance_margin, pooled
        self.teacher = VisionTeacher(teacher, weights, size)
        self.project: nn.Module = nn.Identity()

    def attach(self, parts: TokenizerParts) -> None:
        self.project = nn.Linear(parts.dim, self.teacher.dim)

    def of_output(self, target: Tensor, reconstruction: Tensor, output: TokenizerOutput) -> Tensor:
        """
        Raises:
            InputError: there is not one latent a cell, and `pooled` is not set.
        """
        assert output.latents is not None
        latents, grid = output.latents.float(), output.grid
        if self.pooled:
            with torch.no_grad():
                wanted = self.teacher(target).float().mean(1).unsqueeze(0)
            found = self.project(latents.mean(1)).unsqueeze(0)
        else:
            if latents.shape[1] != math.prod(grid):
                raise InputError(f"loss align: {latents.shape[1]} latents have no places on a grid of {list(grid)}; set pooled: true")
            with torch.no_grad():
                wanted = self.teacher.on_grid(target, grid).float()
            found = self.project(latents)
        loss = margin_cosine(found, wanted, self.margin)
        return loss if self.distance_margin is None else loss + margin_distances(found, wanted, self.distance_margin)


def margin_cosine(found: Tensor, wanted: Tensor, margin: float) -> Tensor:
    """Mean of relu(1 - margin - cos) of the vectors of [B, N, D] and their partners."""
    return (1 - margin - F.cosine_similarity(found, wanted, dim=-1)).relu().mean()


def margin_distances(found: Tensor, wanted: Tensor, margin: float) -> Tensor:
    """Mean, over pairs of the N vectors of a sample, of relu(|difference of their cosines in [B, N, D] and [B, N, D']| - margin)."""
    difference = cosines(found) - cosines(wanted)
    return (difference.abs() - margin).relu().mean()


def cosines(vectors: Tensor) -> Tensor:
    """[..., N, D] -> [..., N, N]."""
    unit = F.normalize(vectors, dim=-1)
    return unit @ unit.transpose(-1, -2)
