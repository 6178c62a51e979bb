"""Shapes made ready for training: points of their surface, and points around it with signed distances. Each is a small .npz file."""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass, fields

import numpy as np
import torch
from numpy.typing import NDArray

from tokkit.errors import InputError
from tokkit.geometry.field import LayeredField
from tokkit.geometry.shape import Solid
from tokkit.geometry.triangles import Array
from tokkit.modalities.base import FieldBatch
from tokkit.modalities.mesh import SHARP_SHARE, Mesh

NEAR = (0.01, 0.04)
"""Standard deviations of the distance of the near query points from the surface; half of them each. Shapes are about 2 large."""
FILL = 0.95
"""The box of a shape reaches from -FILL to FILL."""
_STEPS = 32767
_NORMAL_STEPS = 127


@dataclass(frozen=True)
class Counts:
    """How many points a shape gets.

    Attributes:
        surface: on the surface, evenly.
        sharp: on sharp edges (on the surface where there are none).
        near: queries near the surface, a quarter of them near sharp edges.
        volume: queries anywhere in [-1, 1]^3.
    """

    surface: int = 6144
    sharp: int = 2048
    near: int = 12288
    volume: int = 4096


@dataclass(frozen=True)
class Prepared:
    """A shape in its frame.

    Attributes:
        frame: float32 [6], `Frame.numbers`.
        surface, sharp: int16 [P, 3], places * 32767.
        surface_normals, sharp_normals: int8 [P, 3], unit normals * 127.
        surface_groups, sharp_groups: uint8 [P].
        queries: int16 [M, 3], places * 32767; the near ones first.
        distances: float16 [M, layers], signed distances in units of the frame, NEGATIVE INSIDE.
    """

    frame: NDArray[np.float32]
    surface: NDArray[np.int16]
    surface_normals: NDArray[np.int8]
    surface_groups: NDArray[np.uint8]
    sharp: NDArray[np.int16]
    sharp_normals: NDArray[np.int8]
    sharp_groups: NDArray[np.uint8]
    queries: NDArray[np.int16]
    distances: NDArray[np.float16]

    @classmethod
    def of(cls, solid: Solid, counts: Counts, *, layers: int, seed: int = 0) -> Prepared:
        """Sample a solid; the same seed gives the same points.

        Raises:
            InputError: it has no area.
        """
        rng = np.random.default_rng(seed)
        surface, sharp = solid.sample(counts.surface, 0, rng), solid.sample(0, counts.sharp, rng)
        bases = np.concatenate([solid.sample(counts.near - counts.near // 4, 0, rng), solid.sample(0, counts.near // 4, rng)])[:, :3]
        spread = np.where(np.arange(len(bases)) % 2, *NEAR)[:, None]
        near = np.clip(bases + rng.normal(size=bases.shape) * spread, -1, 1)
        places = np.concatenate([near, rng.uniform(-1, 1, (counts.volume, 3))])
        queries = np.rint(places * _STEPS).astype(np.int16)
        field = LayeredField(solid.triangles, solid.groups, layers=layers, seed=seed)
        distances = field(queries.astype(np.float64) / _STEPS).astype(np.float16)
        return cls(np.array(solid.frame.numbers, dtype=np.float32), *_small(surface), *_small(sharp), queries, distances)

    def to_bytes(self) -> bytes:
        """A compressed .npz file; no pickle in it."""
        stream = io.BytesIO()
        np.savez_compressed(stream, **{entry.name: getattr(self, entry.name) for entry in fields(self)})
        return stream.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes, label: str) -> Prepared:
        """Read what `to_bytes` made.

        Raises:
            InputError: naming `label`: damaged, or something else.
        """
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
                return cls(**{entry.name: arrays[entry.name] for entry in fields(cls)})
        except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile) as error:
            raise InputError(f"{label}: not a prepared shape, or damaged: {error}") from error

    def rows(self, count: int, rng: np.random.Generator | None) -> Array:
        """`count` surface points, [count, 7]: place, normal, group; a share of them sharp. Without `rng` always the same ones."""
        sharp = min(int(count * SHARP_SHARE), len(self.sharp))
        if count - sharp > len(self.surface):
            raise InputError(
                f"{count} points wanted, and these shapes were prepared with --surface {len(self.surface)} --sharp {len(self.sharp)}; "
                "set modality.points lower or prepare more"
            )
        parts = (
            (self.surface, self.surface_normals, self.surface_groups, count - sharp),
            (self.sharp, self.sharp_normals, self.sharp_groups, sharp),
        )
        rows = []
        for places, normals, groups, amount in parts:
            which = _chosen(len(places), amount, rng)
            rows.append(np.concatenate([places[which] / _STEPS, normals[which] / _NORMAL_STEPS, groups[which, None]], axis=1))
        return np.concatenate(rows)

    def example(
        self, modality: Mesh, queries: int, rng: np.random.Generator | None, *, turn: bool = False, warp: float = 0.0
    ) -> FieldBatch:
        """One training example, without the batch axis.

        Args:
            modality: says how many points the encoder sees, and of how many layers.
            queries: how many points the field is looked at; all of them when there are fewer.
            rng: of the choice of all points; the same ones every time without it.
            turn: turn or mirror the shape onto one of the 48 symmetries of the cube.
            warp: stretch and squeeze parts of each axis, at most so much, see `Warp`. The surface stays exact; distances from it are
                scaled by the mean stretch where they are measured.
        """
        rows = self.rows(modality.points, rng)
        which = _chosen(len(self.queries), min(queries, len(self.queries)), rng)
        places = self.queries[which] / _STEPS
        distances = self.distances[which].astype(np.float32)
        if warp and rng is not None:
            bent = Warp.drawn(rng, warp)
            places, slopes = bent(places)
            distances *= np.cbrt(slopes.prod(axis=1, keepdims=True))
            rows[:, :3], slopes = bent(rows[:, :3])
            normals = rows[:, 3:6] / slopes
            rows[:, 3:6] = normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)
        if turn and rng is not None:
            order, flip = rng.permutation(3), rng.choice([-1.0, 1.0], 3)
            rows[:, :3], rows[:, 3:6] = rows[:, order] * flip, rows[:, 3 + order] * flip
            places = places[:, order] * flip
        inputs = modality.points_of(rows)
        return FieldBatch(inputs, torch.from_numpy(places.astype(np.float32)), torch.from_numpy(distances))


