"""3D shapes: mesh files and point clouds to tensors and back.

A mesh is a tensor [9, F]: a column holds the three corners (x, y, z each) of a triangle, counter-clockwise from outside, in the numbers of
its file. A point cloud is [6, P]: place and unit normal. What the encoder sees is `Shape.points`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, BinaryIO, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from tokkit.errors import InputError
from tokkit.files import refuse_overwrite, replacing
from tokkit.geometry.cloud import estimated_normals
from tokkit.geometry.field import FAR
from tokkit.geometry.frame import Fit, Frame
from tokkit.geometry.isosurface import isosurface
from tokkit.geometry.shape import Solid
from tokkit.geometry.triangles import Array, cleaned, weld
from tokkit.modalities.base import Modality, Sample
from tokkit.modalities.inputs import opened
from tokkit.registry import register

MOST_TRIANGLES = 5_000_000
SHARP_SHARE = 0.25
"""Of the points that the encoder sees: the share on sharp edges."""
WRITABLE = (".obj", ".ply", ".stl", ".off", ".glb")
_DAMAGE = (ValueError, KeyError, IndexError, TypeError, AttributeError, AssertionError, RuntimeError, EOFError, OSError, struct.error)
"""What trimesh's readers raise at damaged files."""


@dataclass
class Shape(Sample):
    """A shape, read.

    Attributes:
        points: [6 or 7, P] float32 in its frame: place, unit normal and, with several layers, the group scaled to [-1, 1].
    """

    points: Tensor | None = None


