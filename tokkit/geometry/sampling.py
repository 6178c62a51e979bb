"""Points on surfaces, and which of them to keep."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from tokkit.errors import InputError
from tokkit.geometry.triangles import Array, normals_and_areas


class Surface(NamedTuple):
    """Points [N, 3] of a surface and its unit normals [N, 3] there."""

    points: Array
    normals: Array


def sample_surface(triangles: Array, count: int, rng: np.random.Generator) -> Surface:
    """`count` points, uniform by area; how many a triangle gets is off its share by less than one.

    Raises:
        InputError: the triangles have no area.
    """
    normals, areas = normals_and_areas(triangles)
    reach = np.cumsum(areas)
    if not len(reach) or not reach[-1] > 0:
        raise InputError("a mesh without area: nothing to sample")
    places = (np.arange(count) + rng.random()) / max(count, 1) * reach[-1]
    chosen = np.minimum(np.searchsorted(reach, places, side="right"), len(reach) - 1)
    a, b = rng.random((2, count, 1))
    outside = a + b > 1
    a, b = np.where(outside, 1 - a, a), np.where(outside, 1 - b, b)
    corner, second, third = triangles[chosen].transpose(1, 0, 2)
    return Surface(corner + a * (second - corner) + b * (third - corner), normals[chosen])


def sample_edges(ends: Array, normals: Array, count: int, rng: np.random.Generator) -> Surface:
    """`count` points on edges, uniform by length; none when there are no edges.

    Args:
        ends: [E, 2, 3], see `sharp_edges`.
        normals: [E, 3].
    """
    lengths = np.linalg.norm(ends[:, 1] - ends[:, 0], axis=1)
    reach = np.cumsum(lengths)
    if not len(reach) or not reach[-1] > 0:
        return Surface(np.zeros((0, 3)), np.zeros((0, 3)))
    chosen = np.minimum(np.searchsorted(reach, rng.random(count) * reach[-1], side="right"), len(reach) - 1)
    along = rng.random((count, 1))
    return Surface(ends[chosen, 0] + along * (ends[chosen, 1] - ends[chosen, 0]), normals[chosen])


def farthest_points(points: Tensor, count: int) -> Tensor:
    """Farthest point sampling from point 0 on: each next point is the one farthest from all chosen ones, the first of equals.

    Args:
        points: [B, N, 3].
        count: at most N.

    Returns:
        [B, count] int64 indices.

    Raises:
        InputError: more points are wanted than there are.
    """
    batch, available, _ = points.shape
    if not 1 <= count <= available:
        raise InputError(f"farthest_points: {count} of {available} points")
    chosen = torch.zeros(batch, count, dtype=torch.int64, device=points.device)
    nearest = torch.full((batch, available), torch.inf, device=points.device, dtype=points.dtype)
    rows = torch.arange(batch, device=points.device)
    for step in range(1, count):
        last = points[rows, chosen[:, step - 1]]
        nearest = torch.minimum(nearest, (points - last[:, None]).square().sum(-1))
        chosen[:, step] = nearest.argmax(-1)
    return chosen
