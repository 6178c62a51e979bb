"""Suites: checked, run, resumed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from tokkit.bench.suite import Suite, run_suite
from tokkit.cli.main import app
from tokkit.errors import InputError, RecipeError

SMALL = """\
modality: image
data: [{name: synthetic, size: 32, count: 12}]
systems: [identity, jpeg@20, jpeg@80]
metrics: [psnr]
"""
SUITES = sorted((Path(__file__).parents[2] / "benchmarks" / "suites").glob("*.yaml"))


def write(folder: Path, text: str = SMALL) -> Path:
    path = folder / "small.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("path", SUITES, ids=lambda path: path.stem)
def test_every_suite_is_valid(path: Path) -> None:
    suite = Suite.load(path)
    assert suite.systems and json.dumps(suite.to_dict())


def test_mistakes_are_told_with_their_place(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"small\.yaml:2:15: .*sinthetic.*did you mean 'synthetic'"):
        Suite.load(write(tmp_path, SMALL.replace("synthetic", "sinthetic")))
    with pytest.raises(RecipeError, match=r"small\.yaml:4:1: metrix: unknown field.*did you mean 'metrics'"):
        Suite.load(write(tmp_path, SMALL.replace("metrics", "metrix")))


def test_a_suite_goes_on_where_it_was(tmp_path: Path) -> None:
    suite = Suite.load(write(tmp_path))
    asked: list[str] = []
    first = run_suite(suite, tmp_path / "out", device="cpu", report=asked.append)
    assert asked == ["identity", "jpeg@20", "jpeg@80"] and not first.failures
    psnr = {row["system"]: row["psnr"] for row in first.rows}
    assert psnr["jpeg@20"] < psnr["jpeg@80"] and psnr["identity"] is None, "identity's is infinite, and no mean holds that"
    assert first.rows[1]["bits/pixel"] < first.rows[2]["bits/pixel"] and first.rows[0]["bits/pixel"] is None
    stored = json.loads((tmp_path / "out" / "suite.json").read_text())
    assert stored["rows"] == first.rows and stored["provenance"]["versions"] and stored["suite"]["data"][0]["count"] == 12
    journal = tmp_path / "out" / "finished.jsonl"
    journal.write_bytes(b"".join(journal.read_bytes().splitlines(keepends=True)[:-1]))
    asked.clear()
    assert run_suite(suite, tmp_path / "out", device="cpu", report=asked.append).rows == first.rows
    assert asked == ["jpeg@80"]
    with pytest.raises(InputError, match=r"another run \(seed differ"):
        run_suite(Suite.load(write(tmp_path, SMALL + "seed: 3\n")), tmp_path / "out", device="cpu")


def test_what_was_skipped_is_still_told_when_a_suite_goes_on(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (32, 32)).save(tmp_path / "photos" / "good.png")
    (tmp_path / "photos" / "bad.png").write_text("no picture")
    data = f"[{{name: folder, path: {tmp_path / 'photos'}}}]"
    suite = Suite.load(write(tmp_path, SMALL.replace("[{name: synthetic, size: 32, count: 12}]", data)))
    first = run_suite(suite, tmp_path / "out", device="cpu")
    assert len(first.failures) == 3 and all("bad.png" in failure for failure in first.failures)
    assert run_suite(suite, tmp_path / "out", device="cpu") == first


def test_a_folder_that_cannot_be_made_is_a_clear_error(tmp_path: Path) -> None:
    suite = Suite.load(write(tmp_path))
    with pytest.raises(InputError, match="cannot make this folder"):
        run_suite(suite, tmp_path / "small.yaml" / "out", device="cpu")


def test_a_system_that_fails_stops_no_other(tmp_path: Path) -> None:
    write(tmp_path, SMALL.replace("identity", "nowhere"))
    done = CliRunner().invoke(app, ["bench", "suite", str(tmp_path / "small.yaml"), "--out", str(tmp_path / "out"), "--device", "cpu"])
    assert done.exit_code == 1
    assert "tokkit: nowhere: nowhere: no tokenizer here" in done.output
    assert "jpeg@80" in done.output
