"""Semantic losses: the reconstruction should mean to a teacher what the original means."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from tokkit.losses.base import Loss, Weight
from tokkit.losses.vision import VisionTeacher
from tokkit.registry import register

Share = Annotated[float, Field(ge=0, le=1)]


@register("loss", "semantic")
class Semantic(Loss):
    """Alignment of a frozen timm model's features of the original and of the reconstruction, at every place or of the mean over places.

    "cosine" is 1 - cos, as in ReTok's hierarchical semantic regularisation (https://github.com/zfu006/ReTok); "margin" is
    relu(1 - margin - cos), as in ResTok (https://arxiv.org/abs/2601.03955): features that are near enough are left alone.

    For pictures; grey ones are repeated to three channels.
    """

    def __init__(
        self,
        *,
        weight: Weight = 1.0,
        teacher: str = "vit_base_patch14_dinov2",
        weights: str = "pretrained",
        size: int | None = None,
        align: Literal["cosine", "margin"] = "cosine",
        margin: Share = 0.25,
        pooled: bool = False,
        tail: Share = 1.0,
    ):
        """
        Args:
            weight: what the training loop multiplies the loss with.
            teacher: name of a timm model.
            weights: "pretrained" for timm's own, downloaded once; a file in timm's format (safetensors, pth); or "random", for tests: it
                teaches nothing.
            size: pictures are scaled to size x size pixels first, for a teacher that takes other sizes than its own; None: its own.
            align: see above.
            margin: of "margin".
            pooled: compare the means over all places instead of place by place.
            tail: what a sample with all its tokens weighs against one with hardly any: 1 - (1 - tail) * k / N for k of N tokens that the
                quantizer `nested` kept. ReTok's weight falls as k grows, by a rule that it does not publish; this one is tokkit's.

        Raises:
            InputError: there is no such model, or its weights cannot be found or downloaded.
        """
        super().__init__()
        self.weight, self.align, self.margin, self.pooled, self.tail = weight, align, margin, pooled, tail
        self.teacher = VisionTeacher(teacher, weights, size)

    def forward(self, target: Tensor, reconstruction: Tensor) -> Tensor:
        return self.by_sample(target, reconstruction).mean()

    def of_prefixes(self, target: Tensor, reconstruction: Tensor, kept: Tensor) -> Tensor:
        return (self.by_sample(target, reconstruction) * (1 - (1 - self.tail) * kept)).mean()

    def by_sample(self, target: Tensor, reconstruction: Tensor) -> Tensor:
        """The un-weighted loss of each sample, [B]."""
        with torch.no_grad():
            wanted = self.features(target)
        similarity = F.cosine_similarity(self.features(reconstruction).float(), wanted.float(), dim=-1)
        distance = 1 - similarity if self.align == "cosine" else (1 - self.margin - similarity).relu()
        return distance.mean(1)

    def features(self, pictures: Tensor) -> Tensor:
        """The teacher's features of pictures in [-1, 1]: [B, places, D], or [B, 1, D] pooled."""
        found: Tensor = self.teacher(pictures)
        return found.mean(1, keepdim=True) if self.pooled else found
