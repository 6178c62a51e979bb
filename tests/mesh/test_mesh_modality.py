"""Mesh files and point clouds, in and out; and what is refused."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from trimesh import creation

import tokkit
from tokkit.errors import InputError
from tokkit.modalities.base import Sample
from tokkit.modalities.mesh import Mesh, Shape, from_trimesh, to_trimesh, triangles_of


def mesh(**options: object) -> Mesh:
    return tokkit.build("modality", "mesh", points=256, resolution=32, **options)


@pytest.mark.parametrize("suffix", [".obj", ".ply", ".stl", ".off", ".glb"])
def test_every_format_there_and_back(suffix: str, tmp_path: Path) -> None:
    values = from_trimesh(creation.annulus(0.5, 1.5, 3).apply_translation([7, -5, 2]))
    path = tmp_path / f"ring{suffix}"
    mesh().write(path, values)
    shape = mesh().read(path)
    assert shape.name == "ring" and shape.values.shape == values.shape and to_trimesh(shape.values).is_watertight
    assert torch.allclose(shape.values.sum(), values.sum(), rtol=1e-4) and shape.extras[:3] == pytest.approx((7, -5, 2))
    with path.open("rb") as stream:
        assert torch.equal(mesh().read(stream, name=path.name).values, shape.values)
    with pytest.raises(InputError, match="exists"):
        mesh().write(path, values)
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_what_the_encoder_sees() -> None:
    shape = mesh(layers=2, fit="box").samples(creation.box(extents=(1, 2, 4)))[0]
    assert isinstance(shape, Shape) and shape.points is not None and shape.points.shape == (7, 256)
    assert shape.points[:3].abs().max() <= 0.9501 and shape.points[:3].abs().max(1).values.min() > 0.94
    assert set(shape.points[6].tolist()) == {-1.0}
    assert mesh().samples(creation.box())[0].points.shape == (6, 256)
    again = mesh(layers=2, fit="box").samples(creation.box(extents=(1, 2, 4)))[0]
    assert torch.equal(shape.points, again.points), "the same points every time"
    assert mesh().input_size(shape) == (256,)
    assert torch.equal(mesh().network_input(Sample(shape.values)), mesh().network_input(mesh().shape(shape.values)))


def test_restore_is_the_inverse_of_the_frame() -> None:
    modality = mesh(fit="box")
    values = from_trimesh(creation.icosphere(3).apply_scale([3, 1, 2]).apply_translation([10, 20, 30]))
    shape = modality.shape(values)

    def field(points: torch.Tensor) -> torch.Tensor:
        return points.norm(dim=1, keepdim=True) - 0.95

    decoded = modality.restore(modality.surface(field, device=torch.device("cpu")), shape.extras)
    bounds = to_trimesh(decoded).bounds
    assert np.allclose(bounds, [[7, 19, 28], [13, 21, 32]], atol=0.03)


def test_scenes_keep_their_transforms(tmp_path: Path) -> None:
    scene = trimesh.Scene()
    scene.add_geometry(creation.box(), transform=trimesh.transformations.translation_matrix([5, 0, 0]))
    scene.add_geometry(creation.box())
    scene.export(tmp_path / "two.glb")
    values = mesh().read(tmp_path / "two.glb").values
    assert values.shape == (9, 24) and values[0].max() == pytest.approx(5.5) and values[0].min() == pytest.approx(-0.5)


def test_point_clouds(tmp_path: Path) -> None:
    ball = creation.icosphere(3)
    points, faces = trimesh.sample.sample_surface(ball, 2000, seed=0)
    rows = np.concatenate([points, ball.face_normals[faces]], axis=1).astype(np.float32)
    for name, array in (("normals", rows), ("bare", rows[:, :3])):
        np.save(tmp_path / f"{name}.npy", array)
        shape = mesh().read(tmp_path / f"{name}.npy")
        assert shape.values.shape == array.T.shape and shape.points is not None
        assert (shape.points[:3] * shape.points[3:6]).sum(0).mean() > 0.85, "outwards"
    trimesh.PointCloud(points).export(tmp_path / "cloud.ply")
    assert mesh().read(tmp_path / "cloud.ply").values.shape == (3, 2000)
    few = mesh().shape(torch.from_numpy(rows[:10].T))
    assert few.points is not None and few.points.shape == (6, 256), "repeated"


def test_a_ply_cloud_keeps_its_normals(tmp_path: Path) -> None:
    header = "ply\nformat ascii 1.0\nelement vertex 5\n" + "".join(f"property float {name}\n" for name in ("x", "y", "z", "nx", "ny", "nz"))
    rows = "".join(f"{i} {i * i} {i % 2} 0 0 1\n" for i in range(5))
    (tmp_path / "n.ply").write_text(f"{header}end_header\n{rows}")
    values = mesh().read(tmp_path / "n.ply").values
    assert values.shape == (6, 5) and (values[5] == 1).all()


BAD_OBJ = {
    "nothing": b"# no vertices\n",
    "a point": b"v 0 0 0\nf 1 1 1\n",
    "a line": b"v 0 0 0\nv 1 1 1\nv 2 2 2\nf 1 2 3\n",
    "no number": b"v 0 0 0\nv 1 0 0\nv 0 nan 0\nf 1 2 3\n",
    "too large": b"v 0 0 0\nv 1e39 0 0\nv 0 1e39 0\nf 1 2 3\n",
    "a missing vertex": b"v 0 0 0\nv 1 0 0\nf 1 2 9\n",
}


@pytest.mark.parametrize("content", BAD_OBJ.values(), ids=BAD_OBJ.keys())
def test_degenerate_meshes_are_refused_by_name(content: bytes) -> None:
    with pytest.raises(InputError, match=r"bad\.obj"):
        mesh().read(io.BytesIO(content), name="bad.obj")


def test_one_broken_triangle_is_not_left_out_without_a_word() -> None:
    values = from_trimesh(creation.icosphere(1))
    values[4, 7] = torch.nan
    with pytest.raises(InputError, match="1 of 80 triangles have numbers that are not finite"):
        mesh().samples(values)
    lines = (f"v {place} 0 0\nv 1 0 0\nv 0 1 0\nv 0 0 1\nf 1 2 3\nf 2 3 4\n" for place in ("nan", "1e39"))
    for text in lines:
        with pytest.raises(InputError, match=r"bad\.obj: 1 of 2 triangles"):
            mesh().read(io.BytesIO(text.encode()), name="bad.obj")


@pytest.mark.parametrize("suffix", [".obj", ".ply", ".stl", ".off", ".glb", ".npy", ".xyz", ""])
def test_garbage_is_refused_by_name(suffix: str) -> None:
    for content in (b"\x00\xffgarbage" * 40, b"1 2 3"):
        with pytest.raises(InputError, match="bad"):
            mesh().read(io.BytesIO(content), name=f"bad{suffix}")


def test_odd_meshes_give_a_result() -> None:
    open_box = from_trimesh(creation.box())[:, 2:]
    balls = [creation.icosphere(1, radius=0.1).apply_translation([i % 5, i // 5, 0]) for i in range(30)]
    many = torch.cat([from_trimesh(ball) for ball in balls], 1)
    sheet = torch.tensor([[0, 0, 0, 1, 0, 0, 0, 1, 0.0]]).T
    for values in (open_box, many * 1e-6, sheet, many * 1e6):
        points = mesh(layers=2).shape(values).points
        assert points is not None and points.isfinite().all() and points.shape == (7, 256)


def test_refusals() -> None:
    modality = mesh()
    for wrong in (object(), None, torch.zeros(5, 7), "nowhere.obj", torch.zeros(9, 4), torch.full((6, 8), torch.nan)):
        with pytest.raises(InputError):
            modality.samples(wrong)
    odd = (torch.zeros(9, 0), "x.obj"), (torch.zeros(3, 4), "x.obj"), (torch.full((9, 1), torch.inf), "x.obj"), (torch.ones(9, 1), "x.fbx")
    for values, path in odd:
        with pytest.raises(InputError, match=r"x\."):
            modality.write(path, values)
    assert triangles_of(from_trimesh(creation.box())).shape == (12, 3, 3)
