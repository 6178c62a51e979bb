"""VQ and SimVQ: losses, gradients and the rotation trick against their formulas."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from tokkit.quantizers.base import rotate_to, squared_error, straight_through
from tokkit.quantizers.simvq import SimVQ
from tokkit.quantizers.vq import VQ


def fixed(weight: torch.Tensor, **options: object) -> VQ:
    """A VQ whose codebook is given and does not start from data."""
    quantizer = VQ(dim=weight.shape[1], codebook_size=len(weight), kmeans_init=False, **options)
    with torch.no_grad():
        quantizer.codebook.weight.copy_(weight)
    return quantizer


WEIGHT = torch.tensor([[0.0, 0.0], [2.0, 0.0], [0.0, 2.0]])
LATENTS = torch.tensor([[[0.5, 0.0], [1.5, 0.0], [0.0, 3.0]]])


def test_commitment_by_hand() -> None:
    quantized = fixed(WEIGHT, commitment=0.25).train()(LATENTS)
    assert quantized.codes.tolist() == [[[0], [1], [2]]]
    # Squared errors 0.25, 0.25 and 1 over 6 numbers.
    torch.testing.assert_close(quantized.terms["commitment"], torch.tensor(1.5 / 6))
    torch.testing.assert_close(quantized.loss, torch.tensor(0.25 * 1.5 / 6))
    assert "codebook" not in quantized.terms


def test_gradient_codebook_has_both_losses_and_both_gradients() -> None:
    quantizer = fixed(WEIGHT, learning="gradient", commitment=0.5).train()
    latents = LATENTS.clone().requires_grad_()
    quantized = quantizer(latents)
    torch.testing.assert_close(quantized.loss, torch.tensor(1.5 * 1.5 / 6))
    quantized.loss.backward()
    difference = LATENTS[0] - WEIGHT
    torch.testing.assert_close(latents.grad, 0.5 * 2 * difference[None] / 6)
    torch.testing.assert_close(quantizer.codebook.weight.grad, -2 * difference / 6)


def test_straight_through_is_exact_forward_and_identity_backward() -> None:
    latents = torch.tensor([0.1, 1e-8, 3e7], requires_grad=True)
    quantized = torch.tensor([1e7, 1.0, -0.3])
    passed = straight_through(latents, quantized)
    assert torch.equal(passed, quantized)
    passed.backward(torch.tensor([1.0, 2.0, 3.0]))
    assert latents.grad is not None and latents.grad.tolist() == [1.0, 2.0, 3.0]


def test_mean_of_nothing_is_zero() -> None:
    assert squared_error(torch.zeros(0, 3), torch.zeros(0, 3)) == 0


def test_rotation_is_the_map_of_the_paper() -> None:
    torch.manual_seed(0)
    values, rows = torch.randn(5, 4, dtype=torch.float64, requires_grad=True), torch.randn(5, 4, dtype=torch.float64)
    passed = rotate_to(values, rows)
    torch.testing.assert_close(passed, rows)
    upstream = torch.randn(5, 4, dtype=torch.float64)
    passed.backward(upstream)
    for value, row, given, found in zip(values.detach(), rows, upstream, values.grad, strict=True):
        start, end = value / value.norm(), row / row.norm()
        middle = (start + end) / (start + end).norm()
        turn = torch.eye(4, dtype=torch.float64) - 2 * torch.outer(middle, middle) + 2 * torch.outer(end, start)
        torch.testing.assert_close(turn @ turn.T, torch.eye(4, dtype=torch.float64))
        torch.testing.assert_close(row.norm() / value.norm() * turn @ value, row)
        torch.testing.assert_close(row.norm() / value.norm() * turn.T @ given, found)


def test_rotation_survives_zero_and_opposite_vectors() -> None:
    values = torch.tensor([[0.0, 0.0], [1.0, 0.0]], requires_grad=True)
    passed = rotate_to(values, torch.tensor([[1.0, 0.0], [-1.0, 0.0]]))
    passed.sum().backward()
    assert torch.isfinite(values.grad).all() and passed.tolist() == [[1.0, 0.0], [-1.0, 0.0]]


def test_cosine_compares_directions() -> None:
    quantizer = fixed(torch.tensor([[5.0, 0.0], [0.0, 0.1]]), metric="cosine").eval()
    quantized = quantizer(torch.tensor([[[0.2, 0.1], [1.0, 30.0]]]))
    assert quantized.codes.tolist() == [[[0], [1]]]
    torch.testing.assert_close(quantized.latents, torch.tensor([[[1.0, 0.0], [0.0, 1.0]]]))


@pytest.mark.parametrize("learning", ["ema", "gradient"])
@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("rotation", [False, True])
def test_every_form_learns(learning: str, metric: str, rotation: bool) -> None:
    """A linear encoder and decoder around 16 codes: the error falls, and most codes are in use."""
    torch.manual_seed(0)
    centres = torch.randn(16, 8)
    quantizer = VQ(dim=8, codebook_size=16, code_dim=4, metric=metric, learning=learning, decay=0.9, rotation=rotation).train()
    decoder = torch.nn.Linear(8, 8)
    optimizer = torch.optim.Adam([*quantizer.parameters(), *decoder.parameters()], lr=1e-2)
    errors = []
    for _ in range(120):
        latents = (centres[torch.randint(16, (64,))] + 0.05 * torch.randn(64, 8)).unsqueeze(0)
        quantized = quantizer(latents)
        error = functional.mse_loss(decoder(quantized.latents), latents)
        optimizer.zero_grad()
        (error + quantized.loss).backward()
        optimizer.step()
        errors.append(error.item())
    assert sum(errors[-10:]) < 0.5 * sum(errors[:10])
    assert len(quantizer.eval()(latents).codes.unique()) >= 8


def test_simvq_moves_every_code_with_one_gradient() -> None:
    torch.manual_seed(0)
    quantizer = SimVQ(dim=4, codebook_size=8).train()
    before = quantizer.map(quantizer.basis).detach()
    frozen = quantizer.basis.clone()
    quantized = quantizer(torch.randn(1, 3, 4))
    quantized.loss.backward()
    torch.optim.SGD(quantizer.parameters(), lr=0.1).step()
    assert ((quantizer.map(quantizer.basis) - before).abs().amax(1) > 0).all()
    assert torch.equal(quantizer.basis, frozen)


def test_simvq_loss_by_hand() -> None:
    quantizer = SimVQ(dim=2, codebook_size=3, commitment=0.25).train()
    with torch.no_grad():
        quantizer.basis.copy_(WEIGHT)
        quantizer.map.weight.copy_(torch.eye(2))
    quantized = quantizer(LATENTS)
    torch.testing.assert_close(quantized.loss, torch.tensor(1.25 * 1.5 / 6))
