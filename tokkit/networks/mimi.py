"""The causal encoder and decoder of Mimi: a SEANet and a transformer that look at the past only (https://arxiv.org/abs/2410.00037)."""

from __future__ import annotations

import math
from typing import Annotated, Any

from pydantic import Field
from torch import Tensor, nn

from tokkit.errors import InputError
from tokkit.networks.base import Grid, Latents
from tokkit.networks.causal import CausalConv, CausalDecoder, CausalEncoder, CausalTransformer, CausalUpsample, Chain, State
from tokkit.networks.layers import check_size
from tokkit.networks.snake import direction
from tokkit.registry import register

Positive = Annotated[int, Field(ge=1)]
NonNegative = Annotated[int, Field(ge=0)]
BRANCH_GAIN = 0.3


@register("encoder", "mimi")
class MimiEncoder(CausalEncoder):
    """Causal strided convolutions (SEANet), a causal transformer, and a last strided convolution (https://arxiv.org/abs/2410.00037).

    At 24 kHz the strides (4, 5, 6, 8) with `resample` 2, 1 or strides (4, 5, 6, 4) with 1 give 12.5, 25 or 50 frames a second. One frame of
    sound is all that it waits for.
    """

    rank = 1

    def __init__(
        self,
        *,
        channels: Positive = 1,
        width: Positive = 64,
        strides: tuple[int, ...] = (4, 5, 6, 8),
        resample: Positive = 2,
        dim: Positive = 512,
        depth: NonNegative = 8,
        heads: Positive = 8,
        context: Positive = 250,
    ):
        """
        Args:
            channels: of the input.
            width: channels at the full rate; they double with every stride.
            strides: of the convolutions, the first at the full rate.
            resample: stride of the convolution behind the transformer; 1 leaves it out.
            dim: D of the latents, and the width of the transformer.
            depth: layers of the transformer.
            heads: of its attention.
            context: frames (before `resample`) that each of its layers looks back.

        Raises:
            InputError: strides below 2, or heads that do not divide `dim` evenly.
        """
        super().__init__()
        _check_strides("encoder mimi", strides)
        self.channels, self.dim, self.stride = channels, dim, math.prod(strides) * resample
        widths = [width * 2**level for level in range(len(strides) + 1)]
        layers: list[nn.Module] = [CausalConv(channels, width, 7)]
        for level, stride in enumerate(strides):
            down = CausalConv(widths[level], widths[level + 1], 2 * stride, stride=stride)
            layers += [ResidualUnit(widths[level]), nn.ELU(), down]
        layers += [nn.ELU(), CausalConv(widths[-1], dim, 3), CausalTransformer(dim, depth, heads, context)]
        if resample > 1:
            layers.append(CausalConv(dim, dim, 2 * resample, stride=resample, bias=False))
        self.layers = Chain(*layers)

    def forward(self, inputs: Tensor) -> Latents:
        return self._encode(inputs, None)

    def step(self, inputs: Tensor, state: State) -> Latents:
        return self._encode(inputs, state)

    def _encode(self, inputs: Tensor, state: State | None) -> Latents:
        check_size("encoder mimi", inputs.shape[2:], 1, self.stride)
        latents = self.layers(inputs, state)
        return Latents(latents.transpose(1, 2), (latents.shape[2],))

    @classmethod
    def example_options(cls) -> dict[str, Any]:
        return {"width": 4, "strides": (2, 3), "dim": 8, "depth": 2, "heads": 2, "context": 3}


@register("decoder", "mimi")
class MimiDecoder(CausalDecoder):
    """The mirror of the `mimi` encoder (https://arxiv.org/abs/2410.00037)."""

    rank = 1

    def __init__(
        self,
        *,
        channels: Positive = 1,
        width: Positive = 64,
        strides: tuple[int, ...] = (4, 5, 6, 8),
        resample: Positive = 2,
        dim: Positive = 512,
        depth: NonNegative = 8,
        heads: Positive = 8,
        context: Positive = 250,
    ):
        """
        Args:
            channels: of the output.
            width: channels at the full rate.
            strides, resample: those of the encoder.
            dim: D of the latents, and the width of the transformer.
            depth, heads, context: of the transformer.

        Raises:
            InputError: strides below 2, or heads that do not divide `dim` evenly.
        """
        super().__init__()
        _check_strides("decoder mimi", strides)
        self.channels, self.dim, self.stride = channels, dim, math.prod(strides) * resample
        widths = [width * 2**level for level in reversed(range(len(strides) + 1))]
        layers: list[nn.Module] = [CausalUpsample(dim, dim, resample, groups=dim, bias=False)] if resample > 1 else []
        layers += [CausalTransformer(dim, depth, heads, context), CausalConv(dim, widths[0], 7)]
        for level, stride in enumerate(reversed(strides)):
            layers += [nn.ELU(), CausalUpsample(widths[level], widths[level + 1], stride), ResidualUnit(widths[level + 1])]
        self.layers = Chain(*layers, nn.ELU(), CausalConv(widths[-1], channels, 3))

    def forward(self, latents: Tensor, grid: Grid) -> Tensor:
        output: Tensor = self.layers(latents.transpose(1, 2))
        return output

    def step(self, latents: Tensor, state: State, grid: Grid | None = None) -> Tensor:
        output: Tensor = self.layers(latents.transpose(1, 2), state)
        return output

    @property
    def last_layer(self) -> nn.Parameter:
        return direction(self.layers.layers[-1].get_submodule("conv"))

    @classmethod
    def example_options(cls) -> dict[str, Any]:
        return MimiEncoder.example_options()


class ResidualUnit(nn.Module):
    """ELU, causal convolution over 3 to half the width, ELU, convolution over 1 back, around the identity."""

    def __init__(self, width: int):
        super().__init__()
        hidden = max(1, width // 2)
        self.layers = Chain(nn.ELU(), CausalConv(width, hidden, 3), nn.ELU(), CausalConv(hidden, width, 1, gain=BRANCH_GAIN))

    def forward(self, inputs: Tensor, state: State | None = None) -> Tensor:
        output: Tensor = inputs + self.layers(inputs, state)
        return output


def _check_strides(network: str, strides: tuple[int, ...]) -> None:
    if not strides or min(strides) < 2:
        raise InputError(f"{network}: strides must be one or more numbers of at least 2, got {strides}")
