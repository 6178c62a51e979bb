"""The metric contract of docs/mesh.md, against closed forms and independent code."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree
from torch import Tensor
from trimesh import creation, sample

import tokkit
from tokkit.metrics.base import Metric, MetricFailure
from tokkit.modalities.mesh import from_trimesh, to_trimesh

NAMES = [name for name in tokkit.names("metric") if getattr(tokkit.registry.get("metric", name), "modality", "") == "mesh"]


def score(name: str, original: Tensor, reconstruction: Tensor) -> float:
    metric: Metric = tokkit.build("metric", name)
    return metric(original, reconstruction)


def ball(shift: float = 0.0, radius: float = 1.0) -> Tensor:
    mesh = creation.icosphere(subdivisions=4, radius=radius)
    return from_trimesh(mesh.apply_translation([shift, 0, 0]))


def box(at: float = 0.0) -> Tensor:
    return from_trimesh(creation.box(extents=(2, 2, 2)).apply_translation([at, 0, 0]))


def test_a_mesh_against_itself() -> None:
    same, again = box(), box()
    assert score("fscore_0.02", same, again) > 0.99 and score("iou_volume", same, again) == 1 and score("iou_near", same, again) == 1
    assert score("chamfer_l1", same, again) < 0.01 and score("normal_consistency", same, again) > 0.98


def test_a_shifted_ball_by_hand() -> None:
    """Distances between unit spheres shifted by d: | |p - d e| - 1 |, which for small d is d |cos a|, uniform in [0, d] over the sphere."""
    shift = 0.1
    pair = ball(), ball(shift)
    density = 0.0033  # what the finite samples add where surfaces cross, at most
    assert score("chamfer_l1", *pair) == pytest.approx(shift / 2, abs=density)
    assert score("chamfer_l1_sum", *pair) == pytest.approx(shift, abs=2 * density)
    assert score("chamfer_l2", *pair) == pytest.approx(2 * shift**2 / 3, rel=0.05)
    assert score("fscore_0.05", *pair) == pytest.approx(0.05 / shift, abs=0.01)
    assert score("fscore_0.02", *pair) == pytest.approx(0.02 / shift, abs=0.015)
    lens = math.pi * (4 + shift) * (2 - shift) ** 2 / 12
    assert score("iou_volume", *pair) == pytest.approx(lens / (2 * 4 / 3 * math.pi - lens), abs=0.006)


def test_concentric_balls_by_hand() -> None:
    pair = ball(), ball(radius=0.9)
    assert score("chamfer_l1", *pair) == pytest.approx(0.1, abs=1e-3) and score("iou_volume", *pair) == pytest.approx(0.9**3, abs=0.006)
    assert score("fscore_0.05", *pair) == 0 and score("normal_consistency", *pair) > 0.998


def test_shifted_boxes_by_hand() -> None:
    assert score("iou_volume", box(), box(1.0)) == pytest.approx(1 / 3, abs=0.006)


def test_the_original_gives_the_frame() -> None:
    """Scale and place do not matter; but both meshes are seen in the original's frame, so a scaled reconstruction is wrong."""
    here, there = (box(), box(0.1)), (box() * 37 + 5, box(0.1) * 37 + 5)
    names = ("chamfer_l1", "fscore_0.05")
    assert [score(name, *there) for name in names] == pytest.approx([score(name, *here) for name in names], rel=1e-3)
    assert score("fscore_0.05", ball(), ball() * 1.2) == 0


def test_independent_code_agrees() -> None:
    """trimesh's sampling and scipy's search, written once more."""
    one, other = creation.torus(0.7, 0.3), creation.torus(0.7, 0.27)
    original, reconstruction = from_trimesh(one), from_trimesh(other)
    one.apply_scale(1.0)
    points = [sample.sample_surface(mesh, 100_000, seed=seed)[0] for seed, mesh in enumerate((one, other))]
    there, back = cKDTree(points[1]).query(points[0])[0], cKDTree(points[0]).query(points[1])[0]
    assert score("chamfer_l1_sum", original, reconstruction) == pytest.approx(there.mean() + back.mean(), rel=0.02)
    precision, recall = (back < 0.02).mean(), (there < 0.02).mean()
    assert score("fscore_0.02", original, reconstruction) == pytest.approx(2 * precision * recall / max(precision + recall, 1e-9), abs=0.02)
    inside = np.random.default_rng(5).uniform(-1, 1, (50_000, 3)) * [1, 1, 0.3]
    ring = np.hypot(np.hypot(inside[:, 0], inside[:, 1]) - 0.7, inside[:, 2])
    assert score("iou_volume", original, reconstruction) == pytest.approx((ring < 0.27).sum() / (ring < 0.3).sum(), abs=0.02)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_made_up(name: str) -> None:
    empty, broken = torch.zeros(9, 0), box()
    broken[3, 3] = math.nan
    if name.startswith(("fscore", "iou")):
        assert score(name, box(), empty) == 0
    else:
        with pytest.raises(MetricFailure, match="empty"):
            score(name, box(), empty)
    for pair in ((empty, box()), (broken, box()), (box(), broken), (torch.zeros(6, 10), box()), (box(), torch.zeros(3, 8, 8))):
        with pytest.raises(MetricFailure, match=name):
            score(name, *pair)


def test_trimesh_there_and_back() -> None:
    assert to_trimesh(box()).is_watertight and to_trimesh(box()).volume == pytest.approx(8)
