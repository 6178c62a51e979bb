"""Draco, rounded and decimated meshes, and the rule-based sequences."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from trimesh import creation

import tokkit
from tokkit.baselines.quantized_mesh import clustered, pack_mesh, unpack_mesh
from tokkit.errors import InputError, TokenFileError
from tokkit.geometry.frame import Frame
from tokkit.geometry.triangles import Array, weld
from tokkit.meshtokens.bpt import fans
from tokkit.modalities.mesh import from_trimesh, to_trimesh, triangles_of
from tokkit.tokens import Tokens

NAMES = ["draco", "quantized_mesh", "decimated_mesh"]


def ring() -> torch.Tensor:
    return from_trimesh(creation.torus(0.7, 0.25, major_sections=24, minor_sections=12).apply_translation([3, 0, 0]))


def two() -> torch.Tensor:
    return torch.cat([from_trimesh(creation.box()), from_trimesh(creation.icosphere(1).apply_translation([0.3, 0.2, 0.1]))], 1)


@pytest.mark.parametrize("name", NAMES)
def test_more_bytes_are_better(name: str) -> None:
    if name == "draco":
        pytest.importorskip("DracoPy")
    baseline = tokkit.build("baseline", name)
    low, high = baseline.sweep[1], baseline.sweep[-1]
    small, large = baseline.encode(ring(), low), baseline.encode(ring(), high)
    score = tokkit.build("metric", "chamfer_l1")
    assert len(small) < len(large) and score(ring(), baseline.decode(large)) < score(ring(), baseline.decode(small))
    fitted = baseline.fit(ring(), len(large))
    assert len(fitted.data) <= len(large) and not fitted.over_budget and baseline.fit(ring(), 10).over_budget
    with pytest.raises(InputError):
        baseline.encode(torch.zeros(9, 0), low)
    assert baseline.library


def test_rounded_meshes_come_back_rounded() -> None:
    vertices, faces = weld(triangles_of(ring()))
    places, found = unpack_mesh(pack_mesh(vertices, faces, 12))
    step = np.ptp(vertices, axis=0).max() / 4095
    assert places.shape == vertices.shape and found.shape == faces.shape
    nearest = np.abs(places[:, None] - vertices[None]).max(axis=2).min(axis=1)
    assert nearest.max() <= step * 0.51 and to_trimesh(torch.tensor(places[found].reshape(-1, 9).T).float()).is_watertight
    with pytest.raises(InputError, match="damaged"):
        unpack_mesh(pack_mesh(vertices, faces, 12)[:-9])
    with pytest.raises(InputError, match="1 to 16"):
        pack_mesh(vertices, faces, 17)
    assert len(clustered(vertices, faces, 4)[0]) < len(vertices)


def rounded(values: torch.Tensor, resolution: int) -> Array:
    """Written once more: corners on the grid, without triangles that lose a corner."""
    triangles = triangles_of(values)
    places = np.rint((Frame.of(triangles.reshape(-1, 3)).enter(triangles) + 1) / 2 * (resolution - 1))
    return places[(places != np.roll(places, 1, axis=1)).any(axis=2).all(axis=1)]


def canonical(triangles: Array) -> list[tuple[float, ...]]:
    """Triangles turned to begin with their lowest corner, sorted."""
    turned = [min(np.roll(corners, -shift, axis=0).ravel().tolist() for shift in range(3)) for corners in triangles]
    return sorted(map(tuple, turned))


@pytest.mark.parametrize("values", [ring(), two(), two()[:, :13], torch.cat([two(), two()], 1)], ids=["ring", "two", "open", "doubled"])
def test_bpt_is_reversible_up_to_the_rounding(values: torch.Tensor, tmp_path: Path) -> None:
    bpt = tokkit.build("meshtokens", "bpt")
    tokens = bpt.encode(values, name="shape")
    assert bpt.vocabulary_size == 5120 == tokens.codebook_sizes[0] and tokens.modality == "mesh"
    tokens.save(tmp_path / "x.tok")
    decoded = bpt.decode(Tokens.load(tmp_path / "x.tok"))
    frame = Frame.of(triangles_of(values).reshape(-1, 3))
    places = np.rint((frame.enter(triangles_of(decoded)) + 1) / 2 * 127)
    assert canonical(places) == canonical(rounded(values, 128))
    assert tokens.codes.shape[1] < 0.5 * 9 * values.shape[1]


def test_fans_hold_every_triangle_once_in_its_turn() -> None:
    faces = np.random.default_rng(0).integers(0, 9, (200, 3))
    faces = faces[(faces != np.roll(faces, 1, axis=1)).all(axis=1)]
    found = [(patch[0], patch[i], patch[i + 1]) for patch in fans(faces) for i in range(1, len(patch) - 1)]
    assert canonical(np.array(found)[..., None]) == canonical(faces[..., None])
    wheel = np.array([[0, i, i % 6 + 1] for i in range(1, 7)])
    assert fans(wheel) == [[0, 1, 2, 3, 4, 5, 6, 1]]


def test_bpt_refuses_what_no_mesh_has() -> None:
    bpt = tokkit.build("meshtokens", "bpt", blocks=2, offsets=4)
    with pytest.raises(InputError, match=r"takes a mesh \[9, F\], got \[3, 10\]"):
        bpt.encode(torch.rand(3, 10))
    tokens = bpt.encode(ring())
    with pytest.raises(TokenFileError, match="not by 'bpt'"):
        tokkit.build("meshtokens", "bpt").decode(tokens)
    with pytest.raises(TokenFileError, match="one sample"):
        bpt.decode(Tokens.cat([tokens, tokens]))
    from dataclasses import replace

    for ids in ([3], [64], [64, 3], [72, 1, 2], [64, 65, 1], [72, 1, 2, 3, 64]):
        with pytest.raises(TokenFileError, match="bpt"):
            bpt.decode(replace(tokens, codes=torch.tensor(ids).view(1, -1, 1)))
    with pytest.raises(InputError, match="no triangle"):
        bpt.encode(torch.zeros(9, 0))
