"""Any tokenizer as a system: functions, codecs, folders, commands; and the table when sizes are not known."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest
import torch
from eval_fakes import pictures
from torch import Tensor
from typer.testing import CliRunner

import tokkit
from tests.small import tokenizer
from tokkit.cli.main import app
from tokkit.errors import InputError
from tokkit.evaluate.adapters import CommandSystem, FolderSystem, FunctionSystem, modality_of, open_system
from tokkit.evaluate.run import evaluate
from tokkit.evaluate.systems import TokenizerSystem
from tokkit.modalities.base import Modality, Sample

THEIRS = """\
version = 3

def darker(batch):
    assert batch.ndim == 4
    return batch * 0.5

def small(batch):
    return batch[..., 1:]

def in_place(batch):
    return batch.mul_(0.5)

def broken(batch):
    raise RuntimeError("boom" if batch.shape[-1] == 32 else "bang")
"""
COPY = "import shutil, sys; shutil.copy(sys.argv[1], sys.argv[2])"


@pytest.fixture
def image() -> Modality:
    modality: Modality = tokkit.build("modality", "image")
    return modality


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module in the working folder, as users have."""
    (tmp_path / "their_codec.py").write_text(THEIRS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "their_codec", raising=False)
    monkeypatch.setattr(sys, "path", list(sys.path))


def mixed() -> list[Sample]:
    return [*pictures(2, size=24), *pictures(1, size=32)]


def test_a_function_named_on_the_command_line(module: None) -> None:
    samples = mixed()
    system = open_system("python:their_codec:darker")
    assert system.name == "their_codec:darker"
    for sample, coded in zip(samples, system.code(samples), strict=True):
        torch.testing.assert_close(coded.values, sample.values * 0.5)
        assert coded.file_bytes == coded.payload_bits == 0, "nobody knows"
    with pytest.raises(InputError, match=r"gave \[2, 3, 24, 23\] for a batch of 2 x \[3, 24, 24\]; return the reconstructions"):
        open_system("python:their_codec:small").code(samples)
    for target, message in (
        ("python:their_codec", "write python:package"),
        ("python:their_codec:brighter", "no attribute 'brighter'"),
        ("python:nowhere_at_all:f", "No module named"),
        ("python:their_codec:version", "version is a int, not a function"),
    ):
        with pytest.raises(InputError, match=message):
            open_system(target)


def test_a_function_may_work_in_place_and_may_fail(module: None) -> None:
    loss = evaluate(open_system("python:their_codec:in_place"), pictures(1), metrics=["psnr"]).summary()[0].metrics["psnr"]
    assert loss.interval.mean is not None and loss.interval.mean < 20, "not infinite, as of a batch compared with itself"
    with pytest.raises(
        InputError, match=r"broken: raised RuntimeError: boom \(.*their_codec\.py:\d+\) for a batch of shape \[1, 3, 32, 32\]"
    ):
        open_system("python:their_codec:broken").code(mixed()[2:])


def test_unknown_sizes_are_no_numbers_in_the_table(image: Modality) -> None:
    result = evaluate(FunctionSystem(lambda batch: batch * 0.9, image, name="mine"), pictures(3), metrics=["psnr"], baselines=["jpeg"])
    line = result.summary()[0]
    assert line.n == 3 and line.metrics["psnr"].interval.n == 3
    assert line.payload_rate.mean is None and line.file_bytes.mean is None
    assert {skipped.system for skipped in result.skipped} == {"jpeg@same-bytes"}
    assert "does not tell the bytes" in result.skipped[0].reason


def test_a_classical_codec_at_one_quality() -> None:
    (sample,) = pictures(1)
    low, high = (open_system(f"jpeg@{quality}").code([sample])[0] for quality in (5, 90))
    assert low.file_bytes < high.file_bytes and high.payload_bits == 8 * high.file_bytes
    assert (low.values - sample.values).abs().mean() > (high.values - sample.values).abs().mean()
    with pytest.raises(InputError, match="its qualities are 1 to 100"):
        open_system("jpeg@0")


def test_a_folder_of_reconstructions(image: Modality, tmp_path: Path) -> None:
    samples = pictures(2)
    samples[0].name = "below/a"
    for sample in samples:
        image.write(tmp_path / f"{sample.name}.png", sample.values)
    system = open_system(f"folder:{tmp_path}")
    assert isinstance(system, FolderSystem) and system.name == tmp_path.name
    for sample, coded in zip(samples, system.code(samples), strict=True):
        torch.testing.assert_close(coded.values, sample.values, atol=0.5 / 255 + 1e-6, rtol=0)
    with pytest.raises(InputError, match=r"nobody: no reconstruction \(looked for \.png"):
        system.code([Sample(samples[0].values, "nobody")])
    with pytest.raises(InputError, match="no such folder"):
        open_system("folder:nowhere")


def test_a_command(image: Modality) -> None:
    (sample,) = pictures(1)
    program = f"{sys.executable} -c {shlex.quote(COPY)}"
    (coded,) = open_system(f"command:{program} {{input}} {{output}}").code([sample])
    torch.testing.assert_close(coded.values, sample.values, atol=0.5 / 255 + 1e-6, rtol=0)
    with pytest.raises(InputError, match="exit code 1, no output file, broken"):
        CommandSystem(f"{sys.executable} -c 'raise SystemExit(\"broken\")' {{input}} {{output}}", image).code([sample])
    with pytest.raises(InputError, match=r"\{output\} is missing"):
        open_system("command:tool {input}")
    with pytest.raises(InputError, match="No such file"):
        CommandSystem("no-such-tool {input} {output}", image).code([sample])
    with pytest.raises(InputError, match="No closing quotation; write it as in a shell"):
        CommandSystem("tool '{input} {output}", image)


def test_tokkits_own_and_identity(tmp_path: Path) -> None:
    tokenizer().save(tmp_path / "model")
    assert isinstance(open_system(str(tmp_path / "model")), TokenizerSystem)
    (sample,) = pictures(1)
    same: Tensor = open_system("identity").code([sample])[0].values
    assert torch.equal(same, sample.values)
    with pytest.raises(InputError, match="nowhere: no tokenizer here"):
        open_system("nowhere")


def test_eval_takes_any_of_them(module: None, tmp_path: Path, image: Modality) -> None:
    for sample in pictures(2):
        image.write(tmp_path / "photos" / f"{sample.name}.png", sample.values)
    done = CliRunner().invoke(app, ["eval", "python:their_codec:darker", str(tmp_path / "photos"), "--metrics", "psnr", "--device", "cpu"])
    assert done.exit_code == 0, done.output
    assert done.output.splitlines()[1].split()[:4] == ["their_codec:darker", "2", "-", "-"]


def test_two_reconstructions_of_one_name_are_refused(image: Modality, tmp_path: Path) -> None:
    sample = pictures(1, size=8)[0]
    for suffix in (".png", ".webp"):
        image.write(tmp_path / f"{sample.name}{suffix}", sample.values)
    with pytest.raises(InputError, match=r"\.png and .*\.webp are there; leave the one"):
        FolderSystem(tmp_path, image).code([sample])


def test_a_codec_says_what_it_codes() -> None:
    assert [modality_of(named) for named in ("opus@12", "jpeg@30", "draco@8", "runs/mine", "a@b")] == [
        "audio",
        "image",
        "mesh",
        "image",
        "image",
    ]
