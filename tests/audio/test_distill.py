"""Distillation: the loss by hand, frames that line up, teachers of any kind, and a run with a tiny one."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import torchaudio.pipelines
from safetensors.torch import save_file
from torch import Tensor

import tokkit
from tokkit.errors import InputError
from tokkit.losses.distill import Distill, at_rate
from tokkit.losses.teachers import Teacher, TorchaudioTeacher
from tokkit.output import TokenizerOutput
from tokkit.recipe import Recipe
from tokkit.train import train

RECIPES = Path(__file__).parents[2] / "recipes" / "audio"


@tokkit.register("teacher", "tiny-for-a-test")
class Tiny(Teacher):
    """Mean and largest magnitude of every 100 samples."""

    def __init__(self, *, dim: int = 2):
        super().__init__()
        self.sample_rate, self.dim = 1000, dim

    def forward(self, sound: Tensor) -> Tensor:
        frames = sound.unfold(-1, 100, 100)
        return torch.stack([frames.mean(-1), frames.abs().amax(-1)], -1)


def output(semantic: Tensor | None) -> TokenizerOutput:
    nothing = torch.zeros(())
    return TokenizerOutput(nothing, nothing, nothing, nothing, semantic=semantic)


def test_both_alignments_by_hand() -> None:
    """Two frames of [0.5, 0.5] and [-0.5, 0.5]: cosines 1 and 0 by frame with (1, 1) twice; over time 0 and 1."""
    sound = torch.cat([torch.full((100,), 0.5), torch.full((100,), -0.5)])[None, None]
    student = output(torch.ones(1, 2, 2))
    assert Distill(teacher=Tiny(), sample_rate=1000).of_output(sound, sound, student).item() == pytest.approx(0.5, abs=1e-6)
    channels = Distill(teacher=Tiny(), sample_rate=1000, align="channels").of_output(sound, sound, student).item()
    assert channels == pytest.approx((math.log(2) + math.log(1 + math.exp(-1))) / 2, abs=1e-6)


def test_another_rate_stereo_and_more_or_fewer_frames() -> None:
    loss = Distill(teacher=Tiny(), sample_rate=2000)
    sound = torch.rand(3, 2, 2000) - 0.5
    for frames in (10, 5, 25):
        assert 0 <= loss.of_output(sound, sound, output(torch.randn(3, frames, 2))) <= 2
    features = torch.arange(8.0).view(1, 8, 1)
    assert at_rate(features, 2).flatten().tolist() == [1.5, 5.5] and at_rate(features, 16).shape == (1, 16, 1)
    assert at_rate(features, 8) is features


def test_only_the_student_learns() -> None:
    loss = Distill(teacher=Tiny(), sample_rate=1000).train()
    student = torch.randn(1, 2, 2, requires_grad=True)
    target, fake = torch.rand(1, 1, 200), torch.rand(1, 1, 200, requires_grad=True)
    loss.of_output(target, fake, output(student)).backward()
    assert student.grad is not None and student.grad.abs().sum() > 0 and fake.grad is None
    assert not loss.teacher.training and not any(parameter.requires_grad for parameter in loss.parameters())


def test_it_says_what_is_missing() -> None:
    loss, sound = Distill(teacher=Tiny(), sample_rate=1000), torch.rand(1, 1, 200)
    with pytest.raises(InputError, match="no semantic part; take `split`"):
        loss.of_output(sound, sound, output(None))
    with pytest.raises(InputError, match=r"quantizer.teacher_dim=2"):
        loss.of_output(sound, sound, output(torch.randn(1, 2, 8)))
    with pytest.raises(InputError, match="not reconstructions"):
        loss(sound, sound)


def small_bundle(kind: str = "Wav2Vec2", **options: Any) -> Any:
    """A pipeline of torchaudio's, made small: a frame for 4 samples, which overlap by 3."""
    bundle = torchaudio.pipelines.HUBERT_BASE if kind == "Wav2Vec2" else torchaudio.pipelines.WAVLM_BASE
    small = {
        "extractor_conv_layer_config": [(8, 4, 2), (8, 3, 2)],
        "encoder_embed_dim": 16,
        "encoder_pos_conv_kernel": 4,
        "encoder_pos_conv_groups": 2,
        "encoder_num_layers": 3,
        "encoder_num_heads": 2,
        "encoder_ff_interm_features": 16,
    }
    return type(bundle)(
        "small.pth", {**bundle._params, **small}, _sample_rate=16000, _model_type=kind, **{"_normalize_waveform": False, **options}
    )


