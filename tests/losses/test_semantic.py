"""The semantic loss: its formulas on a fake teacher, which teachers it takes, where their weights come from, and the decay with length."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

import tokkit
from tokkit.errors import InputError
from tokkit.losses.semantic import Semantic
from tokkit.losses.vision import load_teacher

TEACHER: dict[str, Any] = {"teacher": "test_vit", "weights": "random"}


def pictures(count: int = 3, channels: int = 3, side: int = 24) -> Tensor:
    return torch.rand(count, channels, side, side, generator=torch.Generator().manual_seed(0)) * 2 - 1


def with_features(monkeypatch: pytest.MonkeyPatch, original: Tensor, reconstruction: Tensor, **options: Any) -> Semantic:
    loss = Semantic(**TEACHER | options)
    monkeypatch.setattr(loss, "features", lambda values: original if values.mean() > 0 else reconstruction)
    return loss


ORIGINAL = torch.tensor([[[1.0, 0.0], [0.0, 2.0]], [[1.0, 0.0], [3.0, 0.0]]])
RECONSTRUCTION = torch.tensor([[[5.0, 0.0], [1.0, 0.0]], [[3.0, 4.0], [-1.0, 0.0]]])
"""Cosines 1 and 0 of the first sample, 0.6 and -1 of the second."""


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [(0 + 1) / 2, (0.4 + 2) / 2]),
        ({"align": "margin"}, [(0 + 0.75) / 2, (0.15 + 1.75) / 2]),
        ({"align": "margin", "margin": 0.5}, [(0 + 0.5) / 2, (0 + 1.5) / 2]),
    ],
)
def test_cosine_and_margin_by_hand(monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], expected: list[float]) -> None:
    loss = with_features(monkeypatch, ORIGINAL, RECONSTRUCTION, **options)
    one = torch.ones(2, 3, 8, 8)
    assert loss.by_sample(one, -one).tolist() == pytest.approx(expected, abs=1e-6)
    assert loss(one, -one).item() == pytest.approx(sum(expected) / 2, abs=1e-6)


def test_the_weight_falls_toward_the_tail(monkeypatch: pytest.MonkeyPatch) -> None:
    """1 - (1 - tail) * share: of 0.25 of the tokens 0.85, of all 0.4."""
    loss = with_features(monkeypatch, ORIGINAL, RECONSTRUCTION, tail=0.4)
    one = torch.ones(2, 3, 8, 8)
    expected = (0.5 * 0.85 + 1.2 * 0.4) / 2
    assert loss.of_prefixes(one, -one, torch.tensor([0.25, 1.0])).item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("teacher", ["test_vit", "test_convnext", "test_vit2"])
@pytest.mark.parametrize("pooled", [False, True])
def test_teachers_of_any_kind(teacher: str, pooled: bool) -> None:
    loss = Semantic(teacher=teacher, weights="random", pooled=pooled).train()
    assert not any(module.training for module in loss.teacher.model.modules())
    assert not any(p.requires_grad for p in loss.teacher.parameters())
    target = pictures()
    assert loss(target, target).item() == pytest.approx(0, abs=1e-5)
    features = loss.features(target)
    assert features.ndim == 3 and len(features) == 3 and (features.shape[1] == 1) == pooled
    reconstruction = pictures().flip(0).requires_grad_()
    loss(target, reconstruction).backward()
    assert reconstruction.grad is not None and reconstruction.grad.any()


def test_features_are_the_patches_of_the_scaled_and_normalised_picture() -> None:
    loss = Semantic(**TEACHER)
    config = loss.teacher.model.pretrained_cfg
    side = config["input_size"][-1]
    given = pictures(2, side=side)
    mean, std = torch.tensor(config["mean"]).view(3, 1, 1), torch.tensor(config["std"]).view(3, 1, 1)
    expected = loss.teacher.model.forward_features(((given + 1) / 2 - mean) / std)[:, loss.teacher.model.num_prefix_tokens :]
    torch.testing.assert_close(loss.features(given), expected, atol=1e-4, rtol=1e-4)


def test_another_size_and_grey_pictures() -> None:
    loss = Semantic(**TEACHER, size=64)
    assert loss.features(pictures(2, 1)).shape[1] == (64 // loss.teacher.model.patch_embed.patch_size[0]) ** 2
    with pytest.raises(InputError, match="expected pictures"):
        loss(torch.rand(1, 2, 8, 8), torch.rand(1, 2, 8, 8))


def test_weights_from_a_file(tmp_path: Path) -> None:
    model = timm.create_model("test_vit", pretrained=False)
    save_file(model.state_dict(), tmp_path / "teacher.safetensors")
    teacher = load_teacher("test_vit", str(tmp_path / "teacher.safetensors"))
    given = torch.rand(1, 3, *model.pretrained_cfg["input_size"][1:])
    torch.testing.assert_close(teacher.forward_features(given), model.eval().forward_features(given))
    torch.save(model.state_dict(), tmp_path / "teacher.pth")
    assert torch.equal(load_teacher("test_vit", str(tmp_path / "teacher.pth")).blocks[0].attn.qkv.weight, model.blocks[0].attn.qkv.weight)


def test_weights_that_are_not_there_are_named_and_never_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"no such weights file: .*missing\.pth"):
        load_teacher("test_vit", str(tmp_path / "missing.pth"))
    with pytest.raises(InputError, match="timm has no such model, did you mean"):
        load_teacher("vit_base_patch14_dino2", "random")
    (tmp_path / "bad.pth").write_bytes(b"nothing")
    with pytest.raises(InputError, match="does not hold timm's weights"):
        load_teacher("test_vit", str(tmp_path / "bad.pth"))
    other = timm.create_model("test_convnext", pretrained=False)
    save_file(other.state_dict(), tmp_path / "other.safetensors")
    with pytest.raises(InputError, match="does not hold timm's weights"):
        load_teacher("test_vit", str(tmp_path / "other.safetensors"))

    def offline(*args: Any, **options: Any) -> None:
        raise FileNotFoundError("no network")

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(InputError, match=r"weights \(timm/test_vit.*no network.*give the file as weights="):
        load_teacher("test_vit", "pretrained")


def test_nested_tells_the_share_that_it_kept() -> None:
    quantizer = tokkit.build("quantizer", "nested", quantizer=tokkit.build("quantizer", "fsq", levels=(8, 5, 5)), num_tokens=8)
    quantized = quantizer(torch.randn(64, 8, 3))
    left = (F.pairwise_distance(quantized.latents, quantizer.mask_token) > 1e-4).sum(1) / 8
    assert quantized.kept is not None and (quantized.kept - left).abs().mean() < 0.05
    assert quantizer.eval()(torch.randn(2, 8, 3)).kept is None