@register("modality", "mesh")
class Mesh(Modality):
    """Meshes (OBJ, PLY, STL, OFF, GLB) and point clouds (PLY, NPY).

    The decoder of a mesh tokenizer is a field, so what comes back is the surface of a solid. Many meshes are made of bodies that touch,
    with walls between them which a single solid does not have: with `layers` 2 or more the bodies are sorted into so many groups, touching
    ones into different groups as far as that goes; each group is a solid of its own, and the walls come back.
    """

    name: ClassVar[str] = "mesh"
    rank: ClassVar[int] = 1
    suffixes: ClassVar[tuple[str, ...]] = (".obj", ".ply", ".stl", ".off", ".glb", ".npy")
    output_suffix: ClassVar[str] = ".obj"
    extra_fields: ClassVar[tuple[str, ...]] = ("x", "y", "z", "a", "b", "c")
    """The frame: its centre, and how long its unit is along each axis. Short names: every token file holds them."""

    def __init__(
        self,
        *,
        points: Annotated[int, Field(ge=1)] = 4096,
        layers: Annotated[int, Field(ge=1, le=4)] = 1,
        fit: Fit = "cube",
        resolution: Annotated[int, Field(ge=8)] = 128,
    ):
        """
        Args:
            points: P, how many surface points the encoder sees; a quarter of them on sharp edges, where there are any.
            layers: groups of bodies; 1 makes everything one solid.
            fit: how the frame fits the shape: "cube" along its longest side, "box" along every side by itself, which spends the codes of a
                flat or thin shape better. The token file holds the frame.
            resolution: cells along a side of the grid that decoded surfaces are found on; multiples of 64 are refined from coarser grids.
        """
        self.points = points
        self.layers = layers
        self.fit: Fit = fit
        self.resolution = resolution
        self.channels = 6 if layers == 1 else 7

    def read(self, file: str | Path | BinaryIO, *, name: str = "") -> Shape:
        values, label = self.load(file, name=name)
        return self.shape(values, name or (Path(file).stem if isinstance(file, str | Path) else ""), label)

    def load(self, file: str | Path | BinaryIO, *, name: str = "") -> tuple[Tensor, str]:
        """The mesh [9, F] or point cloud [3 or 6, P] of a file, and what messages call the file. The arguments are those of `read`.

        Raises:
            InputError: as in `read`.
        """
        path = Path(file) if isinstance(file, str | Path) else None
        suffix = Path(name if path is None else path).suffix.lower()
        if suffix not in self.suffixes:
            given = path or name or "a file object"
            raise InputError(f"{given}: {suffix or 'no suffix'} is no mesh file; known: {', '.join(self.suffixes)}")
        with opened(file, name) as (stream, label):
            try:
                values = _load_cloud(stream) if suffix == ".npy" else _load(stream, suffix[1:])
            except InputError as error:
                raise InputError(f"{label}: {error}") from error
            except _DAMAGE as error:
                raise InputError(f"{label}: cannot read the {suffix[1:].upper()} file: {error or type(error).__name__}") from error
        return values, label

    def shape(self, values: Tensor, name: str = "", label: str = "") -> Shape:
        """A mesh [9, F] or a point cloud [3 or 6, P] with what the encoder sees of it.

        Raises:
            InputError: the shape is empty, has no area, or is too small or large for float32.
        """
        array = values.detach().cpu().double().numpy()
        try:
            frame, rows = self._rows(array)
        except InputError as error:
            raise InputError(f"{label or name or 'the shape'}: {error}") from error
        return Shape(values.detach().cpu().float(), name, frame.numbers, self.points_of(rows))

    def points_of(self, rows: Array) -> Tensor:
        """Place, normal and group [P, 7] as what the encoder sees, [6 or 7, P]."""
        if self.layers == 1:
            return torch.from_numpy(rows[:, :6].T.astype(np.float32))
        groups = rows[:, 6:] * (2 / (self.layers - 1)) - 1
        return torch.from_numpy(np.concatenate([rows[:, :6], groups], axis=1).T.astype(np.float32))

    def _rows(self, array: Array) -> tuple[Frame, Array]:
        """The frame and [points, 7]: place, normal and group. The choice of the points is always the same."""
        rng = np.random.default_rng(0)
        if len(array) == 9:
            if array.shape[1] > MOST_TRIANGLES:
                raise InputError(f"{array.shape[1]} triangles; at most {MOST_TRIANGLES} are read, so simplify the mesh first")
            _check_finite(array)
            solid = Solid.of(triangles_of(array), fit=self.fit, layers=self.layers)
            sharp = int(self.points * SHARP_SHARE)
            return solid.frame, solid.sample(self.points - sharp, sharp, rng)
        places, normals = array[:3].T, array[3:].T
        if not np.isfinite(array).all():
            raise InputError("the point cloud has numbers that are not finite")
        frame = Frame.of(places, fit=self.fit, fill=0.95)
        inside = frame.enter(places)
        if not normals.size:
            if len(places) < 4:
                raise InputError(f"a point cloud of {len(places)} points without normals; give normals, or at least 4 points")
            turned = estimated_normals(inside)
        else:
            turned = frame.enter_normals(normals)
        chosen = rng.permutation(np.resize(np.arange(len(places)), max(len(places), self.points)))[: self.points]
        return frame, np.concatenate([inside[chosen], turned[chosen], np.zeros((self.points, 1))], axis=1)

    def write(self, path: str | Path, values: Tensor, *, force: bool = False) -> None:
        """Write a mesh [9, F] by suffix: OBJ, PLY, STL, OFF or GLB. Corners at the same place become one vertex.

        Raises:
            InputError: the file exists and `force` is not set; another suffix; no triangles; numbers that are not finite.
        """
        path = Path(path)
        suffix = path.suffix.lower()
        if suffix not in WRITABLE:
            raise InputError(f"{path}: cannot write {suffix or 'a file without a suffix'!r}; use {', '.join(WRITABLE)}")
        if values.ndim != 2 or len(values) != 9:
            raise InputError(f"{path}: a mesh is [9, triangles], got {list(values.shape)}")
        if not values.shape[1]:
            raise InputError(f"{path}: the mesh is empty, nothing to write")
        if not values.isfinite().all():
            raise InputError(f"{path}: the mesh has numbers that are not finite, refusing to write it")
        refuse_overwrite(path, force=force)
        data = to_trimesh(values).export(file_type=suffix[1:])
        with replacing(path) as part:
            part.write_bytes(data.encode() if isinstance(data, str) else data)

    def samples(self, inputs: Any) -> list[Sample]:
        """Anything that holds shapes, as samples.

        Args:
            inputs: a path, a trimesh.Trimesh, a tensor or array [9, F], [6, P] or [3, P], or a list of these.

        Raises:
            InputError: something else.
        """
        found = self._collect(inputs)
        for position, sample in enumerate(found):
            sample.name = sample.name or str(position)
        return found

    def _collect(self, inputs: Any) -> list[Sample]:
        if isinstance(inputs, list | tuple):
            return [sample for item in inputs for sample in self._collect(item)]
        if isinstance(inputs, Sample):
            return [inputs]
        if isinstance(inputs, str | Path):
            return [self.read(inputs)]
        if hasattr(inputs, "triangles") and hasattr(inputs, "faces"):
            return [self.shape(from_trimesh(inputs))]
        if isinstance(inputs, Tensor | np.ndarray) and inputs.ndim in (2, 3) and inputs.shape[-2] in (3, 6, 9):
            each = torch.as_tensor(inputs)
            return [self.shape(values) for values in (each if each.ndim == 3 else each.unsqueeze(0))]
        given = f"{type(inputs).__name__}{list(inputs.shape) if isinstance(inputs, Tensor | np.ndarray) else ''}"
        raise InputError(f"mesh: cannot take {given}; give a path, a Trimesh, a mesh [9, F], a point cloud [6, P] or [3, P], or a list")

    def network_input(self, sample: Sample) -> Tensor:
        if isinstance(sample, Shape) and sample.points is not None:
            return sample.points
        points = self.shape(sample.values, sample.name).points
        assert points is not None
        return points

    def input_size(self, sample: Sample) -> tuple[int, ...]:
        return (self.points,)

    def stored_size(self, sample: Sample) -> tuple[int, ...]:
        return ()

    def surface(self, field: Callable[[Tensor], Tensor], *, device: torch.device) -> Tensor:
        triangles = isosurface(field, self.resolution, device=device)
        return torch.from_numpy(triangles.reshape(-1, 9).T.astype(np.float32))

    def restore(self, values: Tensor, extras: tuple[float, ...]) -> Tensor:
        corners = Frame.from_numbers(extras).leave(triangles_of(values.double().numpy()))
        return torch.from_numpy(corners.reshape(-1, 9).T.astype(np.float32))

    def normalize(self, values: Tensor) -> Tensor:
        return values

    def denormalize(self, values: Tensor, *, clamp: bool = True) -> Tensor:
        """Values of a field as they are; clamped, no farther from 0 than any distance in a frame."""
        return values.clamp(-FAR, FAR) if clamp else values