@pytest.mark.parametrize("kind", ["Wav2Vec2", "WavLM"])
def test_a_pipeline_of_torchaudio_with_local_weights(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torchaudio.pipelines, "HUBERT_BASE", small_bundle(kind))
    fresh = TorchaudioTeacher(pipeline="HUBERT_BASE", weights="random").eval()
    torch.save(fresh.network.state_dict(), tmp_path / "small.pth")
    save_file(fresh.network.state_dict(), tmp_path / "small.safetensors")
    sound = torch.rand(2, 80)
    expected = fresh(sound)
    assert expected.shape == (2, 20, 16) and fresh.dim == 16 and fresh.margin == (2, 2), "a frame for every 4 samples"
    layers, _ = fresh.network.extract_features(F.pad(sound, (2, 2)))
    torch.testing.assert_close(expected, torch.stack(layers).mean(0))
    for file in ("small.pth", "small.safetensors"):
        torch.manual_seed(1)
        loaded = TorchaudioTeacher(pipeline="HUBERT_BASE", weights=str(tmp_path / file), layer=2).eval()
        torch.testing.assert_close(loaded(sound), layers[1])


def test_a_pipeline_that_normalises_its_input_does_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torchaudio.pipelines, "HUBERT_LARGE", small_bundle(_normalize_waveform=True))
    teacher = TorchaudioTeacher(pipeline="HUBERT_LARGE", weights="random").eval()
    sound = torch.rand(1, 80)
    torch.testing.assert_close(teacher(sound), teacher(sound * 0.1 + 3), atol=1e-3, rtol=1e-3)


def test_weights_that_are_not_there_are_named_and_never_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torchaudio.pipelines, "HUBERT_BASE", small_bundle())
    with pytest.raises(InputError, match=r"no such weights file: .*none\.pth"):
        TorchaudioTeacher(pipeline="HUBERT_BASE", weights=str(tmp_path / "none.pth"))
    torch.save({"other": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(InputError, match="does not hold torchaudio's weights of HUBERT_BASE"):
        TorchaudioTeacher(pipeline="HUBERT_BASE", weights=str(tmp_path / "other.pth"))
    with pytest.raises(InputError, match="did you mean 'HUBERT_BASE'"):
        TorchaudioTeacher(pipeline="HUBERT_BAS")
    with pytest.raises(InputError, match="has 3 layers, not 9"):
        TorchaudioTeacher(pipeline="HUBERT_BASE", weights="random", layer=9)

    def offline(self: Any, options: Any) -> Any:
        raise OSError("no network")

    monkeypatch.setattr(type(small_bundle()), "_get_state_dict", offline)
    with pytest.raises(InputError, match=r"small\.pth.*no network.*give the file as weights="):
        TorchaudioTeacher(pipeline="HUBERT_BASE")


def test_the_recipe_trains_with_another_teacher(tmp_path: Path) -> None:
    small = [f"{part}.{option}" for part in ("encoder", "decoder") for option in ("width=2", "dim=16", "heads=2", "depth=1")]
    overrides = [
        *small,
        "data={name: tones, size: 4800, count: 6, seconds: 0.3}",
        "losses.0.teacher={name: tiny-for-a-test}",
        "quantizer.teacher_dim=2",
        "adversarial.discriminators=[{name: msstft, width: 1, windows: [256]}]",
        "train={steps: 1, batch_size: 2}",
        "evaluate.limit=1",
    ]
    train(Recipe.load(RECIPES / "mimi-like-24k.yaml", overrides), tmp_path, cpu=True)
    line = json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[0])
    assert {"distill", "mel", "generator", "quantizer/semantic_commitment", "quantizer/acoustic_commitment"} <= line.keys()


@pytest.mark.parametrize("order", ["parallel", "sequence"])
def test_a_run_that_is_distilled(order: str, tmp_path: Path) -> None:
    semantic = "semantic: {name: vq, dim: 16, codebook_size: 16}, " if order == "parallel" else ""
    overrides = [
        f"quantizer={{name: split, dim: 32, teacher_dim: 2, {semantic}acoustic: {{name: rvq, dim: 32, levels: 3, codebook_size: 16}}}}",
        "losses=[{name: distill, sample_rate: 16000, weight: 2.0, teacher: {name: tiny-for-a-test}}, {name: l1}]",
        "train={steps: 2, batch_size: 2, log_every: 1}",
        "evaluate={every: 2, limit: 1}",
        "data.count=4",
    ]
    recipe = Recipe.load(RECIPES / "smoke.yaml", overrides)
    train(recipe, tmp_path, cpu=True)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert 0 < lines[0]["distill"] <= 4 and lines[0]["distill"] != lines[1]["distill"]
    tokens = tokkit.Tokenizer.from_pretrained(tmp_path).encode(torch.zeros(1, 3200), levels=1)
    assert tokens.codes.shape == (1, 10, 1)
