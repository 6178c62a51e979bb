"""The multi-period discriminator of HiFi-GAN (https://arxiv.org/abs/2010.05646), as DAC uses it."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Any

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from tokkit.losses.base import Discriminator
from tokkit.registry import register

SLOPE = 0.1


@register("discriminator", "mpd")
class MultiPeriod(Discriminator):
    """For each period p, 2D convolutions over the sound laid out in rows of p samples (https://arxiv.org/abs/2010.05646)."""

    ranks = (1,)
    per_sample = True

    def __init__(
        self,
        *,
        channels: Annotated[int, Field(ge=1)] = 1,
        periods: tuple[int, ...] = (2, 3, 5, 7, 11),
        width: Annotated[int, Field(ge=1)] = 32,
    ):
        """
        Args:
            channels: of the sound.
            periods: one sub-discriminator each; primes.
            width: channels of the first convolution; the next have 4, 16, 32 and 32 times as many.
        """
        super().__init__()
        self.members = nn.ModuleList(_Period(channels, period, width) for period in periods)

    def forward(self, inputs: Tensor) -> list[list[Tensor]]:
        inputs = evened(inputs)
        return [member(inputs) for member in self.members]

    @classmethod
    def example_options(cls) -> dict[str, Any]:
        return {"periods": (2, 3), "width": 2}


class _Period(nn.Module):
    def __init__(self, channels: int, period: int, width: int):
        super().__init__()
        self.period = period
        widths = [channels, width, 4 * width, 16 * width, 32 * width, 32 * width]
        self.layers = nn.ModuleList(
            weight_norm(nn.Conv2d(below, this, (5, 1), (3 if level < 4 else 1, 1), (2, 0)))
            for level, (below, this) in enumerate(pairwise(widths))
        )
        self.logits = weight_norm(nn.Conv2d(widths[-1], 1, (3, 1), padding=(1, 0)))

    def forward(self, inputs: Tensor) -> list[Tensor]:
        missing = -inputs.shape[-1] % self.period
        padded = F.pad(inputs, (0, missing), "reflect" if missing < inputs.shape[-1] else "replicate")
        hidden = padded.unflatten(-1, (-1, self.period))
        maps = []
        for layer in self.layers:
            hidden = F.leaky_relu(layer(hidden), SLOPE)
            maps.append(hidden)
        return [*maps, self.logits(hidden)]


def evened(inputs: Tensor) -> Tensor:
    """Each sound without its mean and at a peak of 0.8, as DAC shows them to its discriminators: loudness gives nothing away."""
    centred = inputs - inputs.mean(-1, keepdim=True)
    return 0.8 * centred / (centred.abs().amax((1, 2), keepdim=True) + 1e-9)
