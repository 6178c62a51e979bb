"""Noise that depends on a seed and nothing else: not on the batch, the device or what was drawn before. Knows no network."""

from __future__ import annotations

import math

import torch
from torch import Tensor

_STEP = 0x9E3779B97F4A7C15 - 2**64
_FACTORS = (0xBF58476D1CE4E5B9 - 2**64, 0x94D049BB133111EB - 2**64)
_BITS = 24


def seeded_noise(seeds: Tensor, size: tuple[int, ...]) -> Tensor:
    """Standard normal numbers, those of a sample from its seed alone.

    The i-th number of a seed is Box and Muller's of the i-th output of SplitMix64 (https://doi.org/10.1145/2660193.2660195) started at
    the hashed seed. Integers only up to the last step, so devices differ by roundings of a logarithm and a cosine at most.

    Args:
        seeds: [B] int64.
        size: of one sample.

    Returns:
        [B, *size] float32, none beyond 6 standard deviations.
    """
    index = torch.arange(1, math.prod(size) + 1, device=seeds.device)
    bits = _mix(_mix(seeds + _STEP).unsqueeze(-1) + index * _STEP)
    radius = (_shifted(bits, 64 - _BITS) + 0.5) / 2**_BITS
    angle = (bits & (2**_BITS - 1)) * (2 * math.pi / 2**_BITS)
    return ((-2 * radius.log()).sqrt() * angle.cos()).view(len(seeds), *size)


def _mix(state: Tensor) -> Tensor:
    """SplitMix64's hash of int64, whose products wrap."""
    state = (state ^ _shifted(state, 30)) * _FACTORS[0]
    state = (state ^ _shifted(state, 27)) * _FACTORS[1]
    return state ^ _shifted(state, 31)


def _shifted(state: Tensor, by: int) -> Tensor:
    """A shift to the right that fills with zeros."""
    return (state >> by) & (2 ** (64 - by) - 1)
