from __future__ import annotations

import json
import re
import tarfile
from pathlib import Path

import pytest
import torch
from eval_fakes import pictures
from typer.testing import CliRunner, Result

import tokkit
from tests.small import tokenizer
from tokkit.cli.demo import RECIPE, demo_command, quicker_threads, side_by_side
from tokkit.cli.main import app
from tokkit.errors import InputError
from tokkit.recipe import Recipe
from tokkit.train.clock import TICK
from tokkit.train.log import read_metrics


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    tokenizer().save(folder)
    return folder


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    image = tokkit.build("modality", "image")
    for sample in pictures(3, size=32):
        image.write(folder / "below" / f"{sample.name}.png", sample.values)
    return folder


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["eval", *map(str, arguments)])


def test_it_prints_a_table_and_writes_what_is_asked_for(model: Path, photos: Path, tmp_path: Path) -> None:
    files = [tmp_path / "out" / f"e.{kind}" for kind in ("json", "csv", "html")]
    asked = ["--metrics", "psnr,mae", "--baselines", "jpeg,webp", "--json", files[0], "--csv", files[1], "--report", files[2]]
    result = run(model, photos, *asked, "--device", "cpu", "--limit", 2)
    assert result.exit_code == 0, result.output
    assert "\x1b" not in result.output
    lines = result.output.splitlines()
    assert lines[0].split("  ")[0] == "system"
    assert [line.split()[0] for line in lines[1:4]] == ["small", "jpeg@same-bytes", "webp@same-bytes"]
    assert lines[-3:] == [str(path) for path in files]
    stored = json.loads(files[0].read_text())
    assert {row["sample"] for row in stored["rows"]} == {"below/picture-0", "below/picture-1"}
    assert stored["provenance"]["machine"]["cores"] >= 1
    assert stored["provenance"]["versions"]["tokkit"] == tokkit.__version__
    assert stored["settings"]["seed"] == 0
    assert files[1].read_text().count("\n") == 1 + 2 * 3
    assert files[2].read_text().startswith("<!doctype html>")


def test_existing_results_are_refused_before_any_work(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "e.json").write_text("mine")
    result = run(tmp_path / "no model", photos, "--json", tmp_path / "e.json")
    assert isinstance(result.exception, InputError)
    assert "e.json exists" in str(result.exception)


def test_results_that_cannot_be_written_are_refused_before_any_work(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    for place, message in (("file/x.json", "cannot be written: .*; give a place"), (".", "is a folder")):
        done = CliRunner().invoke(app, ["eval", "identity", str(photos), "--json", str(tmp_path / place), "--force"])
        assert isinstance(done.exception, InputError) and re.search(message, str(done.exception)), done.exception
        assert not done.output
    assert sorted(path.name for path in tmp_path.iterdir() if path != photos) == ["file"]


def test_a_bad_file_is_named_and_the_exit_code_is_1(model: Path, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"no picture")
    good = photos / "below" / "picture-0.png"
    result = run(model, tmp_path / "bad.png", good, "--metrics", "psnr", "--json", tmp_path / "e.json")
    assert result.exit_code == 1
    assert "bad.png" in result.stderr
    assert [row["sample"] for row in json.loads((tmp_path / "e.json").read_text())["rows"]] == ["picture-0"]


def test_tar_shards_are_data_too(model: Path, photos: Path, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "photos.tar", "w") as tar:
        tar.add(photos / "below", "photos")
    result = run(model, tmp_path / "photos.tar", "--metrics", "psnr", "--json", tmp_path / "e.json")
    assert result.exit_code == 0, result.output
    rows = json.loads((tmp_path / "e.json").read_text())["rows"]
    assert sorted(row["sample"] for row in rows) == [f"photos/picture-{index}" for index in range(3)]


def test_the_pictures_of_scikit_image_are_data_too(model: Path) -> None:
    result = run(model, "samples", "--metrics", "mae", "--limit", 1)
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize("arguments", [["nowhere"], ["samples", "--metrics", "psnrr"], ["samples", "--baselines", "jpg"]])
def test_bad_input_is_refused(arguments: list[str], model: Path) -> None:
    result = run(model, *arguments)
    assert isinstance(result.exception, tokkit.TokkitError)


def test_the_demo_leaves_everything_it_promises(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "demo"
    demo_command(out=out, steps=2)
    said = capsys.readouterr().out
    names = ["chelsea", "coffee", "rocket"]
    for folder, suffix in (("pictures", ".png"), ("tokens", ".tok"), ("decoded", ".png")):
        assert sorted(path.name for path in (out / folder).iterdir()) == [name + suffix for name in names]
        assert str(out / folder) in said
    for name in ("report.html", "comparison.png", "evaluation.json"):
        assert (out / name).stat().st_size > 1000
    assert "PSNR [dB]" in said
    assert "jpeg@same-bytes" in said
    assert tokkit.Tokenizer.from_pretrained(out / "model").name == "demo"


def test_the_demo_does_not_touch_a_folder_of_other_things(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="other things"):
        demo_command(out=tmp_path, steps=1)


def test_the_demo_ends_with_its_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    demo_command(out=tmp_path / "demo", minutes=0.001)
    assert "training 0.001 minutes" in capsys.readouterr().out
    assert read_metrics(tmp_path / "demo" / "model")[-1]["step"] == TICK


def test_the_demo_trains_with_the_threads_that_are_quicker(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = Recipe.load(RECIPE)
    before = torch.get_num_threads()
    monkeypatch.setattr("tokkit.cli.demo.median", lambda times: 1.0 if torch.get_num_threads() > 1 else 2.0)
    torch.set_num_threads(2)
    assert quicker_threads(recipe) == torch.get_num_threads() == 2
    monkeypatch.setattr("tokkit.cli.demo.median", lambda times: 2.0 if torch.get_num_threads() > 1 else 1.0)
    assert quicker_threads(recipe) == 1
    torch.set_num_threads(before)


def test_the_comparison_has_a_column_for_every_system() -> None:
    from tokkit.evaluate.run import Options, evaluate

    evaluation = evaluate(tokenizer(), pictures(2, size=32), metrics=["psnr"], baselines=["jpeg"], options=Options(curve_samples=0))
    picture = side_by_side(evaluation)
    assert picture.size == (3 * 260 - 4, 2 * 282 - 4)
