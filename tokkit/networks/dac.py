"""The convolutional encoder and decoder of the Descript Audio Codec (https://arxiv.org/abs/2306.06546). Not causal."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Annotated, Any

from pydantic import Field
from torch import Tensor, nn

from tokkit.errors import InputError
from tokkit.networks.base import Decoder, Encoder, Grid, Latents
from tokkit.networks.layers import check_size
from tokkit.networks.snake import Snake, conv1d, conv_transpose1d, direction
from tokkit.registry import register

DILATIONS = (1, 3, 9)
BRANCH_GAIN = 0.3
"""Of the last convolution of a residual unit, so that a dozen units after each other add up to little at the start."""
Positive = Annotated[int, Field(ge=1)]


@register("encoder", "dac")
class DacEncoder(Encoder):
    """Residual units of dilated convolutions and Snakes between strided convolutions (https://arxiv.org/abs/2306.06546).

    Strides (2, 4, 8, 8) at 44.1 kHz give 86.1 frames a second, (2, 4, 5, 8) 75 at 24 kHz and 50 at 16 kHz.

    Attributes:
        context: frames before and after one that it depends on: what chunks of a long sound must overlap.
    """

    rank = 1

    def __init__(
        self,
        *,
        channels: Positive = 1,
        width: Positive = 64,
        strides: tuple[int, ...] = (2, 4, 5, 8),
        dim: Positive | None = None,
    ):
        """
        Args:
            channels: of the input.
            width: channels at the full rate; they double with every stride.
            strides: the first at the full rate; their product is the number of samples of a frame.
            dim: D of the latents; the channels of the last level when not given, as in DAC.

        Raises:
            InputError: no strides, or one below 2.
        """
        super().__init__()
        _check_strides("encoder dac", strides)
        self.channels, self.stride = channels, math.prod(strides)
        widths = [width * 2**level for level in range(len(strides) + 1)]
        self.dim = dim or widths[-1]
        layers: list[nn.Module] = [conv1d(channels, width, 7, padding=3)]
        for level, stride in enumerate(strides):
            layers.extend(ResidualUnit(widths[level], dilation) for dilation in DILATIONS)
            layers.append(Snake(widths[level]))
            layers.append(conv1d(widths[level], widths[level + 1], 2 * stride, stride=stride, padding=math.ceil(stride / 2)))
        layers += [Snake(widths[-1]), conv1d(widths[-1], self.dim, 3, padding=1)]
        self.layers = nn.Sequential(*layers)
        self.context = _encoder_context(strides)

    def forward(self, inputs: Tensor) -> Latents:
        check_size("encoder dac", inputs.shape[2:], 1, self.stride)
        latents = self.layers(inputs)
        return Latents(latents.transpose(1, 2), (latents.shape[2],))

    @classmethod
    def example_options(cls) -> dict[str, Any]:
        return {"width": 4, "strides": (2, 5), "dim": 12}


@register("decoder", "dac")
class DacDecoder(Decoder):
    """The mirror of the `dac` encoder, of transposed convolutions (https://arxiv.org/abs/2306.06546).

    Attributes:
        context: frames before and after one that its samples depend on.
    """

    rank = 1

    def __init__(
        self,
        *,
        channels: Positive = 1,
        width: Positive = 1536,
        strides: tuple[int, ...] = (2, 4, 5, 8),
        dim: Positive = 1024,
    ):
        """
        Args:
            channels: of the output.
            width: channels at the rate of the frames; they halve with every stride.
            strides: those of the encoder, in its order.
            dim: D of the latents.

        Raises:
            InputError: no strides, one below 2, or a width that cannot be halved as often.
        """
        super().__init__()
        _check_strides("decoder dac", strides)
        if width % 2 ** len(strides):
            raise InputError(f"decoder dac: width {width} cannot be halved {len(strides)} times; use a multiple of {2 ** len(strides)}")
        self.channels, self.dim, self.stride = channels, dim, math.prod(strides)
        widths = [width // 2**level for level in range(len(strides) + 1)]
        layers: list[nn.Module] = [conv1d(dim, width, 7, padding=3)]
        for level, stride in enumerate(reversed(strides)):
            up = {"stride": stride, "padding": math.ceil(stride / 2), "output_padding": stride % 2}
            layers += [Snake(widths[level]), conv_transpose1d(widths[level], widths[level + 1], 2 * stride, **up)]
            layers.extend(ResidualUnit(widths[level + 1], dilation) for dilation in DILATIONS)
        self.layers = nn.Sequential(*layers, Snake(widths[-1]), conv1d(widths[-1], channels, 7, padding=3), nn.Tanh())
        self.context = _decoder_context(strides)

    def forward(self, latents: Tensor, grid: Grid) -> Tensor:
        output: Tensor = self.layers(latents.transpose(1, 2))
        return output

    @property
    def last_layer(self) -> nn.Parameter:
        return direction(self.layers[-2])

    @classmethod
    def example_options(cls) -> dict[str, Any]:
        return {"width": 16, "strides": (2, 5), "dim": 12}


class ResidualUnit(nn.Module):
    """Snake, dilated convolution over 7, Snake, convolution over 1, around the identity."""

    def __init__(self, width: int, dilation: int):
        super().__init__()
        self.layers = nn.Sequential(
            Snake(width),
            conv1d(width, width, 7, dilation=dilation, padding=3 * dilation),
            Snake(width),
            conv1d(width, width, 1, gain=BRANCH_GAIN),
        )

    def forward(self, inputs: Tensor) -> Tensor:
        output: Tensor = inputs + self.layers(inputs)
        return output


def _check_strides(network: str, strides: Sequence[int]) -> None:
    if not strides or min(strides) < 2:
        raise InputError(f"{network}: strides must be one or more numbers of at least 2, got {tuple(strides)}")


def _units(at: Fraction) -> Iterator[Fraction]:
    """How far each residual unit of a level looks to one side, where a step of the level is `at` frames."""
    return (3 * dilation * at for dilation in DILATIONS)


def _encoder_context(strides: Sequence[int]) -> int:
    step = Fraction(1, math.prod(strides))
    reach = 3 * step
    for stride in strides:
        reach += sum(_units(step), Fraction()) + math.ceil(stride / 2) * step
        step *= stride
    return math.ceil(reach + step)


def _decoder_context(strides: Sequence[int]) -> int:
    step = Fraction(1)
    reach = 3 * step
    for stride in reversed(strides):
        reach += step  # a transposed convolution over 2 * stride mixes two neighbouring inputs
        step /= stride
        reach += sum(_units(step), Fraction())
    return math.ceil(reach + 3 * step)
