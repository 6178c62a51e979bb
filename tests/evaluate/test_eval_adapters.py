"""Any tokenizer as a system: functions, codecs, folders, commands; and the table when sizes are not known."""

from __future__ import annotations

import json
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
from tokkit.evaluate.adapters import CommandSystem, FolderSystem, FunctionSystem, open_system
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


def test_what_is_no_model_of_diffusers_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no model of diffusers here"):
        open_system(f"diffusers:{tmp_path}")
    (tmp_path / "config.json").write_text(json.dumps({"_class_name": "UNet2DModel"}))
    with pytest.raises(InputError, match="a UNet2DModel; known are AutoencoderKL and VQModel"):
        open_system(f"diffusers:{tmp_path}")


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("AutoencoderKL", {"latent_channels": 4}),
        ("VQModel", {"latent_channels": 4, "num_vq_embeddings": 16, "vq_embed_dim": 4}),
    ],
)
def test_local_models_of_diffusers(tmp_path: Path, kind: str, options: dict[str, int]) -> None:
    diffusers = pytest.importorskip("diffusers")
    torch.manual_seed(0)
    model = getattr(diffusers, kind)(block_out_channels=(8, 8), layers_per_block=1, norm_num_groups=4, **_blocks(), **options)
    model.save_pretrained(tmp_path / "vae")
    samples = pictures(2, size=16)
    coded = open_system(f"diffusers:{tmp_path / 'vae'}").code(samples)
    batch = torch.stack([sample.values for sample in samples])
    with torch.inference_mode():
        expected = model.eval()(batch * 2 - 1).sample
    found = torch.stack([code.values for code in coded])
    torch.testing.assert_close(found, ((expected + 1) / 2).clamp(0, 1))


def _blocks() -> dict[str, tuple[str, ...]]:
    return {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("Dac", {"encoder_hidden_size": 8, "downsampling_ratios": [2, 4], "decoder_hidden_size": 16, "hidden_size": 32, "n_codebooks": 2}),
        ("Encodec", {"num_filters": 4, "hidden_size": 16, "codebook_dim": 16, "num_lstm_layers": 1, "upsampling_ratios": [4, 2]}),
    ],
)
def test_local_sound_codecs_of_transformers(tmp_path: Path, kind: str, options: dict[str, int]) -> None:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(codebook_size=16, **options)
    model = getattr(transformers, f"{kind}Model")(config).eval()
    model.save_pretrained(tmp_path / "codec")
    sound = torch.randn(1, 801, generator=torch.Generator().manual_seed(1)) * 0.1
    system = open_system(f"transformers:{tmp_path / 'codec'}")
    assert system.modality.sample_rate == config.sampling_rate
    (coded,) = system.code([Sample(sound, "s")])
    with torch.inference_mode():
        expected = model(sound[None])
    length = min(801, expected.audio_values.shape[-1])
    torch.testing.assert_close(coded.values[0, :length], expected.audio_values.reshape(-1)[:length])
    assert coded.values.shape == sound.shape and coded.payload_bits == 4 * expected.audio_codes.numel()


def test_what_is_no_codec_of_transformers_is_told(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(InputError, match="a bert; known are dac, encodec, mimi, xcodec"):
        open_system(f"transformers:{tmp_path}")


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
