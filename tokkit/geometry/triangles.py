"""What can be said of triangles by themselves. A mesh is float64 [F, 3, 3]: the corners of F triangles, counter-clockwise from outside."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

Array = NDArray[np.float64]
Indices = NDArray[np.int64]
SMALLEST_AREA = 1e-12
"""Triangles below this share of the squared bounding box diagonal are taken for degenerate."""
_SAME_ANGLE = 1e-6


def normals_and_areas(triangles: Array) -> tuple[Array, Array]:
    """Unit normals [F, 3] (zero where the area is) and areas [F]."""
    crossed = np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0])
    doubled = np.linalg.norm(crossed, axis=1)
    return crossed / np.maximum(doubled, np.finfo(np.float64).tiny)[:, None], doubled / 2


def cleaned(triangles: Array) -> Array:
    """Without triangles that have a corner which is not finite, or no area."""
    finite = triangles[np.isfinite(triangles).all(axis=(1, 2))]
    if not len(finite):
        return finite
    size = np.ptp(finite.reshape(-1, 3), axis=0)
    return finite[normals_and_areas(finite)[1] > SMALLEST_AREA * (size @ size)]


def weld(triangles: Array) -> tuple[Array, Indices]:
    """Vertices [V, 3] and faces [F, 3]: corners at exactly the same place become one vertex."""
    corners = np.ascontiguousarray(triangles.reshape(-1, 3)) + 0.0  # no -0.0
    order = np.lexsort(corners.T)
    ordered = corners[order]
    first = np.ones(len(ordered), dtype=bool)
    first[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    faces = np.empty(len(corners), dtype=np.int64)
    faces[order] = np.cumsum(first) - 1
    return ordered[first], faces.reshape(-1, 3)


def directed_edges(faces: Indices) -> Indices:
    """[3F, 2], every triangle's edges in its own direction; edge e of triangle f is row 3f + e."""
    return np.stack([faces, np.roll(faces, -1, axis=1)], axis=2).reshape(-1, 2)


def bodies(vertices: Array, faces: Indices) -> tuple[Indices, NDArray[np.bool_]]:
    """The bodies that a mesh is made of.

    Faces belong together across an edge that two of them share. Where more share it, those do between which a wedge of the inside lies,
    so bodies that touch along an edge or a wall are told apart. Where such a part alone would not be closed, it is everything that is
    connected by vertices instead.

    Returns:
        The body of each face, int64 [F], numbered from 0; and whether each body is closed, [bodies]: every edge is passed as often one way
        as the other, so that its winding number is a whole number everywhere.
    """
    edges = directed_edges(faces)
    keys = edges.min(axis=1) * np.int64(len(vertices)) + edges.max(axis=1)
    _, edge, count = np.unique(keys, return_inverse=True, return_counts=True)
    order = np.argsort(edge, kind="stable")
    two = order[count[edge[order]] == 2].reshape(-1, 2) // 3
    many = np.split(order, np.cumsum(count)[:-1])
    wedges = [pair for number in np.flatnonzero(count > 2) for pair in _wedges(vertices, faces, edges, many[number])]
    part = _connected(np.concatenate([two, np.array(wedges, dtype=np.int64).reshape(-1, 2)]), len(faces))
    whole = _connected(edges, len(vertices))[faces[:, 0]]
    label = np.where(_balanced(edges, edge, part)[part], part, len(faces) + whole)
    _, label = np.unique(label, return_inverse=True)
    return label.astype(np.int64), _balanced(edges, edge, label)


def _wedges(vertices: Array, faces: Indices, edges: Indices, members: Indices) -> list[tuple[int, int]]:
    """Of more than two faces at an edge: pairs of which one passes it upwards, the other downwards, with the inside between them.

    Seen against the edge's direction (to the higher vertex), the inside is clockwise of a face that passes it upwards.
    """
    low, high = edges[members[0]].min(), edges[members[0]].max()
    along = vertices[high] - vertices[low]
    along = along / max(float(np.linalg.norm(along)), 1e-300)
    third = vertices[faces[members // 3].sum(axis=1) - low - high] - vertices[low]
    across = third - np.outer(third @ along, along)
    side = np.cross(along, across[0])
    angles = np.arctan2(across @ side, across @ across[0])
    up = edges[members, 0] == low
    free = {int(number): float(angle) for number, angle in zip(members[~up], angles[~up], strict=True)}
    pairs = []
    for number, angle in zip(members[up].tolist(), angles[up].tolist(), strict=True):
        if free:
            nearest = min(free, key=lambda other: (angle - free[other] - _SAME_ANGLE) % (2 * np.pi))
            del free[nearest]
            pairs.append((number // 3, nearest // 3))
    return pairs


def is_closed(triangles: Array) -> bool:
    """Whether every body is closed."""
    return bool(bodies(*weld(triangles))[1].all())


def _connected(pairs: Indices, count: int) -> Indices:
    graph = coo_matrix((np.ones(len(pairs)), tuple(pairs.T)), shape=(count, count))
    return connected_components(graph, directed=False)[1].astype(np.int64)


def _balanced(edges: Indices, edge: Indices, label: Indices) -> NDArray[np.bool_]:
    """For every label of a face: whether its faces pass each edge as often one way as the other."""
    owner = np.repeat(label, 3)
    _, first, which = np.unique(owner * (edge.max(initial=0) + 1) + edge, return_index=True, return_inverse=True)
    balance = np.bincount(which, weights=np.sign(edges[:, 1] - edges[:, 0]))
    result = np.ones(int(label.max(initial=-1)) + 1, dtype=bool)
    result[owner[first[balance != 0]]] = False
    return result


def signed_volume(triangles: Array) -> float:
    """Enclosed volume; negative when the triangles are clockwise from outside."""
    a, b, c = triangles.transpose(1, 0, 2)
    return float(np.einsum("fi,fi->", a, np.cross(b, c)) / 6)


def sharp_edges(triangles: Array, angle: float) -> tuple[Array, Array]:
    """Edges between two triangles whose normals differ by more than `angle` degrees.

    Returns:
        The ends [E, 2, 3] and the unit mean normal [E, 3] of each. Edges of one, or of more than two triangles are left out.
    """
    vertices, faces = weld(triangles)
    edges = np.sort(directed_edges(faces), axis=1)
    keys = edges @ np.array([len(vertices), 1])
    order = np.argsort(keys, kind="stable")
    _, start, count = np.unique(keys[order], return_index=True, return_counts=True)
    pair = start[count == 2]
    one, other = order[pair], order[pair + 1]
    normals, _ = normals_and_areas(triangles)
    a, b = normals[one // 3], normals[other // 3]
    sharp = (a * b).sum(axis=1) < np.cos(np.deg2rad(angle))
    mean = a[sharp] + b[sharp]
    mean /= np.maximum(np.linalg.norm(mean, axis=1, keepdims=True), 1e-12)
    return vertices[edges[one[sharp]]], mean
