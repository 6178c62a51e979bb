"""Rectified flow: straight paths from data to noise, and the ways back along a velocity field. Knows no network.

x_sigma = sigma * noise + (1 - sigma) * data, so dx/dsigma = noise - data (https://arxiv.org/abs/2209.03003); sigma is 0 at the data.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

import torch
from torch import Tensor

from tokkit.errors import InputError

Sampler = Literal["euler", "heun"]
Field = Callable[[Tensor, float], Tensor]
"""(x [B, ...], sigma) -> dx/dsigma [B, ...]."""


def noised(data: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
    """x_sigma of [B, ...] at sigma [B]."""
    sigma = spread(sigma, data)
    return sigma * noise + (1 - sigma) * data


def denoised(values: Tensor, velocity: Tensor, sigma: Tensor | float) -> Tensor:
    """The data that a velocity at x_sigma points to: x_sigma - sigma * v."""
    return values - (spread(sigma, values) if isinstance(sigma, Tensor) else sigma) * velocity


def draw_sigmas(count: int, device: torch.device, mean: float = 0.0) -> Tensor:
    """[count] sigmas of a training step, sigmoid(N(mean, 1)): the middle of the path most often (https://arxiv.org/abs/2403.03206)."""
    return (mean + torch.randn(count, device=device)).sigmoid()


def integrate(field: Field, noise: Tensor, steps: int, sampler: Sampler) -> Tensor:
    """From noise at sigma 1 to data at sigma 0 in equal steps.

    Euler asks `field` once a step; Heun, of second order, twice but for the last step, since it never asks at sigma 0.

    Raises:
        InputError: there is no such sampler or number of steps.
    """
    if not isinstance(steps, int) or steps < 1 or sampler not in get_args(Sampler):
        raise InputError(f"flow: steps must be 1 or more and sampler {' or '.join(get_args(Sampler))}, got {steps!r} and {sampler!r}")
    values = noise
    for step in range(steps):
        sigma, after = 1 - step / steps, 1 - (step + 1) / steps
        velocity = field(values, sigma)
        moved = values + (after - sigma) * velocity
        if sampler == "heun" and step < steps - 1:
            moved = values + (after - sigma) * 0.5 * (velocity + field(moved, after))
        values = moved
    return values


def guided(conditional: Tensor, unconditional: Tensor, scale: float) -> Tensor:
    """Classifier-free guidance: v_u + scale * (v_c - v_u) (https://arxiv.org/abs/2207.12598)."""
    return unconditional + scale * (conditional - unconditional)


def guided_by_projection(conditional: Tensor, unconditional: Tensor, scale: float, *, values: Tensor, sigma: float, limit: float) -> Tensor:
    """Adaptive projected guidance: guidance without the part along the prediction, which oversaturates (https://arxiv.org/abs/2410.02416).

    In terms of denoised predictions D: D_c + (scale - 1) * d, where d is D_c - D_u, shortened to the norm `limit`, less its part along D_c
    (the paper's eta 0 and momentum 0).

    Args:
        conditional, unconditional: velocities [B, ...] at x_sigma.
        scale: of the guidance; 1 gives the conditional velocity.
        values: x_sigma.
        sigma: where on the path.
        limit: the largest norm of a sample's difference.
    """
    difference = (conditional - unconditional).flatten(1)
    length = sigma * difference.norm(dim=1, keepdim=True)
    difference = difference * (limit / length.clamp(min=limit))
    prediction = denoised(values, conditional, sigma).flatten(1)
    along = torch.nn.functional.normalize(prediction, dim=1)
    across = difference - (difference * along).sum(1, keepdim=True) * along
    return conditional + (scale - 1) * across.view_as(conditional)


def spread(numbers: Tensor, like: Tensor) -> Tensor:
    """[B] as [B, 1, ...] with the rank of `like`."""
    return numbers.view(-1, *[1] * (like.ndim - 1))