@dataclass(frozen=True)
class Warp:
    """Each axis stretched in some parts and squeezed in others: x to x + waves that are 0 at the sides of the shape's box.

    Faces along the axes stay flat and the box stays the box, so shapes that are made of parts become others of their kind.

    Attributes:
        waves: [2, 2, 3], for one and two periods along the box the amplitudes of cosine and sine in the slope of each axis.
    """

    waves: Array

    @classmethod
    def drawn(cls, rng: np.random.Generator, most: float) -> Warp:
        """With slopes between 1 - most and 1 + most."""
        amounts = rng.uniform(0, most / 2, (2, 1, 3))
        angles = rng.uniform(0, 2 * np.pi, (2, 1, 3))
        return cls(np.concatenate([amounts * np.cos(angles), amounts * np.sin(angles)], axis=1))

    def __call__(self, points: Array) -> tuple[Array, Array]:
        """Points [N, 3] moved, and the slopes [N, 3] of the axes there."""
        across = np.minimum(np.maximum(points.astype(np.float32) * np.float32(np.pi / FILL), -np.float32(np.pi)), np.float32(np.pi))
        c, s = np.cos(across), np.sin(across)
        (p, q), (u, v) = self.waves.astype(np.float32)
        twice_c, twice_s = 2 * c * c - 1, 2 * s * c
        moved = points + np.float32(FILL / np.pi) * (p * s - q * (c + 1) + u / 2 * twice_s - v / 2 * (twice_c - 1))
        slopes = 1 + p * c + q * s + u * twice_c + v * twice_s
        return moved, slopes


def _small(rows: Array) -> tuple[NDArray[np.int16], NDArray[np.int8], NDArray[np.uint8]]:
    places = np.rint(rows[:, :3].clip(-1, 1) * _STEPS).astype(np.int16)
    return places, np.rint(rows[:, 3:6] * _NORMAL_STEPS).astype(np.int8), rows[:, 6].astype(np.uint8)


def _chosen(available: int, count: int, rng: np.random.Generator | None) -> NDArray[np.int64]:
    """`count` of the indices below `available`; without `rng` spread evenly."""
    return np.arange(count) * available // max(count, 1) if rng is None else rng.permutation(available)[:count]
