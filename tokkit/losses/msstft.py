"""Discriminators of complex spectrograms: DAC's of several bands, and EnCodec's of several scales."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from tokkit import dsp
from tokkit.losses.base import Discriminator
from tokkit.losses.mpd import evened
from tokkit.registry import register

BANDS = (0.0, 0.1, 0.25, 0.5, 0.75, 1.0)
Positive = Annotated[int, Field(ge=1)]


@register("discriminator", "mrd")
class MultiBand(Discriminator):
    """Multi-resolution discriminator of complex spectrograms, a stack of convolutions a band (DAC, https://arxiv.org/abs/2306.06546).

    Real and imaginary part are its two channels. Frames are centred on the sound, where DAC's own pads by (window - hop) / 2.
    """

    ranks = (1,)
    per_sample = True

    def __init__(self, *, channels: Positive = 1, windows: tuple[int, ...] = (2048, 1024, 512), width: Positive = 32):
        """
        Args:
            channels: of the sound.
            windows: in samples, one sub-discriminator each; the hop is a quarter of each.
            width: channels of every convolution.
        """
        super().__init__()
        self.members = nn.ModuleList(_Bands(channels, window, width) for window in windows)

    def forward(self, inputs: Tensor) -> list[list[Tensor]]:
        inputs = evened(inputs)
        return [member(inputs) for member in self.members]

    @classmethod
    def example_options(cls) -> dict[str, Any]:
        return {"windows": (64, 32), "width": 2}


@register("discriminator", "msstft")
class MultiScaleStft(Discriminator):
    """2D convolutions, dilated in time, over complex spectrograms of several scales (EnCodec, https://arxiv.org/abs/2210.13438)."""

    ranks = (1,)
    per_sample = True

    def __init__(self, *, channels: Positive = 1, windows: tuple[int, ...] = (2048, 1024, 512, 256, 128), width: Positive = 32):
        """
        Args:
            channels: of the sound.
            windows: in samples, one sub-discriminator each; the hop is a quarter of each.
            width: channels of every convolution.
        """
        super().__init__()
        self.members = nn.ModuleList(_Scale(channels, window, width) for window in windows)

    def forward(self, inputs: Tensor) -> list[list[Tensor]]:
        return [member(inputs) for member in self.members]

    @classmethod
    def example_options(cls) -> dict[str, Any]:
        return {"windows": (64, 32), "width": 2}


class _Bands(nn.Module):
    slope = 0.1

    def __init__(self, channels: int, window: int, width: int):
        super().__init__()
        self.window = window
        bins = window // 2 + 1
        self.edges = [(int(low * bins), int(high * bins)) for low, high in pairwise(BANDS)]
        self.bands = nn.ModuleList(
            nn.ModuleList(
                [
                    _conv(2 * channels, width, (3, 9)),
                    *[_conv(width, width, (3, 9), stride=(1, 2)) for _ in range(3)],
                    _conv(width, width, (3, 3)),
                ]
            )
            for _ in self.edges
        )
        self.logits = _conv(width, 1, (3, 3))

    def forward(self, inputs: Tensor) -> list[Tensor]:
        spectrum = _spectrum(inputs, self.window)
        maps, ends = [], []
        for (low, high), layers in zip(self.edges, self.bands, strict=True):
            hidden = spectrum[..., low:high]
            for layer in layers:  # type: ignore[attr-defined]
                hidden = F.leaky_relu(layer(hidden), self.slope)
                maps.append(hidden)
            ends.append(hidden)
        return [*maps, self.logits(torch.cat(ends, -1))]


class _Scale(nn.Module):
    slope = 0.2

    def __init__(self, channels: int, window: int, width: int):
        super().__init__()
        self.window = window
        self.layers = nn.ModuleList(
            [
                _conv(2 * channels, width, (3, 9)),
                *[_conv(width, width, (3, 9), stride=(1, 2), dilation=(dilation, 1)) for dilation in (1, 2, 4)],
                _conv(width, width, (3, 3)),
            ]
        )
        self.logits = _conv(width, 1, (3, 3))

    def forward(self, inputs: Tensor) -> list[Tensor]:
        hidden = _spectrum(inputs, self.window)
        maps = []
        for layer in self.layers:
            hidden = F.leaky_relu(layer(hidden), self.slope)
            maps.append(hidden)
        return [*maps, self.logits(hidden)]


def _conv(
    width_in: int, width_out: int, kernel: tuple[int, int], *, stride: tuple[int, int] = (1, 1), dilation: tuple[int, int] = (1, 1)
) -> nn.Module:
    padding = (dilation[0] * (kernel[0] // 2), kernel[1] // 2)
    return weight_norm(nn.Conv2d(width_in, width_out, kernel, stride, padding, dilation))


def _spectrum(inputs: Tensor, window: int) -> Tensor:
    """[B, C, T] -> [B, 2 C, frames, bins], real and imaginary parts, computed in fp32."""
    with torch.autocast(inputs.device.type, enabled=False):
        spectrum = torch.view_as_real(dsp.stft(inputs.float(), window, window // 4))  # [B, C, bins, frames, 2]
        return spectrum.permute(0, 1, 4, 3, 2).flatten(1, 2)
