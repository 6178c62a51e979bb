"""Draco."""

from __future__ import annotations

import importlib
from importlib import metadata
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from tokkit.baselines.base import Baseline
from tokkit.errors import InputError
from tokkit.geometry.triangles import weld
from tokkit.registry import register


@register("baseline", "draco")
class Draco(Baseline):
    """Google's mesh codec, positions and connectivity only, slowest and smallest setting; the quality is the bits of a coordinate."""

    name: ClassVar[str] = "draco"
    modality: ClassVar[str] = "mesh"
    qualities: ClassVar[tuple[int, int]] = (2, 16)
    sweep: ClassVar[tuple[int, ...]] = (3, 4, 5, 6, 7, 8, 10, 12)

    def __init__(self) -> None:
        """
        Raises:
            InputError: DracoPy is not installed.
        """
        try:
            self._draco: Any = importlib.import_module("DracoPy")
        except ImportError as error:
            raise InputError("baseline 'draco': needs the package DracoPy; pip install DracoPy") from error

    def encode(self, values: Tensor, quality: int) -> bytes:
        """A mesh [9, F] as a Draco file.

        Raises:
            InputError: the mesh is empty.
        """
        vertices, faces = mesh_of(values)
        data: bytes = self._draco.encode(vertices, faces, quantization_bits=quality, compression_level=10)
        return data

    def decode(self, data: bytes) -> Tensor:
        mesh = self._draco.decode(data)
        return triangles_to_values(np.asarray(mesh.points, dtype=np.float64), np.asarray(mesh.faces, dtype=np.int64))

    @property
    def library(self) -> str:
        return f"DracoPy {metadata.version('DracoPy')}"


def mesh_of(values: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """A mesh [9, F] as float64 vertices [V, 3], each place once, and faces [F, 3].

    Raises:
        InputError: it is empty.
    """
    if values.ndim != 2 or len(values) != 9 or not values.shape[1]:
        raise InputError(f"a mesh is [9, triangles], at least one, got {list(values.shape)}")
    vertices, faces = weld(np.ascontiguousarray(values.detach().cpu().double().numpy().T).reshape(-1, 3, 3))
    return vertices, faces


def triangles_to_values(vertices: np.ndarray, faces: np.ndarray) -> Tensor:
    """Vertices and faces as a mesh [9, F]."""
    return torch.from_numpy(vertices[faces].reshape(-1, 9).T.astype(np.float32))
