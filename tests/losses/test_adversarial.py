"""The adversarial functions by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import nn

from tokkit.losses.adversarial import (
    LeCam,
    adaptive_weight,
    discriminator_loss,
    feature_matching,
    generator_loss,
    r1_penalty,
)

REAL = [[torch.tensor([2.0, 0.5])]]
FAKE = [[torch.tensor([-2.0, 0.0])]]


def softplus(value: float) -> float:
    return math.log1p(math.exp(value))


@pytest.mark.parametrize(
    ("kind", "discriminator", "generator"),
    [
        ("hinge", ((0 + 0.5) / 2 + (0 + 1) / 2) / 2, 1.0),
        ("nonsaturating", ((softplus(-2) + softplus(-0.5)) / 2 + (softplus(-2) + softplus(0)) / 2) / 2, (softplus(2) + softplus(0)) / 2),
        ("lsgan", ((1 + 0.25) / 2 + (4 + 0) / 2) / 2, (9 + 1) / 2),
    ],
)
def test_losses_by_hand(kind: Any, discriminator: float, generator: float) -> None:
    assert discriminator_loss(kind, REAL, FAKE).item() == pytest.approx(discriminator)
    assert generator_loss(kind, FAKE).item() == pytest.approx(generator)


@pytest.mark.parametrize("kind", ["hinge", "nonsaturating", "lsgan"])
def test_sub_discriminators_count_equally_whatever_their_number_of_logits(kind: Any) -> None:
    more = [[torch.tensor([0.3, 0.3, 0.3])]]
    assert generator_loss(kind, FAKE + more).item() == pytest.approx((generator_loss(kind, FAKE) + generator_loss(kind, more)).item() / 2)
    both = discriminator_loss(kind, REAL + more, FAKE + more)
    assert both.item() == pytest.approx((discriminator_loss(kind, REAL, FAKE) + discriminator_loss(kind, more, more)).item() / 2)


def test_feature_matching_leaves_the_logits_out_and_the_real_side_alone() -> None:
    real = [torch.tensor([1.0, 2.0], requires_grad=True), torch.tensor([[4.0]]), torch.tensor([100.0])]
    fake = [torch.tensor([0.0, 0.0], requires_grad=True), torch.tensor([[1.0]]), torch.tensor([0.0])]
    value = feature_matching([real], [fake])
    assert value.item() == pytest.approx((1.5 + 3) / 2)
    value.backward()
    assert real[0].grad is None and fake[0].grad is not None
    assert feature_matching(REAL, FAKE).item() == 0


def test_adaptive_weight_is_the_ratio_of_the_gradients() -> None:
    weight = nn.Parameter(torch.tensor([3.0, 4.0]))
    reconstruction, generator = 10 * weight.sum(), (weight * torch.tensor([0.6, 0.8])).sum()
    ratio = adaptive_weight(reconstruction, generator, weight)
    assert ratio.item() == pytest.approx(10 * math.sqrt(2) / 1.0001, rel=1e-4)
    assert not ratio.requires_grad
    assert adaptive_weight(reconstruction, generator, weight, maximum=2.0).item() == 2
    assert adaptive_weight(reconstruction, 0 * generator, weight).item() == pytest.approx(1e4)
    (reconstruction + ratio * generator).backward()  # both graphs are still there


def test_r1_of_a_linear_discriminator_is_the_squared_norm_of_its_weights() -> None:
    layer = nn.Linear(3, 1, bias=False)
    inputs = torch.randn(5, 3, requires_grad=True)
    penalty = r1_penalty([[layer(inputs)]], inputs)
    assert penalty.item() == pytest.approx(layer.weight.square().sum().item())
    penalty.backward()
    torch.testing.assert_close(layer.weight.grad, 2 * layer.weight)


def test_lecam_by_hand() -> None:
    lecam = LeCam(decay=0.5)
    value = lecam([[torch.tensor([2.0, 0.0])]], [[torch.tensor([-2.0, 0.0])]])
    assert (lecam.average_real.item(), lecam.average_fake.item()) == (0.5, -0.5)
    # real above the fake average: 2.5 and 0.5; the real average above fake: 2.5 and 0.5
    assert value.item() == pytest.approx((6.25 + 0.25) / 2 * 2)
    lecam([[torch.tensor([1.0])]], [[torch.tensor([1.0])]])
    assert (lecam.average_real.item(), lecam.average_fake.item()) == (0.75, 0.25)
    assert set(lecam.state_dict()) == {"average_real", "average_fake"}


def test_lecam_gives_gradients_to_the_logits_only() -> None:
    real, fake = torch.ones(3, requires_grad=True), -torch.ones(3, requires_grad=True)
    lecam = LeCam()
    lecam([[real]], [[fake]]).backward()
    assert real.grad is not None and real.grad.any()
    assert not lecam.average_real.requires_grad


def _lecam_rank(rank: int, store: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    lecam = LeCam(decay=0.5)
    lecam([[torch.tensor([float(rank)])]], [[torch.tensor([float(-rank)])]])
    assert (lecam.average_real.item(), lecam.average_fake.item()) == (0.25, -0.25)
    dist.destroy_process_group()


@pytest.mark.slow
def test_lecam_averages_over_ranks(tmp_path: Any) -> None:
    torch.multiprocessing.spawn(_lecam_rank, (str(tmp_path / "store"),), nprocs=2)
