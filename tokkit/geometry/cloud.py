"""Normals for point clouds that come without."""

from __future__ import annotations

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import breadth_first_order, minimum_spanning_tree
from scipy.spatial import cKDTree

from tokkit.geometry.triangles import Array

NEIGHBOURS = 12


def estimated_normals(points: Array) -> Array:
    """Unit normals [N, 3] of points [N, 3]: the direction in which a point's neighbours spread least.

    The sign is carried from neighbour to neighbour along the most parallel pairs (Hoppe et al., https://doi.org/10.1145/133994.134011),
    starting outwards from the topmost point of each connected part. Right for dense clouds of closed surfaces; a guess for others.
    """
    count = min(NEIGHBOURS, len(points))
    _, near = cKDTree(points).query(points, k=count)
    near = near.reshape(len(points), count)
    offsets = points[near] - points[near].mean(axis=1, keepdims=True)
    normals = np.linalg.eigh(np.einsum("nki,nkj->nij", offsets, offsets))[1][..., 0]
    one = np.repeat(np.arange(len(points)), count)
    other = near.ravel()
    bent = 1 - np.abs((normals[one] * normals[other]).sum(axis=1)) + 1e-6
    tree = minimum_spanning_tree(coo_matrix((bent, (one, other)), shape=(len(points),) * 2).tocsr())
    tree = tree + tree.T
    waiting = np.ones(len(points), dtype=bool)
    for start in np.argsort(-points[:, 2], kind="stable"):
        if not waiting[start]:
            continue
        if normals[start, 2] < 0:
            normals[start] *= -1
        order, before = breadth_first_order(tree, start, directed=False)
        waiting[order] = False
        for point in order[1:]:
            if normals[point] @ normals[before[point]] < 0:
                normals[point] *= -1
    return normals
