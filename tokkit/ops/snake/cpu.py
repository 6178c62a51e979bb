"""The activation and its derivative on any device, in torch."""

import torch
from torch import Tensor

from tokkit.ops.snake.reference import EPSILON


def snake_forward(x: Tensor, alpha: Tensor) -> Tensor:
    """[B, C, T] and [C] -> [B, C, T]."""
    slope = alpha.to(x.dtype)[:, None]
    return torch.addcmul(x, (x * slope).sin_().square_(), 1 / (slope + EPSILON))


def snake_backward(x: Tensor, alpha: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of x and, summed in fp32, of alpha."""
    slope = alpha.to(x.dtype)[:, None]
    doubled = (2 * x * slope).sin_()
    of_x = torch.addcmul(gradient, gradient, doubled)
    squared = (x * slope).sin_().square_()
    of_alpha = torch.addcmul(x * doubled, squared, 1 / (slope + EPSILON), value=-1) * gradient
    return of_x, (of_alpha.sum((0, 2), dtype=torch.promote_types(x.dtype, torch.float32)) / (alpha + EPSILON)).to(alpha.dtype)
