"""Losses that see the latents: their formulas by hand, what they need, and that their own weights learn."""

from __future__ import annotations

import math
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import tokkit
from tokkit.errors import InputError
from tokkit.losses.align import Align, margin_cosine, margin_distances
from tokkit.losses.base import TokenizerParts
from tokkit.losses.relation import Relation, relation_divergence, soft_histograms
from tokkit.losses.self_distill import SelfDistill, distillation
from tokkit.output import TokenizerOutput

TEACHER: dict[str, Any] = {"teacher": "test_vit", "weights": "random", "size": None}


class Patches(nn.Module):
    """An encoder of stride 4 whose latents are the linear map of a patch."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 4, stride=4)

    def forward(self, pictures: Tensor) -> tuple[Tensor, tuple[int, int]]:
        found = self.conv(pictures)
        return found.flatten(2).transpose(1, 2), (found.shape[2], found.shape[3])


def parts(sizes: tuple[int, ...] = (8, 5, 5), encoder: nn.Module | None = None) -> TokenizerParts:
    quantizer = tokkit.build("quantizer", "fsq", levels=sizes)
    return TokenizerParts(encoder or Patches(), 6, 4, 3, quantizer.codebook_sizes, quantizer.lookup, nullcontext)


def pictures(count: int = 4, side: int = 8) -> Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(0)) * 2 - 1


def output(latents: Tensor, grid: tuple[int, ...] = (2, 2)) -> TokenizerOutput:
    nothing = torch.zeros(())
    return TokenizerOutput(nothing, nothing, nothing.long(), nothing, latents=latents, grid=grid)


def test_margins_by_hand() -> None:
    """Cosines of partners 1, 0.6, -1; of pairs 0.6, -1, -0.6 among the found and 0, 1, 0 among the wanted."""
    found = torch.tensor([[[1.0, 0.0], [3.0, 4.0], [-1.0, 0.0]]])
    wanted = torch.tensor([[[2.0, 0.0], [1.0, 0.0], [5.0, 0.0]]])
    assert margin_cosine(found, wanted, 0.5).item() == pytest.approx((0 + 0 + 1.5) / 3)
    assert margin_cosine(found, wanted, 0.0).item() == pytest.approx((0 + 0.4 + 2) / 3)
    wanted = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]]])
    expected = 2 * ((0.6 - 0.25) + (2 - 0.25) + (0.6 - 0.25)) / 9
    assert margin_distances(found, wanted, 0.25).item() == pytest.approx(expected)


def test_alignment_by_place_and_by_picture() -> None:
    torch.manual_seed(0)
    target = pictures()
    loss = Align(**TEACHER)
    loss.attach(parts())
    latents = torch.randn(4, 4, 3, requires_grad=True)
    wanted = loss.teacher.on_grid(target, (2, 2))
    found = loss.project(latents)
    expected = margin_cosine(found, wanted, 0.5) + margin_distances(found, wanted, 0.25)
    value = loss.of_output(target, target, output(latents))
    torch.testing.assert_close(value, expected)
    value.backward()
    assert latents.grad is not None and latents.grad.any() and loss.project.weight.grad is not None
    with pytest.raises(InputError, match=r"5 latents have no places on a grid of \[2, 2\]; set pooled: true"):
        loss.of_output(target, target, output(torch.randn(4, 5, 3)))
    pooled = Align(**TEACHER, pooled=True)
    pooled.attach(parts())
    latents = torch.randn(4, 5, 3)
    found, wanted = pooled.project(latents.mean(1)), pooled.teacher(target).mean(1)
    both = margin_cosine(found, wanted, 0.5) + margin_distances(found[None], wanted[None], 0.25)
    torch.testing.assert_close(pooled.of_output(target, target, output(latents)), both)
    pooled.distance_margin = None
    torch.testing.assert_close(pooled.of_output(target, target, output(latents)), margin_cosine(found, wanted, 0.5))


def test_features_on_another_grid_are_means_or_interpolated() -> None:
    teacher = Align(**TEACHER).teacher
    own = teacher(pictures())
    side = math.isqrt(own.shape[1])
    torch.testing.assert_close(teacher.on_grid(pictures(), (1, 1))[:, 0], own.mean(1), atol=1e-5, rtol=1e-4)
    assert torch.equal(teacher.on_grid(pictures(), (side, side)), own)
    assert teacher.on_grid(pictures(), (2 * side, side + 1)).shape[1] == 2 * side * (side + 1)


def test_histograms_by_hand() -> None:
    """Two codes at right angles: a latent on one of them gets exp(1 / t) to exp(0)."""
    codes = torch.tensor([[2.0, 0.0], [0.0, 3.0]])
    latents = torch.tensor([[[1.0, 0.0], [0.0, 5.0]], [[1.0, 0.0], [4.0, 0.0]]])
    share = math.e / (math.e + 1)
    expected = torch.tensor([[0.5, 0.5], [share, 1 - share]])
    torch.testing.assert_close(soft_histograms(latents, codes, 1.0), expected)
    torch.testing.assert_close(soft_histograms(latents, codes, 1e-3), torch.tensor([[0.5, 0.5], [1.0, 0.0]]))


def test_divergence_of_relations_by_hand() -> None:
    """Off the diagonal: p = (2/3, 1/3) in the first row, q = (1/2, 1/2) in all rows."""
    wanted = torch.tensor([[9.0, math.log(2), 0.0], [0.0, 9.0, 0.0], [1.0, 1.0, 9.0]])
    expected = (2 / 3 * math.log(4 / 3) + 1 / 3 * math.log(2 / 3)) / 3
    assert relation_divergence(wanted, torch.zeros(3, 3), 1.0).item() == pytest.approx(expected, abs=1e-6)
    assert relation_divergence(wanted, wanted, 0.3).item() == pytest.approx(0, abs=1e-6)


def test_relation_pulls_latents_and_says_what_it_needs() -> None:
    torch.manual_seed(0)
    loss = Relation(**TEACHER)
    loss.attach(parts())
    latents = torch.randn(4, 4, 3, requires_grad=True)
    optimizer = torch.optim.Adam([latents], lr=0.05)
    values = []
    for _ in range(30):
        value = loss.of_output(pictures(), pictures(), output(latents))
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        values.append(value.item())
    assert values[-1] < 0.5 * values[0]
    with pytest.raises(InputError, match="at least 3, and got 2"):
        loss.of_output(pictures(2), pictures(2), output(torch.randn(2, 4, 3)))
    with pytest.raises(InputError, match="needs one codebook of at most 65536 codes"):
        loss.attach(parts()._replace(codebook_sizes=(16, 16)))


def test_distillation_by_hand() -> None:
    student, teacher = torch.tensor([[[0.0, 0.0], [math.log(3), 0.0]]]), torch.tensor([[[0.0, 0.0], [5.0, 5.0]]])
    centre = torch.tensor([0.0, math.log(2)])
    first = math.log(2)
    second = -(2 / 3 * math.log(3 / 4) + 1 / 3 * math.log(1 / 4))
    assert distillation(student, teacher, centre, 1.0, 1.0).item() == pytest.approx((first + second) / 2)
    judged = torch.tensor([[False, True]])
    assert distillation(student, teacher, centre, 1.0, 1.0, judged=judged).item() == pytest.approx(second)


def test_self_distillation_masks_follows_and_learns() -> None:
    torch.manual_seed(0)
    encoder = Patches()
    loss = SelfDistill(masked=0.5, prototypes=16, hidden=8, momentum=0.9)
    loss.attach(parts(encoder=encoder))
    holes = loss._draw_holes(pictures())
    assert holes.flatten(1).sum(1).tolist() == [2] * 4 and loss._spread(holes).shape == (4, 1, 8, 8)
    start = loss.teacher.conv.weight.clone()
    with torch.no_grad():
        encoder.conv.weight += 1
    value = loss.of_output(pictures(), pictures(), output(torch.zeros(4, 4, 3)))
    torch.testing.assert_close(loss.teacher.conv.weight, start + 0.1)
    assert loss.centre.any() and value.item() > 0
    value.backward()
    assert encoder.conv.weight.grad is not None and encoder.conv.weight.grad.any()
    assert loss.head.prototypes.grad is not None and loss.teacher.conv.weight.grad is None
    assert not any("encoder" in name or "_student" in name for name, _ in loss.named_parameters())
    with pytest.raises(InputError, match="smaller than the stride 4"):
        loss.of_output(pictures(side=3), pictures(side=3), output(torch.zeros(4, 4, 3)))
