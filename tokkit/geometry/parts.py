"""The bodies that a mesh is made of, sorted into groups so that touching ones are told apart."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from tokkit.geometry.depth import Depth
from tokkit.geometry.sampling import sample_surface
from tokkit.geometry.triangles import Array, Indices, bodies, signed_volume, weld

TOUCHING = 0.01
"""Bodies whose surfaces come as near as this touch; shapes are about 2 large."""
_SAMPLES = 20_000


def grouped(triangles: Array, groups: int, *, seed: int = 0) -> tuple[Array, Indices]:
    """Sort the bodies of a closed mesh into groups such that bodies which touch or overlap are in different ones, as far as that goes.

    A mesh of several bodies has walls where two of them meet. A single inside-outside field knows no such wall; one field a group does. The
    body with the largest surface is in group 0; from there on, each next body takes the group with which it shares the least wall. A body
    that is turned inside out is a hollow when it lies in another one, whose group it then shares; else it is turned.

    Args:
        triangles: [F, 3, 3], closed, within about [-1, 1].
        groups: how many there may be; with 1 they are all the same.
        seed: of the surface samples that find the walls.

    Returns:
        The triangles, turned where need be, and the group of each, int64 [F].
    """
    label, _ = bodies(*weld(triangles))
    count = int(label.max()) + 1
    triangles = triangles.copy()
    parts = _split(label, count)
    host = np.arange(count)
    for body, faces in enumerate(parts):
        if signed_volume(triangles[faces]) < 0:
            host[body] = _container(triangles, parts, body)
            if host[body] == body:
                triangles[faces] = triangles[faces][:, ::-1]
    if groups == 1 or count == 1:
        return triangles, np.zeros(len(triangles), dtype=np.int64)
    colors = _colors(_walls(triangles, label, count, seed), triangles, parts, groups)
    return triangles, colors[host][label]


def _split(label: Indices, count: int) -> list[Indices]:
    order = np.argsort(label, kind="stable")
    return np.split(order, np.searchsorted(label[order], np.arange(1, count)))


def _container(triangles: Array, parts: list[Indices], body: int) -> int:
    """The first body that holds a corner of this one, or itself."""
    corner = triangles[parts[body][0], :1]
    corners = triangles[parts[body]].reshape(-1, 3)
    low, high = corners.min(axis=0), corners.max(axis=0)
    for other, faces in enumerate(parts):
        around = triangles[faces].reshape(-1, 3)
        if other == body or (around.min(axis=0) > low).any() or (around.max(axis=0) < high).any():
            continue
        if Depth(triangles[faces])(corner)[0] > 0:
            return other
    return body


def _walls(triangles: Array, label: Indices, count: int, seed: int) -> list[dict[int, int]]:
    """For every body: other body -> how many surface samples they share a wall with."""
    rng = np.random.default_rng(seed)
    areas = np.linalg.norm(np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0]), axis=1)
    points, owner = [], []
    amount = np.maximum(16, _SAMPLES * np.bincount(label, areas, count) / areas.sum()).astype(int)
    for body, faces in enumerate(_split(label, count)):
        points.append(sample_surface(triangles[faces], int(amount[body]), rng).points)
        owner.append(np.full(amount[body], body))
    owners = np.concatenate(owner)
    tree = cKDTree(np.concatenate(points))
    pairs = tree.query_pairs(TOUCHING, output_type="ndarray")
    pairs = owners[pairs]
    pairs = np.sort(pairs[pairs[:, 0] != pairs[:, 1]], axis=1)
    shared: list[dict[int, int]] = [{} for _ in range(count)]
    found, weights = np.unique(pairs, axis=0, return_counts=True)
    for (one, other), weight in zip(found.tolist(), weights.tolist(), strict=True):
        shared[one][other] = shared[other][one] = weight
    return shared


def _colors(walls: list[dict[int, int]], triangles: Array, parts: list[Indices], groups: int) -> Indices:
    """A group for each body: from the largest body outwards, always next the one with the most wall to those that have a group."""
    normals = np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0])
    area = np.array([np.linalg.norm(normals[faces], axis=1).sum() for faces in parts])
    colors = np.full(len(parts), -1)
    reached = np.zeros(len(parts))
    for _ in range(len(parts)):
        open_bodies = np.flatnonzero(colors < 0)
        body = int(open_bodies[np.lexsort((area[open_bodies], reached[open_bodies]))[-1]])
        cost = np.zeros(groups)
        for other, weight in walls[body].items():
            reached[other] += weight
            if colors[other] >= 0:
                cost[colors[other]] += weight
        colors[body] = int(cost.argmin())
    return colors
