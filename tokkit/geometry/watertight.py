"""Closed bodies in place of those with holes, by way of unsigned distances. Closed bodies are left as they are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree

from tokkit.errors import InputError
from tokkit.geometry.isosurface import marching_cubes
from tokkit.geometry.sampling import sample_surface
from tokkit.geometry.triangles import Array, bodies, cleaned, weld

RESOLUTION = 128
EPSILON = 2.0
SMALLEST_PART = 0.01
"""Of `watertight`: cells along a side of [-1, 1]^3; the thickness that is added to the surface, in cells; and the share of the surface that
a loose part must have to be kept."""


@dataclass(frozen=True)
class Repaired:
    """A closed mesh.

    Attributes:
        triangles: [F, 3, 3].
        remeshed: the share of the given area that belonged to open bodies and was built anew.
        dropped: the share of that part's area which is lost, in loose pieces that are too small.
    """

    triangles: Array
    remeshed: float = 0.0
    dropped: float = 0.0


def watertight(triangles: Array, *, resolution: int = RESOLUTION, epsilon: float = EPSILON, seed: int = 0) -> Repaired:
    """Close a mesh.

    Bodies that are closed (`triangles.bodies`) stay; they may overlap. All the others
    together are built anew, in the way of mesh2sdf and Dora (https://arxiv.org/abs/2412.17808): unsigned distances to dense surface samples
    on a grid; everything nearer than `epsilon` cells and everything that the outside cannot reach is solid; connected pieces with less than
    `SMALLEST_PART` of the surface are dropped; marching cubes gives the rest. So the surface grows by `epsilon` cells, holes and gaps up to
    twice as wide are closed, larger openings leave a sheet of twice that thickness, and hollows inside are filled.

    Args:
        triangles: [F, 3, 3] within [-1, 1].
        resolution: cells along a side.
        epsilon: in cells.
        seed: of the surface samples.

    Raises:
        InputError: nothing is left when triangles without area are taken away.
    """
    triangles = cleaned(triangles)
    if not len(triangles):
        raise InputError("the mesh has no triangle with an area")
    label, closed = bodies(*weld(triangles))
    open_faces = ~closed[label]
    if not open_faces.any():
        return Repaired(triangles)
    areas = np.linalg.norm(np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0]), axis=1)
    rebuilt, dropped = _remesh(triangles[open_faces], resolution, epsilon, seed)
    share = float(areas[open_faces].sum() / areas.sum())
    return Repaired(np.concatenate([triangles[~open_faces], rebuilt]), share, dropped)


def _remesh(triangles: Array, resolution: int, epsilon: float, seed: int) -> tuple[Array, float]:
    """The surface around open triangles, and the share of their area that it leaves out."""
    cell = 2 / resolution
    edge = 4 + int(np.ceil(epsilon))
    size = resolution + 2 * edge + 1
    points, _ = sample_surface(triangles, min(4_000_000, 6 * resolution**2), np.random.default_rng(seed))
    axis = (np.arange(size) - edge) * cell - 1
    places = tuple(np.rint((points - axis[0]) / cell).astype(int).clip(0, size - 1).T)
    near = np.zeros((size,) * 3, dtype=bool)
    near[places] = True
    near = ndimage.binary_dilation(near, np.ones((3, 3, 3)), iterations=int(np.ceil(epsilon)) + 2)
    beyond = np.full((size,) * 3, 2 * cell)  # distance to the new surface, negative inside
    beyond[near] = cKDTree(points).query(axis[np.argwhere(near)])[0] - epsilon * cell
    labels, _ = ndimage.label(beyond > 0)
    solid = labels != labels[0, 0, 0]
    pieces, _ = ndimage.label(solid, np.ones((3, 3, 3)))
    share = np.bincount(pieces[places], minlength=pieces.max() + 1) / len(points)
    kept = share >= SMALLEST_PART
    kept[0] = False
    beyond[solid & (beyond > 0)] = -cell
    beyond[solid & ~kept[pieces]] = cell
    surface = marching_cubes(beyond) * (cell * (size - 1) / 2) + (axis[0] + axis[-1]) / 2
    return cleaned(surface), float(share[~kept].sum())
