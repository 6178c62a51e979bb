"""Signed distances. The sign convention everywhere in tokkit: NEGATIVE INSIDE, positive outside."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from tokkit.errors import InputError
from tokkit.geometry.depth import Depth
from tokkit.geometry.sampling import sample_surface
from tokkit.geometry.triangles import Array, Indices, normals_and_areas

STEP = 2e-4
"""How far from a surface point its outer side is looked at; shapes are about 2 large."""
FAR = 4.0
"""The distance to a layer that has no surface."""


class LayeredField:
    """Signed distances to several solids: for each group of bodies (`parts.grouped`) the union of its bodies.

    The sign is exact (`Depth`). The distance is to the nearest of `density` points of the union's surface, and to the tangent plane there
    where the point is straight above or below it, so it is off by at most about the spacing of these points.
    """

    def __init__(self, triangles: Array, groups: Indices, *, layers: int = 1, density: int = 30_000, seed: int = 0):
        """
        Args:
            triangles: [F, 3, 3] of a closed mesh, within about [-1, 1].
            groups: [F], the group of each triangle, below `layers`.
            layers: how many.
            density: surface points that distances are measured from, over all layers.
            seed: of these points.

        Raises:
            InputError: a triangle is in a group that has no layer.
        """
        if groups.max(initial=0) >= layers:
            raise InputError(f"a triangle is in group {groups.max()}, and there are {layers} layers")
        rng = np.random.default_rng(seed)
        _, areas = normals_and_areas(triangles)
        self.spacing = float(np.sqrt(areas.sum() / density))
        self._layers: list[_Layer | None] = []
        for layer in range(layers):
            of_layer = groups == layer
            share = int(np.ceil(density * areas[of_layer].sum() / areas.sum()))
            self._layers.append(_Layer(triangles[of_layer], share, self.spacing, rng) if share else None)

    def __call__(self, points: Array) -> NDArray[np.float32]:
        """Signed distances of points [N, 3] to every layer, float32 [N, layers]; negative inside."""
        far = np.full(len(points), FAR)
        return np.stack([far if layer is None else layer(points) for layer in self._layers], axis=1).astype(np.float32)


class _Layer:
    """One solid."""

    def __init__(self, triangles: Array, density: int, spacing: float, rng: np.random.Generator):
        self.spacing = spacing
        self.depth = Depth(triangles)
        points, normals = sample_surface(triangles, density, rng)
        outer = Depth(triangles, rays=1)(points + STEP * normals) < 1
        if not outer.any():
            outer[:] = True
        self.tree, self.normals = cKDTree(points[outer]), normals[outer]

    def __call__(self, points: Array) -> Array:
        straight, nearest = self.tree.query(points)
        offset = points - self.tree.data[nearest]
        above = np.abs((offset * self.normals[nearest]).sum(axis=1))
        aside = np.sqrt(np.maximum(straight**2 - above**2, 0))
        distance = np.where(aside < 1.5 * self.spacing, above, straight)
        return np.where(self.depth(points) > 0, -distance, distance)
