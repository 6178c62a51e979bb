"""RVQ: gradients of every level, dropout, leading levels."""

from __future__ import annotations

import copy

import pytest
import torch

from tokkit.errors import InputError
from tokkit.quantizers.rvq import RVQ


def trained(**options: object) -> RVQ:
    torch.manual_seed(0)
    quantizer = RVQ(**{"dim": 4, "levels": 4, "codebook_size": 8, **options}).train()
    quantizer(torch.randn(4, 16, quantizer.dim))
    return quantizer


def gradient_up_to(quantizer: RVQ, latents: torch.Tensor, level: int) -> torch.Tensor:
    """Gradient of the loss of the first `level` + 1 levels."""
    short = copy.deepcopy(quantizer)
    short.levels = level + 1
    short.codebooks = short.codebooks[: level + 1]
    given = latents.clone().requires_grad_()
    short(given).loss.backward()
    return given.grad if given.grad is not None else torch.zeros_like(latents)


@pytest.mark.parametrize("options", [{}, {"code_dim": 2}, {"code_dim": 2, "metric": "cosine"}, {"shared": True}])
def test_commitment_gradient_of_every_level_reaches_the_input(options: dict[str, object]) -> None:
    quantizer = trained(**options)
    latents = torch.randn(2, 5, 4)
    before = torch.zeros_like(latents)
    for level in range(4):
        gradient = gradient_up_to(quantizer, latents, level)
        assert (gradient - before).abs().max() > 1e-5, f"level {level}"
        before = gradient


def test_commitment_gradient_by_hand() -> None:
    quantizer = trained(commitment=0.5)
    twin = copy.deepcopy(quantizer)
    latents = torch.randn(2, 5, 4, requires_grad=True)
    quantized = quantizer(latents)
    quantized.loss.backward()
    residual, expected = latents.detach(), torch.zeros_like(latents)
    for level in range(4):
        residual = residual - twin.codebooks[level].rows(quantized.codes[..., level])
        expected += 0.5 * 2 * residual / residual.numel()
    torch.testing.assert_close(latents.grad, expected)


@pytest.mark.parametrize("dropout", [0.0, 1.0])
def test_decoder_gradient_passes_through_once(dropout: float) -> None:
    quantizer = trained(dropout=dropout)
    latents = torch.randn(2, 5, 4, requires_grad=True)
    upstream = torch.randn(2, 5, 4)
    quantizer(latents).latents.backward(upstream)
    torch.testing.assert_close(latents.grad, upstream)


def test_training_and_eval_agree() -> None:
    for options in ({}, {"code_dim": 2, "metric": "cosine"}, {"shared": True}):
        quantizer = trained(**options)
        latents = torch.randn(2, 5, 4)
        expected = copy.deepcopy(quantizer).eval()(latents)
        quantizer.codebooks[0]._known_steps = 1  # not a step that looks for dead codes
        found = quantizer(latents)
        assert torch.equal(found.codes, expected.codes)
        torch.testing.assert_close(found.latents, expected.latents)


def test_dropout_works_at_batch_one() -> None:
    quantizer = trained(dropout=0.5)
    kept = [int(quantizer._draw_kept_levels(torch.zeros(1, 3, 4)).sum()) for _ in range(400)]
    # n levels with chance 0.5 / 4, and all four also whenever nothing is dropped: 0.625.
    assert {1, 2, 3, 4} == set(kept)
    assert 0.55 < kept.count(4) / 400 < 0.70 and 0.07 < kept.count(1) / 400 < 0.18


def test_dropout_is_drawn_for_each_sample_and_keeps_leading_levels() -> None:
    quantizer = trained(dropout=1.0)
    kept = quantizer._draw_kept_levels(torch.zeros(200, 3, 4))
    assert len(set(kept.sum(1).tolist())) == 4
    assert (kept.int().diff(dim=1) <= 0).all()
    assert trained(dropout=0.0)._draw_kept_levels(torch.zeros(50, 3, 4)).all()


def test_dropped_levels_are_left_out_of_output_and_averages(monkeypatch: pytest.MonkeyPatch) -> None:
    quantizer = trained(dropout=1.0)
    monkeypatch.setattr(quantizer, "_draw_kept_levels", lambda values: torch.tensor([[True, True, False, False]]))
    before = [book.counts.clone() for book in quantizer.codebooks]
    twin = copy.deepcopy(quantizer)
    for book in quantizer.codebooks:
        book._known_steps = 1
    latents = torch.randn(1, 5, 4)
    quantized = quantizer(latents)
    torch.testing.assert_close(quantized.latents, twin.eval().lookup(quantized.codes[..., :2]))
    decay = quantizer.codebooks[0].decay
    torch.testing.assert_close(quantizer.codebooks[1].counts.sum(), decay * before[1].sum() + (1 - decay) * 5)
    torch.testing.assert_close(quantizer.codebooks[2].counts.sum(), decay * before[2].sum())


def test_each_further_level_lowers_the_error() -> None:
    torch.manual_seed(0)
    quantizer = RVQ(dim=4, levels=4, codebook_size=32).train()
    for _ in range(30):
        quantizer(torch.randn(8, 32, 4))
    latents = torch.randn(4, 64, 4)
    codes = quantizer.eval()(latents).codes
    errors = [(quantizer.lookup(codes[..., :level]) - latents).square().mean().item() for level in range(1, 5)]
    assert errors == sorted(errors, reverse=True) and errors[-1] < 0.2 * errors[0]


def test_shared_codebook_is_one_module_and_sees_all_levels() -> None:
    quantizer = trained(shared=True)
    assert len(quantizer.codebooks) == 1
    assert not any(key.startswith("codebooks.1") for key in quantizer.state_dict())
    book = quantizer.codebooks[0]
    before = book.counts.sum()
    book._known_steps = 1
    quantizer(torch.randn(2, 5, 4))
    torch.testing.assert_close(book.counts.sum(), book.decay * before + (1 - book.decay) * 2 * 5 * 4)


def test_cosine_needs_maps() -> None:
    with pytest.raises(InputError, match="code_dim"):
        RVQ(dim=4, metric="cosine")
