"""The box that networks see shapes in, and the way there and back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from tokkit.errors import InputError
from tokkit.geometry.triangles import Array

Fit = Literal["cube", "box"]
MOST_STRETCH = 8.0
"""With fit "box", a side is stretched at most so many times as much as the longest one."""


@dataclass(frozen=True)
class Frame:
    """Place and size of a shape: a point p of its file is at (p - center) / half in the frame. Float32 numbers, as token files hold them.

    Attributes:
        center: (x, y, z) of the middle of the bounding box.
        half: how long a unit of the frame is in the file, along x, y and z.
    """

    center: tuple[float, float, float]
    half: tuple[float, float, float]

    @classmethod
    def of(cls, points: Array, *, fit: Fit = "cube", fill: float = 1.0) -> Frame:
        """The frame in which the bounding box of points [N, 3] reaches from -fill to fill.

        Args:
            points: the corners of a mesh, or a point cloud.
            fit: "cube": along the longest side, the others in proportion. "box": along every side by itself, up to `MOST_STRETCH`.
            fill: above 0, at most 1.

        Raises:
            InputError: there are no points, they are all at one place, or float32 cannot hold the numbers.
        """
        if not len(points):
            raise InputError("nothing to put into a frame: no points")
        low, high = points.min(axis=0), points.max(axis=0)
        sides = (high - low) / 2
        longest = sides.max()
        halves = np.full(3, longest) if fit == "cube" else np.maximum(sides, longest / MOST_STRETCH)
        with np.errstate(over="ignore"):
            center = ((low + high) / 2).astype(np.float32)
            halves = (halves / fill).astype(np.float32)
        if not (halves > 0).all() or not np.isfinite([*center, *halves]).all():
            raise InputError(f"the bounding box reaches from {low.tolist()} to {high.tolist()}: too small or too large to work with")
        return cls((float(center[0]), float(center[1]), float(center[2])), (float(halves[0]), float(halves[1]), float(halves[2])))

    @classmethod
    def from_numbers(cls, numbers: tuple[float, ...]) -> Frame:
        """The inverse of `numbers`."""
        x, y, z, a, b, c = numbers
        return cls((x, y, z), (a, b, c))

    @property
    def numbers(self) -> tuple[float, ...]:
        """Center and half as six numbers."""
        return (*self.center, *self.half)

    def enter(self, points: Array) -> Array:
        """Points [..., 3] of the file in the frame."""
        return (points - np.array(self.center)) / np.array(self.half)

    def leave(self, points: Array) -> Array:
        """Points [..., 3] of the frame in the file."""
        return points * np.array(self.half) + np.array(self.center)

    def enter_normals(self, normals: Array) -> Array:
        """Unit normals [..., 3] of the file as unit normals in the frame."""
        turned = normals * np.array(self.half)
        return turned / np.maximum(np.linalg.norm(turned, axis=-1, keepdims=True), 1e-12)
