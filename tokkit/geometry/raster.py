"""Pictures of meshes, drawn by software: no display, no GPU, no library."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tokkit.geometry.triangles import Array, normals_and_areas

LIGHT = (0.35, 0.55, 0.76)
"""Where the light comes from: right, above, in front."""
REACH = 1.5
"""What lies so far to the right or up is at the edge of a picture: the cube [-1, 1]^3 just fits, as `view` sees it."""
_SHARPER = 2
"""Pixels along a side that are averaged into one."""
_LARGE = 16
"""Pixels along an edge from which on triangles are drawn one by one; smaller ones are drawn all at once, as points."""
_PER_PIXEL = 1.2
"""Points along an edge for each pixel: less than a pixel apart they leave no hole."""


def view(yaw: float = 35.0, pitch: float = 25.0) -> Array:
    """The rotation [3, 3] to right, up and towards the eye, which is `pitch` degrees above; y is up, turned by `yaw` degrees."""
    yaw, pitch = np.radians([yaw, pitch])
    turn = np.array([[np.cos(yaw), 0, -np.sin(yaw)], [0, 1, 0], [np.sin(yaw), 0, np.cos(yaw)]])
    tilt = np.array([[1, 0, 0], [0, np.cos(pitch), -np.sin(pitch)], [0, np.sin(pitch), np.cos(pitch)]])
    return tilt @ turn


def draw(
    triangles: Array, size: int = 320, *, rotation: Array | None = None, color: tuple[int, int, int] = (150, 178, 222)
) -> NDArray[np.uint8]:
    """Draw a mesh in parallel projection, every triangle in one shade, both of its sides alike.

    Args:
        triangles: [F, 3, 3]; see `REACH`.
        size: of the square picture in pixels.
        rotation: see `view`.
        color: of the brightest side.

    Returns:
        uint8 [size, size, 4]: RGB and opacity.
    """
    side = size * _SHARPER
    seen = triangles @ (view() if rotation is None else rotation).T
    normals, _ = normals_and_areas(seen)
    shade = 0.3 + 0.7 * np.abs(normals @ (np.array(LIGHT) / np.linalg.norm(LIGHT)))
    pixels = seen * [1, -1, 1] * (side / (2 * REACH)) + [side / 2, side / 2, 0]
    edges = np.linalg.norm(pixels[..., :2] - np.roll(pixels[..., :2], -1, axis=1), axis=2).max(axis=1, initial=0)
    owner = np.full((side, side), -1)
    depth = np.full((side, side), -np.inf)
    for which in np.flatnonzero(edges > _LARGE):
        _fill(pixels[which], int(which), depth, owner)
    steps = np.ceil(edges * _PER_PIXEL).astype(int).clip(1)
    for count in range(1, int(_LARGE * _PER_PIXEL) + 2):
        some = np.flatnonzero((steps == count) & (edges <= _LARGE))
        if len(some):
            _scatter(pixels[some], some, count, depth, owner)
    solid = owner >= 0
    shades = np.where(solid, shade[owner], 0.0) if len(shade) else np.zeros((side, side))
    blocks = np.stack([shades, solid], axis=2).reshape(size, _SHARPER, size, _SHARPER, 2).mean(axis=(1, 3))
    brightness = blocks[..., :1] / np.maximum(blocks[..., 1:], 1e-9)
    return np.rint(np.concatenate([brightness * color, blocks[..., 1:] * 255], axis=2)).astype(np.uint8)


def _fill(corners: Array, which: int, depth: Array, owner: NDArray[np.int64]) -> None:
    """Draw one triangle [3, 3] where it is the nearest so far: the pixels whose middle it covers."""
    low = np.floor(corners[:, :2].min(axis=0)).astype(int).clip(0)
    high = np.ceil(corners[:, :2].max(axis=0)).astype(int).clip(0, len(depth))
    if (high <= low).any():
        return
    (ax, ay, az), (bx, by, bz), (cx, cy, cz) = corners
    doubled = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
    if abs(doubled) < 1e-9:
        return
    x, y = np.arange(low[0], high[0]) + 0.5, (np.arange(low[1], high[1]) + 0.5)[:, None]
    second = ((x - ax) * (cy - ay) - (y - ay) * (cx - ax)) / doubled
    third = ((bx - ax) * (y - ay) - (by - ay) * (x - ax)) / doubled
    height = az + second * (bz - az) + third * (cz - az)
    window = slice(low[1], high[1]), slice(low[0], high[0])
    nearer = (second >= 0) & (third >= 0) & (second + third <= 1) & (height > depth[window])
    depth[window][nearer] = height[nearer]
    owner[window][nearer] = which


def _scatter(corners: Array, which: NDArray[np.int64], steps: int, depth: Array, owner: NDArray[np.int64]) -> None:
    """Draw small triangles [F, 3, 3] as points, spread evenly, `steps` + 1 along an edge."""
    first, second = np.meshgrid(np.arange(steps + 1), np.arange(steps + 1), indexing="ij")
    inside = first + second <= steps
    weights = np.stack([first[inside], second[inside], (steps - first - second)[inside]], axis=1) / steps
    points = np.einsum("pc,fcd->fpd", weights, corners).reshape(-1, 3)
    place = np.floor(points[:, :2]).astype(int)
    within = ((place >= 0) & (place < len(depth))).all(axis=1)
    index, height = (place[:, 1] * len(depth) + place[:, 0])[within], points[within, 2]
    whose = np.repeat(which, len(weights))[within]
    in_front = height > depth.reshape(-1)[index]
    index, height, whose = index[in_front], height[in_front], whose[in_front]
    order = np.argsort(height)  # of several on a pixel, the last one written stays: the nearest
    depth.reshape(-1)[index[order]] = height[order]
    owner.reshape(-1)[index[order]] = whose[order]
