"""Sizes that networks can take: pad at the end to a multiple of the stride, and cut back afterwards."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tokkit.errors import InputError


def padded_size(size: Sequence[int], stride: int | Sequence[int]) -> tuple[int, ...]:
    """The spatial size after `pad_to_multiple`: each entry rounded up to a multiple of the stride (of its own, where there are several)."""
    return tuple(-(-length // step) * step for length, step in zip(size, _strides(stride, len(size)), strict=True))


def pad_to_multiple(values: Tensor, stride: int | Sequence[int], *, rank: int) -> Tensor:
    """Repeat the last entry of each spatial axis until its length is a multiple of the stride.

    Args:
        values: [..., *spatial], any dtype; a spatial axis may be shorter than the stride.
        stride: one for all spatial axes, or one each.
        rank: the number of spatial axes, which are the last ones.

    Returns:
        [..., *padded]; `values` itself where nothing is to be done.

    Raises:
        InputError: a spatial axis is empty, or there are fewer axes than `rank`.
    """
    if values.ndim < rank or 0 in values.shape[values.ndim - rank :]:
        raise InputError(f"cannot pad {tuple(values.shape)}: need {rank} spatial axes at the end, none of them empty")
    return pad_to(values, padded_size(values.shape[values.ndim - rank :], stride))


def pad_to(values: Tensor, size: Sequence[int]) -> Tensor:
    """Repeat the last entry of each of the last axes until they have this size: what `crop` undoes. `values` itself where nothing is to do.

    Raises:
        InputError: an axis is empty, or longer already.
    """
    for axis, length in enumerate(size, start=values.ndim - len(size)):
        missing = length - values.shape[axis]
        if missing < 0 or not values.shape[axis]:
            raise InputError(f"cannot pad {tuple(values.shape)} to {tuple(size)}: an axis is empty, or longer already")
        if missing:
            last = values.narrow(axis, values.shape[axis] - 1, 1)
            values = torch.cat([values, last.expand(*(missing if i == axis else -1 for i in range(values.ndim)))], axis)
    return values


def crop(values: Tensor, size: Sequence[int]) -> Tensor:
    """The first `size` entries of the last `len(size)` axes: undoes `pad_to_multiple`. A view.

    Raises:
        InputError: there are fewer.
    """
    for axis, length in enumerate(size, start=values.ndim - len(size)):
        if length > values.shape[axis]:
            have = tuple(values.shape[values.ndim - len(size) :])
            raise InputError(
                f"the codes make {have} of the original size {tuple(size)}: they are not all of its codes, or the size is another's"
            )
        values = values.narrow(axis, 0, length)
    return values


def _strides(stride: int | Sequence[int], rank: int) -> tuple[int, ...]:
    strides = (stride,) * rank if isinstance(stride, int) else tuple(stride)
    if len(strides) != rank or min(strides, default=1) < 1:
        raise InputError(f"stride {stride}: need one number >= 1, or one for each of the {rank} spatial axes")
    return strides
