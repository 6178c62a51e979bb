"""From the triangles of a file to what networks and measurements need: a framed, closed mesh in groups, and points on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tokkit.geometry.frame import Fit, Frame
from tokkit.geometry.parts import grouped
from tokkit.geometry.sampling import sample_edges, sample_surface
from tokkit.geometry.triangles import Array, Indices, cleaned, normals_and_areas, sharp_edges
from tokkit.geometry.watertight import Repaired, watertight

SHARP_ANGLE = 20.0
"""Degrees between the normals of two triangles from which on their edge is sharp."""


@dataclass(frozen=True)
class Solid:
    """A shape in its frame.

    Attributes:
        frame: where it was.
        triangles: [F, 3, 3], closed.
        groups: [F], see `parts.grouped`.
        repaired: what was done to close it.
    """

    frame: Frame
    triangles: Array
    groups: Indices
    repaired: Repaired

    @classmethod
    def of(cls, triangles: Array, *, fit: Fit = "cube", fill: float = 0.95, layers: int = 1) -> Solid:
        """Frame, close and group the triangles [F, 3, 3] of a file.

        Raises:
            InputError: they have no area, or no size that float32 can hold.
        """
        triangles = cleaned(triangles)
        frame = Frame.of(triangles.reshape(-1, 3), fit=fit, fill=fill)
        repaired = watertight(frame.enter(triangles))
        turned, groups = grouped(repaired.triangles, layers)
        return cls(frame, turned, groups, repaired)

    def sample(self, count: int, sharp: int, rng: np.random.Generator) -> Array:
        """Points on the surface, [count + sharp, 7]: place, unit normal, group.

        Args:
            count: spread evenly over the area.
            sharp: on sharp edges, evenly over their length, with the mean normal of both sides; on the area where there is no sharp edge.
            rng: of the choice.
        """
        rows = []
        _, areas = normals_and_areas(self.triangles)
        edges = [sharp_edges(self.triangles[self.groups == group], SHARP_ANGLE) for group in range(int(self.groups.max()) + 1)]
        lengths = np.array([np.linalg.norm(ends[:, 1] - ends[:, 0], axis=1).sum() for ends, _ in edges])
        on_area = count if lengths.any() else count + sharp
        weights = np.bincount(self.groups, areas)
        for group, amount in enumerate(shared_out(on_area, weights)):
            if amount:
                rows.append(_rows(*sample_surface(self.triangles[self.groups == group], amount, rng), group))
        for group, amount in enumerate(shared_out(count + sharp - on_area, lengths)):
            if amount:
                rows.append(_rows(*sample_edges(*edges[group], amount, rng), group))
        return np.concatenate(rows)


def shared_out(total: int, weights: NDArray[Any]) -> list[int]:
    """`total` in whole numbers that are in proportion to the weights and add up to it."""
    reach = np.rint(np.cumsum(weights) / max(weights.sum(), 1e-300) * total).astype(int)
    return np.diff(reach, prepend=0).tolist()


def _rows(points: Array, normals: Array, group: int) -> Array:
    return np.concatenate([points, normals, np.full((len(points), 1), float(group))], axis=1)
