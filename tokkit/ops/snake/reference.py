"""The activation as its paper has it, for autograd."""

from torch import Tensor

EPSILON = 1e-9
"""Added to the alpha that divides, as in DAC."""


def snake_reference(x: Tensor, alpha: Tensor) -> Tensor:
    """x + sin^2(alpha x) / alpha."""
    slope = alpha.reshape(-1, *[1] * (x.dim() - 2))
    return x + (slope * x).sin().square() / (slope + EPSILON)
