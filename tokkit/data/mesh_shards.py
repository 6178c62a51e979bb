"""Shapes that `tokkit prepare` made ready."""

from __future__ import annotations

import json
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from tokkit.data.base import Source, Split
from tokkit.data.shapes import Prepared
from tokkit.errors import InputError
from tokkit.modalities.base import FieldBatch, Modality, Sample
from tokkit.modalities.mesh import Mesh, Shape
from tokkit.registry import register

MANIFEST = "manifest.json"
FORMAT = "tokkit-shapes"
VERSION = 1


class ShapeSource(Source):
    """Base of sources whose items are names and `Prepared` shapes. Examples are `FieldBatch`es, without the batch axis."""

    def __init__(self, *, queries: int, turn: bool, warp: float = 0.0):
        super().__init__(size=queries)
        self.queries = queries
        self.turn = turn
        self.warp = warp

    def __getitem__(self, index: int) -> FieldBatch:  # type: ignore[override]
        """Sample `index` with points that are the same every time."""
        if not 0 <= index < len(self):
            raise IndexError(f"index {index} is not in 0..{len(self) - 1}")
        return self._items[index][1].example(self._mesh(), self.queries, None)

    def draw(self, index: int, seed: int) -> FieldBatch:  # type: ignore[override]
        """The training example that `seed` makes of sample `index`: its choice of points, turned and warped where that is asked for."""
        return self._items[index][1].example(self._mesh(), self.queries, np.random.default_rng(seed), turn=self.turn, warp=self.warp)

    def load(self, item: tuple[str, Prepared], modality: Modality) -> Sample:
        """What the encoder sees of a shape, ready to encode. It holds no mesh, so metrics want the original files."""
        return shape_sample(*item, mesh_modality(modality))

    def _mesh(self) -> Mesh:
        return mesh_modality(self._opened())


@register("data", "mesh_shards")
class MeshShards(ShapeSource):
    """The folders that `tokkit prepare` writes. They are read into memory when they are opened."""

    def __init__(
        self,
        *,
        path: str,
        val: str | None = None,
        queries: Annotated[int, Field(ge=1)] = 2048,
        turn: bool = True,
        warp: Annotated[float, Field(ge=0, lt=1)] = 0.0,
    ):
        """
        Args:
            path: the folder.
            val: the folder of the held-out split "val"; without it, that split is `path` too.
            queries: points at which the field is looked at in an example.
            turn: turn or mirror training examples onto one of the 48 symmetries of the cube.
            warp: stretch and squeeze parts of each axis of training examples, by at most this share: of some hundred shapes of
                axis-aligned parts, any number. Distances are then right at the surface and about right elsewhere.
        """
        super().__init__(queries=queries, turn=turn, warp=warp)
        self.path = path
        self.val = val

    def find(self, modality: Modality, split: Split) -> list[tuple[str, Prepared]]:
        folder = Path(self.val if split == "val" and self.val is not None else self.path).expanduser()
        check_manifest(folder, mesh_modality(modality))
        found = [shape for path in sorted(folder.glob("shapes-*.tar")) for shape in read_shard(path)]
        if not found:
            raise InputError(f"{folder}: no shapes in this folder; run `tokkit prepare` to the end")
        return found


def mesh_modality(modality: Modality) -> Mesh:
    """The modality, where it is `mesh`.

    Raises:
        InputError: it is another.
    """
    if not isinstance(modality, Mesh):
        raise InputError(f"this data source holds shapes, and the modality is {modality.name}")
    return modality


def shape_sample(name: str, shape: Prepared, mesh: Mesh) -> Shape:
    """What the encoder sees of a prepared shape, ready to encode. It holds no mesh."""
    points = mesh.points_of(shape.rows(mesh.points, None))
    return Shape(points, name, tuple(shape.frame.tolist()), points)


def check_manifest(folder: Path, mesh: Mesh) -> None:
    """Refuse a folder that was prepared otherwise than the modality needs.

    Raises:
        InputError: naming the option; or the folder was not written by `tokkit prepare`.
    """
    manifest = read_manifest(folder)
    for option in ("fit", "layers"):
        if manifest[option] != getattr(mesh, option):
            raise InputError(
                f"{folder}: prepared with {option}={manifest[option]}, and the modality has {option}={getattr(mesh, option)}; "
                f"set modality.{option}, or prepare again with --{option} {getattr(mesh, option)}"
            )


def read_manifest(folder: Path) -> dict[str, Any]:
    """What `tokkit prepare` was asked for.

    Raises:
        InputError: the folder was not written by it.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{folder / MANIFEST}: cannot read: {getattr(error, 'strerror', None) or error}; run `tokkit prepare`") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT or manifest.get("version") != VERSION:
        raise InputError(f"{folder / MANIFEST}: not a folder of `tokkit prepare` (format {FORMAT!r}, version {VERSION})")
    return manifest


def read_shard(path: Path) -> list[tuple[str, Prepared]]:
    """Names and shapes of one tar file.

    Raises:
        InputError: it is damaged.
    """
    try:
        with tarfile.open(path) as tar:
            members = [(member.name, tar.extractfile(member)) for member in tar if member.name.endswith(".npz")]
            data = [(name, stream.read()) for name, stream in members if stream is not None]
    except (tarfile.TarError, OSError, EOFError) as error:
        raise InputError(f"{path}: damaged: {error}") from error
    with ThreadPoolExecutor() as readers:  # unpacking leaves the interpreter to the others
        shapes = readers.map(lambda member: Prepared.from_bytes(member[1], f"{path}:{member[0]}"), data)
        return [(name.removesuffix(".npz"), shape) for (name, _), shape in zip(data, shapes, strict=True)]
