"""Bits to codes and back: groups of channels, the first channel of a group the least significant bit, the first group the first code."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from tokkit.errors import InputError

LARGEST_GROUP = 62
"""A code is an int64 and must stay positive, its successor too."""


def group_sizes(bits: int, group_bits: int) -> tuple[int, ...]:
    """Codebook sizes of `bits` split into groups; the last group holds what is left: (8, 3) -> (8, 8, 4).

    Raises:
        InputError: no bits, or a group that does not fit an int64.
    """
    if bits < 1 or not 1 <= group_bits <= LARGEST_GROUP:
        raise InputError(
            f"bits must be >= 1 and group_bits 1 to {LARGEST_GROUP}, got {bits} and {group_bits}; split the bits into smaller groups"
        )
    full, rest = divmod(bits, group_bits)
    return (2**group_bits,) * full + ((2**rest,) if rest else ())


def pack_bits(bits: Tensor, group_bits: int) -> Tensor:
    """[..., d] bool -> [..., ceil(d / group_bits)] int64."""
    padded = functional.pad(bits.long(), (0, -bits.shape[-1] % group_bits))
    groups = padded.unflatten(-1, (-1, group_bits))
    return (groups << torch.arange(group_bits, device=bits.device)).sum(-1)


def unpack_bits(codes: Tensor, bits: int, group_bits: int) -> Tensor:
    """Inverse of `pack_bits`: [..., Q] int64 -> [..., bits] bool."""
    groups = codes.unsqueeze(-1) >> torch.arange(group_bits, device=codes.device) & 1
    return groups.flatten(-2)[..., :bits].bool()
