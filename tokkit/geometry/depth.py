"""How many bodies a point lies in: the winding number of closed meshes, by signed crossings of rays."""

from __future__ import annotations

import numpy as np

from tokkit.geometry.triangles import Array, Indices, weld

_PAIRS_AT_ONCE = 2_000_000


class Depth:
    """The winding number of a closed, consistently turned mesh: 0 outside, 1 in one body, 2 where two bodies overlap, and so on.

    A ray to infinity counts +1 where it leaves a body and -1 where it enters one. The triangles are sorted into the cells of a grid across
    the ray, so a point looks at few of them. Where a ray passes an edge, exactly one of the two triangles counts; and the median of
    several rays in different directions stands, so that a small hole misleads few points. A mesh with large holes wants `watertight` first.
    """

    def __init__(self, triangles: Array, *, rays: int = 3, seed: int = 0):
        """
        Args:
            triangles: [F, 3, 3], counter-clockwise from outside.
            rays: how many, an odd number.
            seed: of their directions.
        """
        vertices, faces = weld(triangles)
        rng = np.random.default_rng(seed)
        self._rays = [_Rays(vertices, faces, np.linalg.qr(rng.normal(size=(3, 3)))[0]) for _ in range(rays)]

    def __call__(self, points: Array) -> Indices:
        """The winding number of points [N, 3], int64 [N]."""
        counts = np.stack([rays.count(points) for rays in self._rays])
        return np.median(counts, axis=0).astype(np.int64)


class _Rays:
    """Rays in one direction, which is made the third axis."""

    def __init__(self, vertices: Array, faces: Indices, axes: Array):
        self.axes = axes
        corners = (vertices @ axes)[faces]  # [F, 3, 3]
        flat = corners[..., :2]
        doubled = _cross(flat[:, 1] - flat[:, 0], flat[:, 2] - flat[:, 0])
        kept = doubled != 0
        corners, faces, doubled = corners[kept], faces[kept], doubled[kept]
        self.sign = np.sign(doubled).astype(np.int64)
        self.corners = corners
        normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        self.slope = normal / normal[:, 2:]
        self.height = (self.slope * corners[:, 0]).sum(axis=1)
        # An edge is looked at from its vertex of lower number, so both of its triangles see the very same numbers.
        after = np.roll(faces, -1, axis=1)
        self.turned = faces > after
        following = np.roll(corners, -1, axis=1)[..., :2]
        self.start = np.where(self.turned[..., None], following, corners[..., :2])
        self.way = np.where(self.turned[..., None], corners[..., :2], following) - self.start
        self._sort_into_cells(corners[..., :2])

    def _sort_into_cells(self, flat: Array) -> None:
        self.cells = int(np.clip(3 * np.sqrt(len(flat)), 4, 512))
        self.low = flat.min(axis=(0, 1)) if len(flat) else np.zeros(2)
        high = flat.max(axis=(0, 1)) if len(flat) else np.ones(2)
        self.step = np.maximum(high - self.low, 1e-30) / self.cells
        first, last = self._cell(flat.min(axis=1)), self._cell(flat.max(axis=1))
        span = last - first + 1
        count = span.prod(axis=1)
        triangle = np.repeat(np.arange(len(flat)), count)
        within = np.arange(len(triangle)) - np.repeat(np.cumsum(count) - count, count)
        width = span[triangle, 1]
        cell = (first[triangle, 0] + within // width) * self.cells + first[triangle, 1] + within % width
        order = np.argsort(cell, kind="stable")
        self.members = triangle[order]
        self.begin = np.searchsorted(cell[order], np.arange(self.cells**2 + 1))

    def _cell(self, flat: Array) -> Indices:
        return np.clip(((flat - self.low) / self.step).astype(np.int64), 0, self.cells - 1)

    def count(self, points: Array) -> Indices:
        """The sum of the signed crossings, int64 [N]."""
        turned = points @ self.axes
        cell = self._cell(turned[:, :2]) @ np.array([self.cells, 1])
        inside = ((turned[:, :2] >= self.low) & (turned[:, :2] <= self.low + self.step * self.cells)).all(axis=1)
        amount = np.where(inside, self.begin[cell + 1] - self.begin[cell], 0)
        total = np.zeros(len(points), dtype=np.int64)
        ends = np.cumsum(amount)
        start = 0
        while start < len(points):
            done = ends[start - 1] if start else 0
            stop = max(start + 1, int(np.searchsorted(ends, done + _PAIRS_AT_ONCE)))
            part = slice(start, stop)
            point = np.repeat(np.arange(start, min(stop, len(points))), amount[part])
            within = np.arange(len(point)) - np.repeat(ends[part] - amount[part] - done, amount[part])
            triangle = self.members[self.begin[cell[point]] + within]
            crossing = self._crossings(turned[point], triangle)
            total += np.bincount(point, weights=crossing, minlength=len(points)).astype(np.int64)
            start = stop
        return total

    def _crossings(self, points: Array, triangle: Indices) -> Indices:
        """Of pairs of a point and a triangle: the sign of the triangle where it is above the point, else 0."""
        left = np.ones(len(points), dtype=bool)
        right = np.ones(len(points), dtype=bool)
        for edge in range(3):
            beside = _cross(self.way[triangle, edge], points[:, :2] - self.start[triangle, edge]) >= 0
            beside ^= self.turned[triangle, edge]
            left &= beside
            right &= ~beside
        sign = self.sign[triangle]
        covered = np.where(sign > 0, left, right)
        height = self.height[triangle] - (self.slope[triangle, :2] * points[:, :2]).sum(axis=1)
        return np.where(covered & (height > points[:, 2]), sign, 0)


def _cross(a: Array, b: Array) -> Array:
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]
