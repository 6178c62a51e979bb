"""What the metrics of shapes share: how two meshes are compared. docs/mesh.md states the contract.

One frame, that of the original (bounding box centre, longest side to [-1, 1]), for both meshes; 100,000 points of each, uniform by area.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from torch import Tensor

from tokkit.errors import InputError
from tokkit.geometry.depth import Depth
from tokkit.geometry.frame import Frame
from tokkit.geometry.sampling import Surface, sample_surface
from tokkit.geometry.triangles import Array, cleaned
from tokkit.geometry.watertight import watertight
from tokkit.metrics.base import MetricFailure

SAMPLES = 100_000
NEAR_SIGMA = 0.02
"""How far the points of the near-surface intersection over union are from the original's surface: standard deviation along each axis."""


@dataclass(frozen=True)
class Nearest:
    """For points of one surface the nearest ones of the other.

    Attributes:
        distances: [N].
        cosines: [N], of the angle between the normals, without its sign.
    """

    distances: Array
    cosines: Array


class Comparison:
    """Two meshes [9, F] in the original's frame; each part is computed when it is first asked for."""

    def __init__(self, original: Tensor, reconstruction: Tensor):
        self._original = _triangles(original)
        if not len(self._original):
            raise InputError("the original is empty")
        self._frame = Frame.of(self._original.reshape(-1, 3))
        self._reconstruction = _triangles(reconstruction)
        self.empty = not len(self._reconstruction)

    @cached_property
    def surfaces(self) -> tuple[Surface, Surface]:
        """Points and normals of the original and of the reconstruction."""
        parts = (self._original, self._reconstruction)
        one, other = (sample_surface(self._frame.enter(part), SAMPLES, np.random.default_rng(seed)) for seed, part in enumerate(parts))
        return one, other

    @cached_property
    def to_reconstruction(self) -> Nearest:
        """From points of the original."""
        return _nearest(*self.surfaces)

    @cached_property
    def to_original(self) -> Nearest:
        """From points of the reconstruction."""
        original, reconstruction = self.surfaces
        return _nearest(reconstruction, original)

    def overlap(self, *, near: bool) -> float:
        """Intersection over union of the insides, at uniform points of the box around both or at points near the original's surface."""
        rng = np.random.default_rng(2)
        if near:
            points = sample_surface(self._frame.enter(self._original), SAMPLES, rng).points + rng.normal(0, NEAR_SIGMA, (SAMPLES, 3))
        else:
            corners = self._frame.enter(np.concatenate([self._original, self._reconstruction]).reshape(-1, 3))
            points = rng.uniform(corners.min(axis=0), corners.max(axis=0), (SAMPLES, 3))
        one = self._original_depth(points) > 0
        other = np.zeros(SAMPLES, dtype=bool) if self.empty else self._reconstruction_depth(points) > 0
        either = (one | other).sum()
        return float((one & other).sum() / either) if either else 1.0

    @cached_property
    def _original_depth(self) -> Depth:
        return Depth(watertight(self._frame.enter(self._original)).triangles)

    @cached_property
    def _reconstruction_depth(self) -> Depth:
        return Depth(watertight(self._frame.enter(self._reconstruction)).triangles)


class _Latest(threading.local):
    """The comparison that was made last: all metrics of a pair share its samples."""

    pair: tuple[Tensor, Tensor] | None = None
    comparison: Comparison | None = None


_latest = _Latest()


def compare(metric: str, original: Tensor, reconstruction: Tensor, *, empty_fails: bool) -> Comparison:
    """The comparison of two meshes [9, F].

    Args:
        metric: that asks, for messages.
        original, reconstruction: in the same coordinates.
        empty_fails: whether there is no value for a reconstruction without triangles.

    Raises:
        MetricFailure: the original is no mesh or has no area; or the reconstruction is empty and `empty_fails` is set.
    """
    for which, values in (("original", original), ("reconstruction", reconstruction)):
        if values.ndim != 2 or len(values) != 9:
            raise MetricFailure(f"{metric}: the {which} is {tuple(values.shape)}, and a mesh is [9, triangles]")
        if not values.isfinite().all():
            raise MetricFailure(f"{metric}: the {which} has values that are not finite")
    if _latest.pair is None or _latest.pair[0] is not original or _latest.pair[1] is not reconstruction:
        try:
            _latest.comparison = Comparison(original, reconstruction)
        except InputError as error:
            raise MetricFailure(f"{metric}: {error}") from error
        _latest.pair = original, reconstruction
    assert _latest.comparison is not None
    if _latest.comparison.empty and empty_fails:
        raise MetricFailure(f"{metric}: the reconstruction is empty")
    return _latest.comparison


def _triangles(values: Tensor) -> Array:
    """[9, F] as float64 [F, 3, 3] without those that have no area."""
    array: NDArray[np.float64] = values.detach().cpu().double().numpy()
    return cleaned(np.ascontiguousarray(array.T).reshape(-1, 3, 3))


def _nearest(points: Surface, others: Surface) -> Nearest:
    distances, which = cKDTree(others.points).query(points.points)
    return Nearest(distances, np.abs((points.normals * others.normals[which]).sum(axis=1)))
