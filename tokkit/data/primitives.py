"""Generated shapes, for tests and dry runs that should depend on no file."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
import torch
from pydantic import Field

from tokkit.data.base import Split
from tokkit.data.mesh_shards import ShapeSource, mesh_modality
from tokkit.data.shapes import Counts, Prepared
from tokkit.geometry.shape import Solid
from tokkit.geometry.triangles import Array
from tokkit.modalities.base import Modality, Sample
from tokkit.registry import register


@register("data", "primitives")
class Primitives(ShapeSource):
    """Boxes, balls, cylinders, cones and rings of trimesh, stretched; every other one is two of them, overlapping."""

    def __init__(
        self,
        *,
        count: Annotated[int, Field(ge=1)] = 32,
        seed: int = 0,
        queries: Annotated[int, Field(ge=1)] = 512,
        turn: bool = True,
    ):
        """
        Args:
            count: of shapes in the split "train"; "val" has a quarter as many, other ones.
            seed: of the whole set.
            queries: points at which the field is looked at in an example.
            turn: turn or mirror training examples onto one of the 48 symmetries of the cube.
        """
        super().__init__(queries=queries, turn=turn)
        self.count = count
        self.seed = seed

    def find(self, modality: Modality, split: Split) -> list[tuple[str, Prepared]]:
        mesh = mesh_modality(modality)
        wanted = range(self.count) if split == "train" else range(self.count, self.count + max(1, self.count // 4))
        counts = Counts(surface=mesh.points, sharp=mesh.points // 4, near=2 * self.queries, volume=self.queries)
        found = []
        for number in wanted:
            solid = Solid.of(primitive(self.seed, number), fit=mesh.fit, layers=mesh.layers)
            found.append((f"primitive-{number:05d}", Prepared.of(solid, counts, layers=mesh.layers, seed=number)))
        return found

    def load(self, item: tuple[str, Prepared], modality: Modality) -> Sample:
        """The mesh itself, so that metrics have something to hold a reconstruction against."""
        name, _ = item
        triangles = primitive(self.seed, int(name.rpartition("-")[2]))
        return mesh_modality(modality).shape(torch.from_numpy(triangles.reshape(-1, 9).T), name)


def primitive(seed: int, number: int) -> Array:
    """Shape `number` of a seed: triangles [F, 3, 3]."""
    rng = np.random.default_rng((seed, number))
    first = _one(rng, number // 2)
    if number % 2 == 0:
        return first
    return np.concatenate([first, _one(rng, int(rng.integers(5))) * rng.uniform(0.4, 0.8) + rng.uniform(-0.6, 0.6, 3)])


def _one(rng: np.random.Generator, kind: int) -> Array:
    from trimesh import creation

    makers: tuple[Any, ...] = (
        lambda: creation.box(extents=(1.6, 1.6, 1.6)),
        lambda: creation.icosphere(subdivisions=2, radius=0.9),
        lambda: creation.cylinder(radius=0.7, height=1.6, sections=20),
        lambda: creation.cone(radius=0.8, height=1.6, sections=20),
        lambda: creation.torus(major_radius=0.65, minor_radius=0.25, major_sections=20, minor_sections=10),
    )
    return np.asarray(makers[kind % len(makers)]().triangles, dtype=np.float64) * rng.uniform(0.5, 1.0, 3)
