"""The command as a user meets it: a session that works, exit codes, and where output goes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import tokkit
from tests.small import RECIPE, tokenizer, write_recipe
from tokkit.cli.main import app, main


def run(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tokkit", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=300, check=False)


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a trained tokenizer, a good picture and a bad one."""
    folder = tmp_path_factory.mktemp("cli")
    tokenizer().save(folder / "model")
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (12, 10, 3), dtype=np.uint8)).save(folder / "cat.png")
    (folder / "bad").mkdir()
    (folder / "bad" / "x.png").write_bytes(b"nothing")
    Image.new("RGB", (9, 9)).save(folder / "bad" / "y.png")
    return folder


def test_a_session(work: Path, tmp_path: Path) -> None:
    encoded = run("encode", work / "model", work / "cat.png", "-o", tmp_path / "cat.tok")
    assert (encoded.returncode, encoded.stderr) == (0, "")
    assert encoded.stdout == f"1 encoded, 2 bit/pixel: {tmp_path / 'cat.tok'}\n"
    decoded = run("decode", work / "model", tmp_path / "cat.tok", "-o", tmp_path / "cat.png")
    assert (decoded.returncode, decoded.stderr) == (0, "")
    assert Image.open(tmp_path / "cat.png").size == (10, 12)
    shown = run("inspect", tmp_path / "cat.tok")
    assert "cat.png: size 12x10, grid 6x5, 30 tokens, 240 bits" in shown.stdout
    again = run("encode", work / "model", work / "cat.png", "-o", tmp_path / "cat.tok")
    assert again.returncode == 2
    assert "pass --force" in again.stderr


def test_one_bad_file_does_not_stop_the_others(work: Path, tmp_path: Path) -> None:
    done = run("encode", work / "model", work / "bad", "-o", tmp_path / "out")
    assert done.returncode == 1
    assert "1 encoded" in done.stdout
    assert done.stderr.startswith("tokkit: x.png: ")
    assert len(done.stderr.splitlines()) == 1
    assert (tmp_path / "out" / "y.tok").exists()


def test_no_rate_is_told_where_nothing_was_written(work: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    done = CliRunner().invoke(app, ["encode", str(work / "model"), str(work / "cat.png"), "-o", str(tmp_path / "file" / "cat.tok")])
    assert "0 encoded: " in done.output


@pytest.mark.parametrize(("modality", "unit"), [("video", "pixel"), ("mesh", "shape")])
def test_the_rate_is_told_in_the_unit_of_the_modality(modality: str, unit: str, tmp_path: Path) -> None:
    if modality == "video":
        network = {"width": 8, "multipliers": (1, 2), "time": (2,), "dim": 8}
        parts = tokkit.build("encoder", "causal3d", **network), tokkit.build("decoder", "causal3d", **network)
        source = tmp_path / "frames"
        source.mkdir()
        Image.new("RGB", (8, 8)).save(source / "0.png")
    else:
        network = {"width": 16, "depth": 2, "heads": 2}
        parts = tokkit.build("encoder", "points", num_tokens=4, **network), tokkit.build("decoder", "vecset", **network)
        source = tmp_path / "cloud.npy"
        np.save(source, np.random.default_rng(0).normal(size=(64, 3)))
    model = tokkit.Tokenizer(
        modality=modality, encoder=parts[0], quantizer=tokkit.build("quantizer", "fsq", levels=(4, 4)), decoder=parts[1]
    )
    model.save(tmp_path / "model")
    done = CliRunner().invoke(app, ["encode", str(tmp_path / "model"), str(source), "-o", str(tmp_path / "one.tok")])
    assert f" bit/{unit}: " in done.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["encode", "nowhere", "cat.png", "-o", "x.tok"], "nowhere: no tokenizer here"),
        (["encode", "model", "dog.png", "-o", "x.tok"], "dog.png: no such file"),
        (["encode", "model", "cat.png", "-o", "x.tok", "--num-tokens", "3"], "have no order"),
        (["encode", "model", "cat.png", "-o", "x.tok", "--device", "cuda:9"], "cuda:9"),
        (["decode", "model", "cat.png", "-o", "x.png"], "cat.png"),
        (["list", "quantisers"], "did you mean 'quantizers'?"),
        (["inspect", "cat.png"], "neither a folder, a .tok file nor a .yaml recipe"),
        (["inspect"], "give a tokenizer's folder"),
        (["train", "no.yaml"], "no.yaml: cannot read the recipe"),
    ],
)
def test_bad_input_is_told_in_a_line_and_exits_2_or_1(
    work: Path, arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(work)
    monkeypatch.setattr(sys, "argv", ["tokkit", *arguments])
    with pytest.raises(SystemExit) as left:
        main()
    told = capsys.readouterr().err
    assert left.value.code == (1 if arguments[0] == "decode" else 2), told
    assert message in told
    assert len(told.splitlines()) == 1


def test_training_from_the_command_line(tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, RECIPE)
    checked = run("train", recipe, "--check", "--cpu")
    assert (checked.returncode, checked.stdout) == (0, f"{recipe}: good\n"), checked.stderr
    hidden = run("train", recipe, "train.steps=-3", "--check", "--cpu")  # the two steps of the check are no excuse
    assert hidden.returncode == 2 and "train.steps: input should be greater than or equal to 1, got -3" in hidden.stderr
    trained = run("train", recipe, "train.steps=2", "--out", tmp_path / "run", "--cpu")
    assert (trained.returncode, trained.stdout) == (0, f"{tmp_path / 'run'}\n"), trained.stderr
    wrong = run("train", recipe, "train.stesp=2")
    assert wrong.returncode == 2
    assert wrong.stderr == "command line: train.stesp: unknown field, did you mean 'steps'?\n"


def test_the_version_is_told() -> None:
    assert CliRunner().invoke(app, ["--version"]).output == f"tokkit {tokkit.__version__}\n"


def test_list_says_what_each_is() -> None:
    done = run("list")
    assert done.returncode == 0
    assert "quantizer:" in done.stdout.splitlines()
    assert "  fsq " in done.stdout
    only = run("list", "quantizers")
    assert "quantizer:" not in only.stdout.splitlines()
    assert only.stdout.count("\n") >= 8


def test_every_command_has_help_with_an_example() -> None:
    for command in ("train", "encode", "decode", "eval", "compare", "prepare", "demo", "list", "inspect", "bench lookup"):
        done = CliRunner().invoke(app, [*command.split(), "--help"])
        assert done.exit_code == 0
        assert f"tokkit {command}" in done.stdout


def test_inspect_says_which_kernels_would_run_and_what_a_tokenizer_is(work: Path) -> None:
    ops = CliRunner().invoke(app, ["inspect", "--ops"])
    assert ops.exit_code == 0, ops.output
    assert any(line.startswith("codebook_lookup ") for line in ops.stdout.splitlines())
    shown = CliRunner().invoke(app, ["inspect", str(work / "model")])
    assert shown.exit_code == 0, shown.output
    assert "bits a token" in shown.stdout and "quantizer:" in shown.stdout
