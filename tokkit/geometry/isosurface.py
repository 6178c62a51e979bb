"""The surface of a field: evaluated on a coarse grid, then finer only where the surface can be; marching cubes at the end."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tokkit.errors import InputError
from tokkit.geometry.triangles import Array

Field = Callable[[Tensor], Tensor]
"""Points [M, 3] to values [M, layers]; negative inside."""
COARSEST = 32


def isosurface(field: Field, resolution: int, *, device: torch.device | str = "cpu", band: float = 0.5, chunk: int = 65_536) -> Array:
    """The zero level sets of all layers of a field in [-1, 1]^3.

    Args:
        field: see `Field`.
        resolution: cells along a side, at least 8; 128 makes cells of 1/64.
        device: of the points that the field is given.
        band: where a coarser grid has a value nearer to 0 than this, or a change of sign beside it, the finer one is evaluated; halved with
            every refinement.
        chunk: points that the field is given at once.

    Returns:
        Triangles [F, 3, 3], counter-clockwise from outside; none where the field never is negative. Solids that reach the sides of the cube
        are closed there.

    Raises:
        InputError: the resolution is not 8 or more, or not a multiple of what it is refined from.
    """
    grid = evaluate_grid(field, resolution, device=device, band=band, chunk=chunk)
    return np.concatenate([marching_cubes(layer) for layer in grid.float().cpu().numpy()])


def evaluate_grid(field: Field, resolution: int, *, device: torch.device | str = "cpu", band: float = 0.5, chunk: int = 65_536) -> Tensor:
    """Values [layers, resolution + 1, ...] at the corners of the cells; away from the surface interpolated from a coarser grid.

    The arguments are those of `isosurface`.
    """
    if resolution < 8:
        raise InputError(f"resolution must be at least 8, got {resolution}")
    steps = 0
    while resolution % 2 ** (steps + 1) == 0 and resolution // 2 ** (steps + 1) >= COARSEST:
        steps += 1
    size = resolution // 2**steps
    values = _evaluate(field, _corners(size, device), chunk).T.reshape(-1, *[size + 1] * 3)
    for _ in range(steps):
        wanted = _near_surface(values, band)
        size, band = 2 * size, band / 2
        values = F.interpolate(values[None], size=[size + 1] * 3, mode="trilinear", align_corners=True)[0]
        fine = F.interpolate(wanted[None, None].float(), size=[size] * 3, mode="nearest")[0, 0] > 0
        where = _cells_to_corners(fine).nonzero()
        points = where.to(values.dtype) * (2 / size) - 1
        x, y, z = where.unbind(1)
        values[:, x, y, z] = _evaluate(field, points, chunk).T
    return values


def marching_cubes(values: np.ndarray) -> Array:
    """Triangles [F, 3, 3] of the zero level of a grid [n, n, n] over [-1, 1]^3 (https://doi.org/10.1145/37402.37422, Lewiner's variant)."""
    from skimage import measure

    cells = len(values) - 1
    padded = np.pad(values, 1, constant_values=float(max(values.max(), 1e-3)))
    if not padded.min() < 0:
        return np.zeros((0, 3, 3))
    vertices, faces, _, _ = measure.marching_cubes(padded, 0.0, gradient_direction="descent")
    return ((vertices.astype(np.float64) - 1) * (2 / cells) - 1)[faces]


def _corners(size: int, device: torch.device | str) -> Tensor:
    axis = torch.linspace(-1, 1, size + 1, device=device)
    return torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3)


def _evaluate(field: Field, points: Tensor, chunk: int) -> Tensor:
    parts = [field(part).float() for part in points.split(chunk)]
    return torch.cat(parts) if parts else field(points).float()


def _near_surface(values: Tensor, band: float) -> Tensor:
    """[n, n, n] bool: the cells of a grid [layers, n + 1, ...] that the surface can pass, one cell around them included."""
    inside = (values < 0).float()[None]
    most, least = F.max_pool3d(inside, 2, 1), -F.max_pool3d(-inside, 2, 1)
    near = -F.max_pool3d(-values.abs()[None], 2, 1) < band
    active = ((most != least) | near)[0].any(0)
    return F.max_pool3d(active[None, None].float(), 3, 1, 1)[0, 0] > 0


def _cells_to_corners(cells: Tensor) -> Tensor:
    """[n + 1, ...] bool: the corners of the marked cells [n, ...]."""
    return F.max_pool3d(F.pad(cells[None, None].float(), [1] * 6), 2, 1)[0, 0] > 0
