"""Augmentation of pictures: a small set of them, seen nearer and farther, in other colours, in other light and through noise."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from tokkit.data.base import Source
from tokkit.data.varied import Varied
from tokkit.errors import InputError
from tokkit.modalities.base import Modality
from tokkit.registry import register


@register("data", "varied_pictures")
class VariedPictures(Varied):
    """Another source's pictures, their training examples at random sizes, and by chance in other colours, in other light and with noise.

    A network that sees a thousand pictures hundreds of times learns their colours and textures; of others it then keeps less. What light
    pushes beyond black and white is cut off, which makes the even grounds that drawings have. Held-out samples, and whole ones, are as they
    are.
    """

    def __init__(
        self,
        *,
        of: Source,
        zoom: Annotated[float, Field(ge=1, le=4)] = 1.5,
        colors: Annotated[float, Field(ge=0, le=1)] = 0.5,
        light: Annotated[float, Field(ge=0, le=1)] = 0.25,
        contrast: Annotated[float, Field(ge=1)] = 4.0,
        noisy: Annotated[float, Field(ge=0, le=1)] = 0.1,
        noise: Annotated[float, Field(ge=0, le=1)] = 0.25,
    ):
        """
        Args:
            of: the source of the pictures, with the size of the examples.
            zoom: an example shows 1 / zoom to zoom times its size of the picture.
            colors: share of the examples whose channels change places, every other one as its negative too.
            light: share of the examples with more contrast.
            contrast: up to how many times as much, around a random level.
            noisy: share of the examples with noise.
            noise: the most that its standard deviation can be, in every pixel along one random colour.
        """
        super().__init__(of)
        self.zoom, self.colors, self.light, self.contrast, self.noisy, self.noise = zoom, colors, light, contrast, noisy, noise

    def check(self, modality: Modality) -> None:
        if modality.name != "image":
            raise InputError(f"the data source `varied_pictures` varies pictures, and the modality is {modality.name}")

    def plan(self, generator: torch.Generator) -> tuple[int, Callable[[Tensor], Tensor]]:
        size = round(self.size * self.zoom ** (2 * _uniform(generator) - 1))
        return size, lambda picture: self._varied(picture, generator)

    def _varied(self, picture: Tensor, generator: torch.Generator) -> Tensor:
        """[3, other, other] in [0, 1] as [3, size, size]."""
        if picture.shape[-1] != self.size:
            size = (self.size, self.size)
            picture = functional.interpolate(picture[None], size, mode="bilinear", antialias=True, align_corners=False)[0]
        if _uniform(generator) < self.colors:
            picture = picture[torch.randperm(3, generator=generator)]
            picture = 1 - picture if _uniform(generator) < 0.5 else picture
        if _uniform(generator) < self.light:
            level, gain = _uniform(generator), math.exp(_uniform(generator) * math.log(self.contrast))
            picture = (picture - level) * gain + level
        if _uniform(generator) < self.noisy:
            color = functional.normalize(torch.randn(3, 1, 1, generator=generator), dim=0) * 3**0.5
            grain = torch.randn(1, self.size, self.size, generator=generator)
            picture = picture + self.noise * _uniform(generator) * color * grain
        return picture.clamp(0, 1).contiguous()


def _uniform(generator: torch.Generator) -> float:
    return float(torch.rand((), generator=generator))
