"""A function of a large tensor, computed tile by tile: memory grows with the tile, not with the tensor. Knows tensors only."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from types import EllipsisType
from typing import NamedTuple

from torch import Tensor

from tokkit.errors import InputError


class Span(NamedTuple):
    """One tile along one axis: `core` is what it contributes, `seen` what it is computed from."""

    core: slice
    seen: slice


def spans(length: int, tile: int, margin: int) -> Iterator[Span]:
    """Cores of `tile` that cover an axis without overlap, each seen with up to `margin` more on both sides."""
    for start in range(0, length, tile):
        stop = min(start + tile, length)
        yield Span(slice(start, stop), slice(max(0, start - margin), min(length, stop + margin)))


def map_tiles(
    function: Callable[[Tensor], Tensor], values: Tensor, *, tile: int, margin: int, up: int = 1, down: int = 1, cut: int | None = None
) -> Tensor:
    """`function(values)` from tiles.

    Where an output depends on at most `margin` neighbours the result is that of the whole; where it depends on more (a group norm sees
    everything) it is another, without seams as far as the margin reaches.

    Args:
        function: [B, C, *spatial] to [B, E, *spatial * up / down].
        values: [B, C, *spatial].
        tile: size of a tile along every axis, a multiple of `down`.
        margin: how far beside a tile is looked at, a multiple of `down`.
        up, down: how `function` scales the axes that are cut.
        cut: how many axes are cut, the last ones; all spatial axes when not given. `function` may change the length of the others.

    Raises:
        InputError: `tile` or `margin` is not a multiple of `down`, or not positive.
    """
    if tile < 1 or margin < 0 or tile % down or margin % down:
        raise InputError(f"tile={tile} and margin={margin} must be multiples of {down}, and the tile positive")
    cut = values.ndim - 2 if cut is None else cut
    lengths = values.shape[values.ndim - cut :]
    axes = [list(spans(length, tile, margin)) for length in lengths]
    result: Tensor | None = None
    for place in itertools.product(*axes):
        part = function(values[_last(span.seen for span in place)])
        if result is None:
            result = part.new_empty((*part.shape[: part.ndim - cut], *(length * up // down for length in lengths)))
        inner = _last(_scaled(span.core, span.seen.start, up, down) for span in place)
        outer = _last(_scaled(span.core, 0, up, down) for span in place)
        result[outer] = part[inner]
    return function(values) if result is None else result


def to_channels(values: Tensor, grid: tuple[int, ...]) -> Tensor:
    """[B, N, D] on a grid to [B, D, *grid]."""
    return values.transpose(1, 2).unflatten(2, grid)


def from_channels(values: Tensor) -> Tensor:
    """[B, D, *grid] to [B, N, D]."""
    return values.flatten(2).transpose(1, 2)


def _scaled(core: slice, origin: int, up: int, down: int) -> slice:
    return slice((core.start - origin) * up // down, (core.stop - origin) * up // down)


def _last(slices: Iterable[slice]) -> tuple[EllipsisType | slice, ...]:
    """An index that cuts the last axes."""
    return (..., *slices)
