"""Layers of the sound networks: convolutions with weight norm, and the Snake activation."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from tokkit.ops.snake import snake


def conv1d(
    width_in: int, width_out: int, kernel: int, *, stride: int = 1, dilation: int = 1, padding: int = 0, gain: float = 1.0
) -> nn.Conv1d:
    """A convolution with weight norm (https://arxiv.org/abs/1602.07868).

    It starts without bias and with weights of deviation `gain / sqrt(inputs)`, which keeps the variance at any width. DAC starts all of its
    weights with 0.02: much the same at its widths, but a tenth as wide a network would begin, and stay, near silence.
    """
    layer = nn.Conv1d(width_in, width_out, kernel, stride, padding, dilation)
    return started(layer, gain / (width_in * kernel) ** 0.5)


def conv_transpose1d(width_in: int, width_out: int, kernel: int, *, stride: int, padding: int = 0, output_padding: int = 0) -> nn.Module:
    """A transposed convolution with weight norm; each of its outputs has `kernel / stride` inputs a channel."""
    layer = nn.ConvTranspose1d(width_in, width_out, kernel, stride, padding, output_padding)
    return started(layer, (width_in * kernel / stride) ** -0.5)


def direction(layer: nn.Module) -> nn.Parameter:
    """The parameter behind a weight under weight norm: its direction."""
    return layer.get_parameter("parametrizations.weight.original1")


class Snake(nn.Module):
    """x + sin^2(alpha x) / alpha with an alpha for each channel, 1 at the start (https://arxiv.org/abs/2006.08195)."""

    def __init__(self, width: int):
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(width))

    def forward(self, inputs: Tensor) -> Tensor:
        """[B, C, T] -> the same shape and dtype."""
        return snake(inputs, self.alpha)


def started(layer: Any, deviation: float) -> Any:
    """A convolution with weights of this deviation, no bias, and weight norm."""
    nn.init.trunc_normal_(layer.weight, std=deviation, a=-2 * deviation, b=2 * deviation)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return weight_norm(layer)
