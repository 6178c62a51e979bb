"""Meshes as rounded coordinates and vertex numbers, deflated: what one gets without a mesh codec."""

from __future__ import annotations

import struct
import zlib
from typing import ClassVar

import numpy as np
from torch import Tensor

from tokkit.baselines.base import Baseline
from tokkit.baselines.draco import mesh_of, triangles_to_values
from tokkit.errors import InputError
from tokkit.registry import register

_HEAD = struct.Struct("<BIIffff")


class _Deflated(Baseline):
    """Base of the two below: they differ in what happens to the mesh first."""

    modality: ClassVar[str] = "mesh"

    def __init__(self) -> None:
        pass

    @property
    def library(self) -> str:
        return f"zlib {zlib.ZLIB_RUNTIME_VERSION}"

    def decode(self, data: bytes) -> Tensor:
        return triangles_to_values(*unpack_mesh(data))


@register("baseline", "quantized_mesh")
class QuantizedMesh(_Deflated):
    """Coordinates rounded to a grid over the longest side, differences of neighbours, zlib; the quality is the bits of a coordinate."""

    name: ClassVar[str] = "quantized_mesh"
    qualities: ClassVar[tuple[int, int]] = (2, 16)
    sweep: ClassVar[tuple[int, ...]] = (3, 4, 5, 6, 7, 8, 10, 12)

    def encode(self, values: Tensor, quality: int) -> bytes:
        return pack_mesh(*mesh_of(values), quality)


@register("baseline", "decimated_mesh")
class DecimatedMesh(_Deflated):
    """Vertices in one cell of a grid become one, then as `quantized_mesh`, 8 bits; the quality is the grid's side.

    Vertex clustering (Rossignac and Borrel, https://doi.org/10.1007/978-3-642-78114-8_29).
    """

    name: ClassVar[str] = "decimated_mesh"
    qualities: ClassVar[tuple[int, int]] = (2, 256)
    sweep: ClassVar[tuple[int, ...]] = (4, 6, 8, 12, 16, 24, 32, 64, 128)

    def encode(self, values: Tensor, quality: int) -> bytes:
        return pack_mesh(*clustered(*mesh_of(values), quality), 8)


def clustered(vertices: np.ndarray, faces: np.ndarray, cells: int) -> tuple[np.ndarray, np.ndarray]:
    """The mesh with all vertices of a cell at their mean; triangles that lose their area, and doubles, are dropped."""
    low = vertices.min(axis=0)
    side = max(float(np.ptp(vertices, axis=0).max()), 1e-30) / cells
    cell = np.minimum(((vertices - low) / side).astype(np.int64), cells - 1)
    _, which = np.unique(cell, axis=0, return_inverse=True)
    which = which.reshape(-1)
    count = np.bincount(which)
    means = np.stack([np.bincount(which, vertices[:, axis]) / count for axis in range(3)], axis=1)
    joined = which[faces]
    kept = (joined[:, 0] != joined[:, 1]) & (joined[:, 1] != joined[:, 2]) & (joined[:, 2] != joined[:, 0])
    turned = _smallest_first(joined[kept])
    return means, np.unique(turned, axis=0) if len(turned) else turned


def pack_mesh(vertices: np.ndarray, faces: np.ndarray, bits: int) -> bytes:
    """A mesh as bytes: bits, V, F, lowest corner and step as little-endian numbers, then deflated varints.

    The vertices are sorted by (z, y, x) of their rounded places and equal ones joined; each coordinate is stored as the difference to
    that of the vertex before. A face begins with its lowest vertex and the faces are sorted; of the first vertices the difference to that
    of the face before is stored, of the second and third ones the difference to the vertex before in the face.

    Raises:
        InputError: no bits from 1 to 16.
    """
    if not 1 <= bits <= 16:
        raise InputError(f"quantized_mesh: bits must be 1 to 16, got {bits}")
    low = vertices.min(axis=0).astype(np.float32)
    step = np.float32(max(float(np.ptp(vertices, axis=0).max()), 1e-30) / (2**bits - 1))
    rounded = np.clip(np.rint((vertices - low) / step), 0, 2**bits - 1).astype(np.int64)
    ordered, which = np.unique(rounded[:, ::-1], axis=0, return_inverse=True)
    places = ordered[:, ::-1]
    faces = which.reshape(-1)[faces]
    faces = faces[(faces[:, 0] != faces[:, 1]) & (faces[:, 1] != faces[:, 2]) & (faces[:, 2] != faces[:, 0])]
    faces = _smallest_first(faces)
    faces = faces[np.lexsort(faces.T[::-1])]
    steps = np.diff(places, axis=0, prepend=0)
    first = np.diff(faces[:, 0], prepend=0)
    numbers = np.concatenate([_folded(steps.T.ravel()), first, _folded(faces[:, 1] - faces[:, 0]), _folded(faces[:, 2] - faces[:, 1])])
    head = _HEAD.pack(bits, len(places), len(faces), *low.tolist(), float(step))
    return head + zlib.compress(_varints(numbers), 9)


def unpack_mesh(data: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Vertices [V, 3] and faces [F, 3] of `pack_mesh`'s bytes.

    Raises:
        InputError: they are damaged.
    """
    try:
        _, vertices, faces, *low, step = _HEAD.unpack_from(data)
        numbers = _numbers(zlib.decompress(data[_HEAD.size :]))
    except (struct.error, zlib.error) as error:
        raise InputError(f"quantized_mesh: damaged: {error}") from error
    if len(numbers) != 3 * (vertices + faces):
        raise InputError(f"quantized_mesh: damaged: {len(numbers)} numbers for {vertices} vertices and {faces} faces")
    places = np.cumsum(_unfolded(numbers[: 3 * vertices]).reshape(3, vertices).T, axis=0)
    first, second, third = numbers[3 * vertices :].reshape(3, faces)
    one = np.cumsum(first)
    two = one + _unfolded(second)
    return places * step + np.array(low), np.stack([one, two, two + _unfolded(third)], axis=1)


def _smallest_first(faces: np.ndarray) -> np.ndarray:
    """Each face turned, not mirrored, so that its lowest vertex comes first."""
    lowest = faces.argmin(axis=1)
    return faces[np.arange(len(faces))[:, None], (lowest[:, None] + np.arange(3)) % 3]


def _folded(numbers: np.ndarray) -> np.ndarray:
    """0, -1, 1, -2, ... as 0, 1, 2, 3, ..."""
    return np.where(numbers < 0, -2 * numbers - 1, 2 * numbers)


def _unfolded(numbers: np.ndarray) -> np.ndarray:
    return np.where(numbers % 2, -(numbers + 1) // 2, numbers // 2)


def _varints(numbers: np.ndarray) -> bytes:
    """Seven bits a byte, the lowest first; the eighth is set where more follow."""
    result = bytearray()
    for number in numbers.tolist():
        while number > 127:
            result.append(number & 127 | 128)
            number >>= 7
        result.append(number)
    return bytes(result)


def _numbers(data: bytes) -> np.ndarray:
    found, value, shift = [], 0, 0
    for byte in data:
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            found.append(value)
            value = shift = 0
    return np.array(found, dtype=np.int64)
