"""Nested dropout: how lengths are drawn, what a dropped token becomes, and leading tokens."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import tokkit
from tokkit.errors import InputError
from tokkit.quantizers.fsq import FSQ
from tokkit.quantizers.nested import Nested, length_distribution
from tokkit.quantizers.rvq import RVQ
from tokkit.quantizers.vq import VQ


def build(num_tokens: int = 8, **options: Any) -> Nested:
    return Nested(quantizer=FSQ(levels=(8, 5, 5)), num_tokens=num_tokens, **options)


@pytest.mark.parametrize(
    ("num_tokens", "mode", "expected"),
    [
        (4, "uniform", {1: 1 / 4, 2: 1 / 4, 3: 1 / 4, 4: 1 / 4}),
        (8, "pow2", {1: 1 / 4, 2: 1 / 4, 4: 1 / 4, 8: 1 / 4}),
        (6, "pow2", {1: 1 / 4, 2: 1 / 4, 4: 1 / 4, 6: 1 / 4}),
        (8, "uniform_pow2", {1: 1 / 8, 2: 1 / 8, 4: 2 / 8, 8: 4 / 8}),
        (6, "uniform_pow2", {1: 1 / 6, 2: 1 / 6, 4: 2 / 6, 6: 2 / 6}),
        (1, "uniform", {1: 1.0}),
        (1, "pow2", {1: 1.0}),
        (1, "uniform_pow2", {1: 1.0}),
    ],
)
def test_distributions(num_tokens: int, mode: Any, expected: dict[int, float]) -> None:
    assert length_distribution(num_tokens, mode) == pytest.approx(expected)


def test_restoks_default_weights() -> None:
    """Weights 1, 2, 4, 8, 16 and 124: the full length in 0.8 of the draws."""
    found = length_distribution(128, "weighted", (4, 8, 16, 32, 64, 128))
    assert found == pytest.approx({4: 1 / 155, 8: 2 / 155, 16: 4 / 155, 32: 8 / 155, 64: 16 / 155, 128: 124 / 155})


def test_own_weights() -> None:
    assert length_distribution(8, "weighted", (2, 8), (1.0, 3.0)) == {2: 0.25, 8: 0.75}
    assert length_distribution(8, "weighted", (8,)) == {8: 1.0}


@pytest.mark.parametrize("mode", ["uniform", "pow2", "uniform_pow2"])
def test_draws_follow_the_distribution(mode: Any) -> None:
    torch.manual_seed(0)
    quantizer = build(12, mode=mode)
    drawn = quantizer.draw_lengths(20_000)
    expected = length_distribution(12, mode)
    assert set(drawn.tolist()) == set(expected)
    statistic = sum((int((drawn == length).sum()) - 20_000 * share) ** 2 / (20_000 * share) for length, share in expected.items())
    assert statistic < 35  # chi-square, at most 11 degrees of freedom: one in four thousand


def test_nothing_is_dropped_before_the_warm_up_is_over() -> None:
    quantizer = build(8, mode="pow2", warmup=0.5)
    for progress, expected in ((0.0, {8}), (0.49, {8}), (0.5, {1, 2, 4, 8}), (1.0, {1, 2, 4, 8})):
        quantizer.progress = progress
        assert set(quantizer.draw_lengths(200).tolist()) == expected
        assert quantizer.train()(torch.randn(3, 8, 3)).latents.shape == (3, 8, 3)


def test_dropped_tokens_become_the_mask_token() -> None:
    torch.manual_seed(0)
    quantizer = build(8, mode="weighted", lengths=(3, 8), weights=(1.0, 0.0)).train()
    latents = torch.randn(2, 8, 3, requires_grad=True)
    quantized = quantizer(latents)
    plain = quantizer.quantizer(latents)
    assert torch.equal(quantized.codes, plain.codes)
    assert torch.equal(quantized.latents[:, :3], plain.latents[:, :3])
    assert torch.equal(quantized.latents[:, 3:], quantizer.mask_token.expand(2, 5, 3))
    assert torch.equal(quantizer.lookup(quantized.codes[:, :3]), quantized.latents)
    quantized.latents.sum().backward()
    assert (latents.grad[:, :3] != 0).all() and (latents.grad[:, 3:] == 0).all()
    assert torch.equal(quantizer.mask_token.grad, torch.full((3,), 10.0))


def test_lengths_differ_between_samples() -> None:
    torch.manual_seed(0)
    quantizer = build(8).train()
    latents = quantizer(torch.randn(64, 8, 3)).latents
    kept = (latents != quantizer.mask_token).any(-1)
    assert (kept.int().diff(dim=1) <= 0).all() and len(kept.sum(1).unique()) == 8


def test_eval_keeps_everything() -> None:
    quantizer = build(8).eval()
    latents = torch.randn(4, 8, 3)
    assert torch.equal(quantizer(latents).latents, quantizer.quantizer(latents).latents)


def test_the_loss_is_over_all_tokens() -> None:
    torch.manual_seed(0)
    inner = VQ(dim=4, codebook_size=8, kmeans_init=False)
    quantizer = Nested(quantizer=inner, num_tokens=6, mode="weighted", lengths=(1, 6), weights=(1.0, 0.0)).train()
    latents = torch.randn(2, 6, 4, requires_grad=True)
    quantizer(latents).loss.backward()
    assert (latents.grad[:, 1:].abs().sum(-1) > 0).all()


def test_lookup_of_no_tokens_is_all_mask() -> None:
    quantizer = build(4).eval()
    assert torch.equal(quantizer.lookup(torch.zeros(2, 0, 1, dtype=torch.int64)), quantizer.mask_token.expand(2, 4, 3))


def test_levels_stay_variable_inside() -> None:
    quantizer = Nested(quantizer=RVQ(dim=4, levels=3, codebook_size=8), num_tokens=5).eval()
    codes = quantizer(torch.randn(2, 5, 4)).codes
    assert quantizer.variable_levels and quantizer.lookup(codes[:, :2, :1]).shape == (2, 5, 4)


@pytest.mark.parametrize(
    "options",
    [
        {"mode": "uniform", "lengths": (1, 8)},
        {"mode": "pow2", "weights": (1.0,)},
        {"mode": "weighted"},
        {"mode": "weighted", "lengths": (4, 2, 8)},
        {"mode": "weighted", "lengths": (2, 4)},
        {"mode": "weighted", "lengths": (0, 8)},
        {"mode": "weighted", "lengths": (2, 8), "weights": (1.0,)},
        {"mode": "weighted", "lengths": (2, 8), "weights": (-1.0, 2.0)},
        {"mode": "weighted", "lengths": (2, 8), "weights": (0.0, 0.0)},
    ],
)
def test_options_that_do_not_fit(options: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="nested"):
        build(8, **options)


def test_wrong_number_of_tokens() -> None:
    quantizer = build(8)
    with pytest.raises(InputError, match="num_tokens=8"):
        quantizer(torch.randn(1, 7, 3))
    with pytest.raises(InputError, match="at most 8"):
        quantizer.lookup(torch.zeros(1, 9, 1, dtype=torch.int64))
    with pytest.raises(InputError, match="orders its tokens"):
        Nested(quantizer=build(8), num_tokens=8)


def test_padding_is_there_in_training_only() -> None:
    """Of 4 tokens and 12 that pad: k is uniform in 1 to 16, so the last of the 4 is kept 13 times of 16, not once of 4."""
    torch.manual_seed(0)
    quantizer = build(4, padding=12).train()
    latents = torch.randn(4000, 16, 3)
    quantized = quantizer(latents)
    assert quantized.codes.shape == (4000, 4, 1) and quantized.latents.shape == latents.shape
    masked = (quantized.latents == quantizer.mask_token).all(-1).float().mean(0)
    assert (1 - masked - torch.arange(16, 0, -1) / 16).abs().max() < 0.03
    assert (
        quantized.kept is not None
        and quantized.kept.max() == 1
        and (quantized.kept == 1).float().mean() == pytest.approx(13 / 16, abs=0.03)
    )
    quantizer.eval()
    measured = quantizer(latents[:2])
    assert measured.codes.shape == (2, 4, 1) and (measured.latents[:, 4:] == quantizer.mask_token).all()
    assert torch.equal(quantizer.lookup(measured.codes), measured.latents)
    assert quantizer.lookup(measured.codes[:, :2]).shape == (2, 16, 3)
    assert quantizer.prefix_lengths(16) == (1, 2, 3, 4)
    changed = latents[:2].clone()
    changed[:, 4:] = 0
    assert torch.equal(quantizer(changed).latents, measured.latents), "what pads changes nothing"
    with pytest.raises(InputError, match=r"num_tokens=4 and padding=12, got latents \[2, 4, 3\]"):
        quantizer(latents[:2, :4])
    with pytest.raises(InputError, match="at most 4 tokens"):
        quantizer.lookup(torch.zeros(1, 5, 1, dtype=torch.int64))


def test_a_tokenizer_with_padding_gives_the_tokens_that_count() -> None:
    options: dict[str, Any] = {"num_tokens": 16, "patch": 4, "width": 16, "depth": 1, "heads": 2}
    model = tokkit.Tokenizer(
        modality="image",
        encoder=tokkit.build("encoder", "vit1d", **options),
        quantizer=build(6, padding=10),
        decoder=tokkit.build("decoder", "vit1d", **options),
    )
    pictures = torch.rand(2, 3, 8, 12)
    assert model.train()(pictures).codes.shape == (2, 6, 1)
    tokens = model.eval().encode(pictures)
    assert tokens.codes.shape == (2, 6, 1) and model.encode(pictures, num_tokens=3).codes.shape == (2, 3, 1)
    torch.testing.assert_close(model.decode(tokens), model(pictures).reconstruction.clamp(0, 1))
    assert len(model.encode(pictures, target="psnr:0")) == 2