def triangles_of(values: Tensor | Array) -> Array:
    """A mesh [9, F] as float64 [F, 3, 3]."""
    array = values.detach().cpu().numpy() if isinstance(values, Tensor) else values
    return np.ascontiguousarray(array.T.astype(np.float64)).reshape(-1, 3, 3)


def to_trimesh(values: Tensor) -> Any:
    """A mesh [9, F] as a trimesh.Trimesh; corners at the same place become one vertex."""
    import trimesh

    vertices, faces = weld(triangles_of(values))
    return trimesh.Trimesh(vertices, faces, process=False)


def from_trimesh(mesh: Any) -> Tensor:
    """The triangles of a trimesh.Trimesh as [9, F] float32."""
    with np.errstate(over="ignore"):
        return torch.from_numpy(np.asarray(mesh.triangles, dtype=np.float32).reshape(-1, 9).T.copy())


def _load(stream: BinaryIO, kind: str) -> Tensor:
    """The triangles of all meshes in a file as [9, F], or its points as [6, P] or [3, P]."""
    import trimesh

    scene = trimesh.load_scene(stream, file_type=kind, process=False)
    parts = scene.dump()
    meshes = [part for part in parts if isinstance(part, trimesh.Trimesh) and len(part.faces)]
    if meshes:
        values = torch.cat([from_trimesh(mesh) for mesh in meshes], dim=1)
        _check_finite(values.numpy())
        if not len(cleaned(triangles_of(values))):
            raise InputError("the mesh has no triangle with an area")
        return values
    for part in parts:
        if len(getattr(part, "vertices", ())):
            return _cloud(np.asarray(part.vertices), part)
    raise InputError("the file holds no triangles and no points")


def _check_finite(triangles: np.ndarray) -> None:
    """Of [9, F]. A mesh without its broken triangles would be another shape, with holes that the rebuilding closes without a word."""
    if broken := int((~np.isfinite(triangles)).any(axis=0).sum()):
        raise InputError(f"{broken} of {triangles.shape[1]} triangles have numbers that are not finite, or that float32 cannot hold")


def _cloud(points: Array, part: Any) -> Tensor:
    """Points, with the normals that a PLY file has for them."""
    stored = part.metadata.get("_ply_raw", {}).get("vertex", {}).get("data", {})
    names = stored.dtype.names if hasattr(stored, "dtype") else stored
    if names and all(name in names for name in ("nx", "ny", "nz")):
        points = np.concatenate([points, np.stack([np.asarray(stored[name]).ravel() for name in ("nx", "ny", "nz")], axis=1)], axis=1)
    return torch.from_numpy(points.T.astype(np.float32))


def _load_cloud(stream: BinaryIO) -> Tensor:
    """An array [P, 3] or [P, 6] as [3 or 6, P]."""
    array = np.load(stream, allow_pickle=False)
    if array.ndim != 2 or array.shape[1] not in (3, 6) or not len(array) or array.dtype.kind not in "fiu":
        raise InputError(f"a point cloud is a number array [P, 3] or [P, 6] (with normals), got {array.dtype} {list(array.shape)}")
    return torch.from_numpy(array.T.astype(np.float32))
