"""Layers of the sound networks: convolutions with weight norm, and the Snake activation."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm


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
        output: Tensor = _Snake.apply(inputs, self.alpha)
        return output


class _Snake(torch.autograd.Function):
    """Keeps its input alone for the backward pass, a third of what autograd would."""

    @staticmethod
    def forward(context: Any, inputs: Tensor, alpha: Tensor) -> Tensor:
        context.save_for_backward(inputs, alpha)
        scale = alpha.to(inputs.dtype)[:, None]
        return torch.addcmul(inputs, (inputs * scale).sin_().square_(), 1 / (scale + 1e-9))

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        inputs, alpha = context.saved_tensors
        (gradient,) = gradients
        scale = alpha.to(inputs.dtype)[:, None]
        doubled = (2 * inputs * scale).sin_()
        of_inputs = torch.addcmul(gradient, gradient, doubled)
        squared = (inputs * scale).sin_().square_()
        of_alpha = torch.addcmul(inputs * doubled, squared, 1 / (scale + 1e-9), value=-1) * gradient
        return of_inputs, (of_alpha.sum((0, 2), dtype=torch.float32) / (alpha + 1e-9)).to(alpha.dtype)


def started(layer: Any, deviation: float) -> Any:
    """A convolution with weights of this deviation, no bias, and weight norm."""
    nn.init.trunc_normal_(layer.weight, std=deviation, a=-2 * deviation, b=2 * deviation)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return weight_norm(layer)
