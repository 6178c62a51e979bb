"""Triangles, depth, distances, isosurfaces and repair, against closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from trimesh import creation

from tokkit.errors import InputError
from tokkit.geometry.cloud import estimated_normals
from tokkit.geometry.depth import Depth
from tokkit.geometry.field import FAR, LayeredField
from tokkit.geometry.frame import MOST_STRETCH, Frame
from tokkit.geometry.isosurface import evaluate_grid, isosurface, marching_cubes
from tokkit.geometry.parts import grouped
from tokkit.geometry.sampling import farthest_points, sample_edges, sample_surface
from tokkit.geometry.shape import Solid, shared_out
from tokkit.geometry.triangles import Array, bodies, cleaned, is_closed, normals_and_areas, sharp_edges, signed_volume, weld
from tokkit.geometry.watertight import watertight


def box(*, size: float = 1.0, at: tuple[float, float, float] = (0, 0, 0)) -> Array:
    return np.asarray(creation.box(extents=(size,) * 3).triangles, dtype=np.float64) + np.array(at)


def ball(radius: float = 0.8) -> Array:
    return np.asarray(creation.icosphere(subdivisions=4, radius=radius).triangles, dtype=np.float64)


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_weld_joins_equal_corners_and_keeps_triangles() -> None:
    vertices, faces = weld(box())
    assert vertices.shape == (8, 3) and faces.shape == (12, 3)
    assert np.array_equal(vertices[faces], box())
    assert signed_volume(box(size=2.0)) == pytest.approx(8) and normals_and_areas(box())[1].sum() == pytest.approx(6)


def test_cleaned_drops_what_has_no_area_or_is_not_finite() -> None:
    broken = box()
    broken[0] = np.nan
    broken[1, 2] = broken[1, 1]
    assert len(cleaned(broken)) == 10
    assert cleaned(np.full((2, 3, 3), np.inf)).shape == (0, 3, 3)


def test_bodies_that_touch_along_an_edge_are_two_and_closed() -> None:
    touching = np.concatenate([box(), box(at=(1, 1, 0))])
    label, closed = bodies(*weld(touching))
    assert closed.tolist() == [True, True] and set(label[:12]) != set(label[12:])
    assert is_closed(box()) and not is_closed(box()[1:])


def test_sharp_edges_of_a_box_and_of_a_ball() -> None:
    ends, normals = sharp_edges(box(), 20)
    assert ends.shape == (12, 2, 3) and np.allclose(np.linalg.norm(normals, axis=1), 1)
    assert np.allclose(np.abs(ends).min(axis=(1, 2)), 0.5) and np.allclose(np.linalg.norm(ends[:, 1] - ends[:, 0], axis=1), 1)
    assert len(sharp_edges(ball(), 20)[0]) == 0
    points, _ = sample_edges(ends, normals, 100, rng())
    assert (np.isclose(np.abs(points), 0.5).sum(axis=1) >= 2).all()
    assert sample_edges(np.zeros((0, 2, 3)), np.zeros((0, 3)), 5, rng()).points.shape == (0, 3)


def test_surface_samples_are_spread_by_area() -> None:
    flat = np.array([[[0, 0, 0], [1, 0, 0], [0, 1, 0]], [[5, 0, 0], [5, 3, 0], [5, 0, 1.0]]])
    points, normals = sample_surface(flat, 4000, rng())
    assert abs((points[:, 0] == 5).sum() - 3000) <= 1
    assert np.allclose(points[points[:, 0] < 5].mean(axis=0), [1 / 3, 1 / 3, 0], atol=0.02) and np.allclose(normals[0], [0, 0, 1])
    with pytest.raises(InputError, match="without area"):
        sample_surface(np.zeros((1, 3, 3)), 4, rng())


def test_farthest_points() -> None:
    line = torch.tensor([0.0, 1, 2, 10])[None, :, None] * torch.ones(3)
    assert farthest_points(line, 3).tolist() == [[0, 3, 2]]
    with pytest.raises(InputError, match="5 of 4"):
        farthest_points(line, 5)


@pytest.mark.parametrize("fit", ["cube", "box"])
def test_frame_there_and_back(fit: str) -> None:
    points = rng().uniform(-3, 5, (100, 3)) * [1, 0.5, 0.001]
    frame = Frame.of(points, fit=fit, fill=0.9)  # type: ignore[arg-type]
    inside = frame.enter(points)
    assert np.allclose(np.ptp(inside[:, 0]), 1.8, rtol=1e-5)
    assert np.allclose(np.ptp(inside[:, 1]), 1.8 if fit == "box" else 0.9, rtol=0.1)
    assert np.allclose(frame.leave(inside), points) and Frame.from_numbers(frame.numbers) == frame
    if fit == "box":
        assert frame.half[0] / frame.half[2] == pytest.approx(MOST_STRETCH)
    for bad in (np.zeros((0, 3)), np.ones((4, 3)), np.array([[0, 0, 0], [1e39, 0, 0]])):
        with pytest.raises(InputError):
            Frame.of(bad)


def test_depth_counts_bodies() -> None:
    both = np.concatenate([box(), box(at=(0.5, 0, 0))])
    points = np.array([[-0.25, 0.1, 0.2], [0.25, 0.1, 0.2], [0.75, 0.1, 0.2], [1.5, 0, 0], [0, 0, 9], [0, 0, 0]])
    assert Depth(both)(points).tolist() == [1, 2, 1, 0, 0, 2]


def test_depth_of_many_points_is_the_closed_form() -> None:
    points = rng().uniform(-1, 1, (20_000, 3))
    far = np.abs(np.linalg.norm(points, axis=1) - 0.8) > 0.01
    assert ((Depth(ball())(points) > 0) == (np.linalg.norm(points, axis=1) < 0.8))[far].all()
    assert ((Depth(box())(points) > 0) == (np.abs(points) < 0.5).all(axis=1)).all()


def test_distances_are_negative_inside() -> None:
    points = rng().uniform(-0.99, 0.99, (3000, 3))
    distances = LayeredField(ball(), np.zeros(len(ball()), dtype=np.int64), layers=2)(points)
    assert distances.shape == (3000, 2) and distances.dtype == np.float32
    assert np.abs(distances[:, 0] - (np.linalg.norm(points, axis=1) - 0.8)).max() < 0.012
    assert (distances[:, 1] == FAR).all()
    cube = LayeredField(box(), np.zeros(12, dtype=np.int64))(np.array([[0, 0, 0.4], [0.0, 0, 0.7], [0.8, 0.9, 0]]))[:, 0]
    assert cube == pytest.approx([-0.1, 0.2, 0.5], abs=5e-3)
    with pytest.raises(InputError, match="group 1"):
        LayeredField(box(), np.ones(12, dtype=np.int64), layers=1)


def test_hidden_surfaces_of_one_layer_do_not_count() -> None:
    both = np.concatenate([box(), box(at=(0.5, 0, 0))])
    middle = LayeredField(both, np.zeros(24, dtype=np.int64))(np.array([[0.25, 0, 0]]))
    assert middle[0, 0] == pytest.approx(-0.5, abs=0.01)


def test_touching_bodies_get_different_groups() -> None:
    chain = np.concatenate([box(size=0.5, at=(x, 0, 0)) for x in (-0.75, -0.25, 0.25)] + [box(size=0.2, at=(0, 0.8, 0))])
    _, groups = grouped(chain, 2)
    each = groups.reshape(4, 12)
    assert (each == each[:, :1]).all() and each[0, 0] != each[1, 0] and each[1, 0] != each[2, 0]
    assert not grouped(chain, 1)[1].any()
    assert len(set(grouped(chain, 3)[1])) <= 3


def test_a_hollow_stays_with_its_body_and_an_inverted_body_is_turned() -> None:
    hollow = np.concatenate([box(), box(size=0.98)[:, ::-1]])
    turned, groups = grouped(hollow, 2)
    assert len(set(groups)) == 1 and signed_volume(turned) == pytest.approx(1 - 0.98**3)
    assert Depth(turned)(np.zeros((1, 3)) + 0.01)[0] == 0
    assert signed_volume(grouped(box()[:, ::-1], 1)[0]) == pytest.approx(1)


def test_isosurface_of_a_ball_coarse_to_fine_is_the_dense_one() -> None:
    looked_at = 0

    def field(points: torch.Tensor) -> torch.Tensor:
        nonlocal looked_at
        looked_at += len(points)
        return (points.norm(dim=1, keepdim=True) - 0.7) / 0.1

    triangles = isosurface(field, 64)
    dense = marching_cubes(_grid(64))
    assert looked_at < 0.5 * 65**3 and triangles.shape == dense.shape
    assert np.abs(np.sort(triangles.ravel()) - np.sort(dense.ravel())).max() < 1e-4
    assert signed_volume(triangles) == pytest.approx(4 / 3 * np.pi * 0.7**3, rel=0.01) and is_closed(triangles)
    assert np.abs(np.linalg.norm(triangles, axis=2) - 0.7).max() < 0.002


def _grid(size: int) -> np.ndarray:
    axis = np.linspace(-1, 1, size + 1)
    return (np.linalg.norm(np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1), axis=-1) - 0.7) / 0.1


def test_isosurface_edges() -> None:
    assert isosurface(lambda points: torch.ones(len(points), 2), 16).shape == (0, 3, 3)
    full = isosurface(lambda points: -torch.ones(len(points), 1), 16)
    assert is_closed(full) and signed_volume(full) > 7.9
    two = isosurface(lambda points: torch.stack([points[:, 0] + 0.5, 0.5 - points[:, 0]], 1), 16)
    assert signed_volume(two) == pytest.approx(4, rel=0.2)
    assert evaluate_grid(lambda points: points[:, :1], 33).shape == (1, 34, 34, 34)
    with pytest.raises(InputError, match="at least 8"):
        isosurface(lambda points: points[:, :1], 4)


def test_closed_meshes_stay_and_open_ones_are_rebuilt() -> None:
    assert watertight(ball()).triangles is not None and watertight(ball()).remeshed == 0
    holed = np.concatenate([ball()[60:], box(size=0.2, at=(0.9, 0.9, 0.9)) * 0.9])
    repaired = watertight(holed, resolution=48)
    assert 0.5 < repaired.remeshed < 1 and repaired.dropped == 0 and is_closed(repaired.triangles)
    grown = signed_volume(repaired.triangles)
    assert 4 / 3 * np.pi * 0.8**3 < grown < 4 / 3 * np.pi * (0.8 + 3 * 2 / 48) ** 3, "filled, and grown by about 2 cells"
    speck = np.concatenate([ball()[60:], box(size=0.05, at=(0.9, 0.9, 0.9))[1:]])
    assert 0 < watertight(speck, resolution=48).dropped < 0.01
    with pytest.raises(InputError, match="no triangle"):
        watertight(np.zeros((3, 3, 3)))


def test_a_single_sheet_becomes_a_slab() -> None:
    sheet = np.array([[[-0.9, -0.9, 0], [0.9, -0.9, 0], [0.9, 0.9, 0]]])
    solid = Solid.of(sheet)
    assert solid.repaired.remeshed == 1 and signed_volume(solid.triangles) > 0


def test_solid_samples() -> None:
    solid = Solid.of(np.concatenate([box(), box(at=(1, 0, 0))]), fit="box", layers=2)
    rows = solid.sample(300, 100, rng())
    assert rows.shape == (400, 7) and np.abs(rows[:, :3]).max() <= 0.9501 and np.allclose(np.linalg.norm(rows[:, 3:6], axis=1), 1)
    assert np.bincount(rows[:, 6].astype(int)).tolist() == [200, 200]
    smooth = Solid.of(ball())
    assert smooth.sample(10, 5, rng()).shape == (15, 7)
    assert shared_out(7, np.array([1.0, 1.0, 0.0])) == [4, 3, 0] or shared_out(7, np.array([1.0, 1.0, 0.0])) == [3, 4, 0]


def test_normals_of_a_cloud() -> None:
    points, normals = sample_surface(ball(), 1500, rng())
    found = estimated_normals(points)
    assert (found * normals).sum(axis=1).mean() > 0.97
