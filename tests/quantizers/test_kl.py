"""The continuous bottleneck: divergence and codes by hand, noise in training only, and tokens that hold what it keeps."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

import tokkit
from tests.small import RECIPE, pictures, tokenizer, write_recipe
from tokkit.quantizers.kl import KL, gaussian_divergence, half_codes
from tokkit.recipe import Recipe
from tokkit.train import train


def test_divergence_by_hand() -> None:
    """Of N(0, 1) none; of N(2, 1) 2 nats; of N(0, 1/4) (1/4 - 1 + ln 4) / 2. Channels add up, tokens are averaged."""
    mean = torch.tensor([[[0.0, 2.0], [0.0, 0.0]]])
    log_variance = torch.tensor([[[0.0, 0.0], [-math.log(4), 0.0]]])
    assert gaussian_divergence(mean, log_variance).item() == pytest.approx((2 + (0.25 - 1 + math.log(4)) / 2) / 2)


def test_codes_are_the_bits_of_half_floats() -> None:
    values = torch.tensor([0.0, 1.0, -1.0, 2.0, 65504.0, 1e9, -1e9])
    assert half_codes(values).tolist() == [0, 0x3C00, 0xBC00, 0x4000, 0x7BFF, 0x7BFF, 0xFBFF]


def with_moments(mean: float, log_variance: float) -> KL:
    """A Gaussian that does not depend on the latents, of one channel."""
    quantizer = KL(dim=2, code_dim=1, weight=0.5)
    torch.nn.init.zeros_(quantizer.moments.weight)
    torch.nn.init.zeros_(quantizer.project_out.bias)
    torch.nn.init.ones_(quantizer.project_out.weight)
    with torch.no_grad():
        quantizer.moments.bias.copy_(torch.tensor([mean, log_variance]))
    return quantizer


def test_training_draws_and_eval_takes_the_mean() -> None:
    quantizer = with_moments(3.0, math.log(0.25))
    latents = torch.zeros(64, 500, 2)
    torch.manual_seed(0)
    trained = quantizer.train()(latents)
    drawn = trained.latents[..., 0]
    assert drawn.mean().item() == pytest.approx(3, abs=0.02) and drawn.std().item() == pytest.approx(0.5, abs=0.01)
    expected = (9 + 0.25 - 1 + math.log(4)) / 2
    assert trained.loss.item() == pytest.approx(0.5 * expected) and trained.terms["kl"].item() == pytest.approx(expected)
    assert trained.terms["deviation"].item() == pytest.approx(0.5)
    measured = quantizer.eval()(latents)
    assert (measured.latents == 3).all() and (measured.codes == half_codes(torch.tensor(3.0))).all()


def test_extreme_moments_stay_finite() -> None:
    quantizer = with_moments(1e6, 1e4).train()
    quantized = quantizer(torch.zeros(1, 4, 2))
    assert quantized.latents.isfinite().all() and quantized.loss.isfinite()
    assert quantizer.eval()(torch.zeros(1, 4, 2)).latents.unique().tolist() == [65504]


def test_tokens_cost_16_bits_a_channel_and_decode_from_their_file(tmp_path: Path) -> None:
    model = tokenizer(KL(dim=8, code_dim=3))
    tokens = model.encode(pictures())
    assert tokens.payload_bits == 6 * 5 * 3 * 16
    tokens.save(tmp_path / "two.tok")
    loaded = tokkit.Tokens.load(tmp_path / "two.tok")
    assert torch.equal(model.decode(loaded), model(pictures()).reconstruction.clamp(0, 1))


def test_nested_gaussians_decode_from_a_prefix() -> None:
    quantizer = tokkit.build("quantizer", "nested", quantizer=KL(dim=8, code_dim=3), num_tokens=30)
    model = tokenizer(quantizer)
    tokens = model.encode(pictures(), num_tokens=4)
    assert tokens.payload_bits == 4 * 48 and model.decode(tokens).shape == pictures().shape


def test_a_recipe_trains_it(tmp_path: Path) -> None:
    text = RECIPE.replace("{name: vq, dim: 8, codebook_size: 32}", "{name: kl, dim: 8, code_dim: 4}")
    run = train(Recipe.load(write_recipe(tmp_path, text), ["train.steps=2", "train.log_every=1"]), tmp_path / "run", cpu=True)
    assert '"quantizer/kl"' in (run / "metrics.jsonl").read_text()
    assert tokkit.Tokenizer.from_pretrained(run).encode(pictures()).codebook_sizes == (65536,) * 4
