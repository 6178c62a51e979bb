"""Pictures of meshes, and the report that shows them and lets them be turned."""

from __future__ import annotations

import base64
import re
import shutil
import struct
import subprocess
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from trimesh import creation

import tokkit
from tokkit.evaluate.report import render
from tokkit.evaluate.result import Evaluation
from tokkit.evaluate.run import Options, evaluate
from tokkit.evaluate.shapes import SIZE, Shapes
from tokkit.evaluate.systems import Coded, System
from tokkit.evaluate.turntable import MOST_TRIANGLES, bounded, packed
from tokkit.geometry.raster import REACH, draw, view
from tokkit.geometry.triangles import Array
from tokkit.modalities.base import Sample
from tokkit.modalities.mesh import from_trimesh


def square(side: float, z: float = 0.0) -> Array:
    a, b, c, d = ([x * side / 2, y * side / 2, z] for x, y in ((-1, -1), (1, -1), (1, 1), (-1, 1)))
    return np.array([[a, b, c], [a, c, d]])


def corners(mesh: object) -> Array:
    return np.asarray(mesh.triangles)  # type: ignore[attr-defined]


def test_a_picture_covers_what_the_mesh_covers() -> None:
    for parts in (1, 30):  # two large triangles, or many small ones
        steps = (np.arange(parts) + 0.5) / parts * 1.2 - 0.6
        tiles = np.concatenate([square(1.2 / parts) + np.array([x, y, 0]) for x in steps for y in steps])
        drawn = draw(tiles, 150, rotation=np.eye(3))
        covered = drawn[..., 3].mean() / 255 * (2 * REACH) ** 2
        assert covered == pytest.approx(1.2**2, rel=0.04)
        assert drawn[75, 75, 3] == 255 and drawn[20, 20].tolist() == [0, 0, 0, 0]
        assert len(np.unique(drawn[50:100, 50:100].reshape(-1, 4), axis=0)) == 1, "no holes and one shade"


def test_the_nearest_is_seen_and_up_is_up() -> None:
    tilted = square(0.4, 0.5) @ np.array([[1, 0, 0], [0, 0.6, 0.8], [0, -0.8, 0.6]]) + [0, 0.6, 0.5]
    for order in (1, -1):
        drawn = draw(np.concatenate([square(2.0), tilted][::order]), 100, rotation=np.eye(3))
        assert drawn[43, 50].tolist() != drawn[70, 50].tolist() and drawn[70, 50, 3] == 255
    rotation = view()
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)
    assert rotation[1] @ [0, 1, 0] > 0.5 and rotation[2] @ [0, 1, 0] > 0, "up is up, and the eye is above"
    corner = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]) @ rotation.T
    assert np.abs(corner[:, :2]).max() <= REACH
    assert not draw(np.zeros((0, 3, 3)), 20).any()


def test_meshes_in_a_page_are_bounded() -> None:
    ball = corners(creation.icosphere(6))
    assert len(ball) > MOST_TRIANGLES
    vertices, faces = bounded(ball)
    assert 5000 < len(faces) <= MOST_TRIANGLES and len(vertices) < 2**16
    assert np.linalg.norm(vertices, axis=1).min() > 0.97
    box = corners(creation.box())
    data = zlib.decompress(base64.b64decode(packed(box)))
    count, triangles = struct.unpack_from("<II", data)
    assert (count, triangles) == (8, 12) and len(data) == 8 + 6 * (8 + 12)
    places = (np.frombuffer(data, "<u2", 24, 8).reshape(-1, 3) / 32767.5 - 1) * 1.25
    order = np.frombuffer(data, "<u2", 36, 8 + 48).reshape(-1, 3)
    np.testing.assert_allclose(places[order], box, atol=1e-4)


class Shrunk(System):
    """Gives meshes back smaller; of one, nothing."""

    name = "shrunk <i>"

    def __init__(self) -> None:
        self.modality = tokkit.build("modality", "mesh")

    def code(self, samples: Sequence[Sample]) -> list[Coded]:
        return [Coded(sample.values[:, :0] if sample.name == "gone" else sample.values * 0.9, 800, 120) for sample in samples]


@pytest.fixture(scope="module")
def evaluation() -> Evaluation:
    meshes = {"ball": creation.icosphere(2), "gone": creation.box()}
    samples = [Sample(from_trimesh(mesh), name) for name, mesh in meshes.items()]
    return evaluate(Shrunk(), samples, metrics=[], baselines=[], options=Options(curve_samples=0, worst=0, others=2))


def test_the_report_shows_shapes_and_loads_nothing(evaluation: Evaluation) -> None:
    page = render(evaluation)
    assert page.count("<figure") == 4 and len(re.findall(r'<button class="turn" data-mesh="[\w+/=]+"', page)) == 3
    assert page.count('<dialog class="turntable"') == 1 and f'width="{SIZE}"' in page and "<i>" not in page.replace("</i>", "")
    assert not re.search(r"(src|href)=.?https?:|fetch\(|XMLHttpRequest|import\(|url\(", page)


def test_point_clouds_are_shown_too() -> None:
    exhibit = Shapes(tokkit.build("modality", "mesh"))
    cloud = torch.randn(6, 50)
    original, made = exhibit.keep(cloud, {"x": from_trimesh(creation.box())}, "x")
    from tokkit.evaluate.result import Case, Row

    row = Row(sample="a", system="x", extent=1, payload_bits=8, file_bytes=1)
    shown = exhibit.strip(Case("a", original, made, {"x": row}, False), "x", lambda row: "facts")
    assert "50 points" in shown and shown.count("turn in 3D") == 2


@pytest.mark.skipif(shutil.which("chromium") is None, reason="no chromium on this machine")
def test_a_browser_turns_a_shape(evaluation: Evaluation, tmp_path: Path) -> None:
    page = tmp_path / "r.html"
    act = "document.querySelector('button.turn').click(); setTimeout(() => console.log(document.querySelector('.told').textContent), 1500)"
    page.write_text(render(evaluation).replace("</body>", f"<script>{act}</script></body>"), encoding="utf-8")
    options = ["--headless", "--no-sandbox", "--enable-unsafe-swiftshader", "--enable-logging=stderr", "--dump-dom"]
    options += ["--virtual-time-budget=4000", f"--user-data-dir={tmp_path}"]
    done = subprocess.run(["chromium", *options, page.as_uri()], capture_output=True, text=True, timeout=120, check=True)
    console = [line for line in done.stderr.splitlines() if ":CONSOLE" in line and "GL Driver" not in line]
    assert len(console) == 1 and re.search("320 triangles|no WebGL", console[0]), console
    assert re.search(r'<dialog class="turntable"[^>]* open', done.stdout)
