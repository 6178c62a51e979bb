"""The loss balancer: gradients by hand, averages over steps, what it leaves alone, parts of a batch, and exact resume."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.small import RECIPE, write_recipe
from tokkit.errors import RecipeError
from tokkit.recipe import Balance, Recipe
from tokkit.tokenizer import Tokenizer
from tokkit.train import train
from tokkit.train.balancer import Balancer


def gradient(balancer: Balancer, terms: dict[str, Tensor], at: Tensor) -> Tensor:
    settled = balancer(terms, at)
    values = torch.stack([value.detach() for value in settled.values()]).sum()
    torch.testing.assert_close(values, torch.stack([value.detach() for value in terms.values()]).sum())
    (found,) = torch.autograd.grad(torch.stack(list(settled.values())).sum(), at)
    return found


def test_two_losses_by_hand() -> None:
    """Gradients (3, 4) and (0, 100) of every sample become unit vectors, weighed 1/4 and 3/4 of the norm 2."""
    balancer = Balancer(Balance(norm=2.0), {"a": 1.0, "b": 3.0})
    at = torch.zeros(2, 1, 2, requires_grad=True)
    slopes = {"a": torch.tensor([3.0, 4.0]), "b": torch.tensor([0.0, 100.0])}
    terms = {name: balancer.weights[name] * (at * slope).sum() for name, slope in slopes.items()}
    expected = 2 * (0.25 * torch.tensor([0.6, 0.8]) + 0.75 * torch.tensor([0.0, 1.0]))
    torch.testing.assert_close(gradient(balancer, terms, at), expected.expand(2, 1, 2))


def test_the_norm_is_a_moving_average_of_means_over_samples() -> None:
    """Norms 1 and 3 of two samples: 2. Then 8 and 8: (2 * 0.5 + 8) / 1.5 = 6, so a gradient of 8 becomes 8/6."""
    balancer = Balancer(Balance(decay=0.5), {"a": 5.0})
    at = torch.zeros(2, 1, 1, requires_grad=True)
    first = gradient(balancer, {"a": 5 * (at.flatten() * torch.tensor([1.0, 3.0])).sum()}, at)
    torch.testing.assert_close(first.flatten(), torch.tensor([0.5, 1.5]))
    second = gradient(balancer, {"a": 5 * (at * 8).sum()}, at)
    torch.testing.assert_close(second.flatten(), torch.tensor([8 / 6, 8 / 6]))


def test_losses_of_something_else_stay() -> None:
    balancer = Balancer(Balance(), {"a": 1.0, "of_codes": 4.0, "late": 1.0})
    at, other = torch.ones(1, 1, 2, requires_grad=True), torch.ones(2, requires_grad=True)
    settled = balancer({"a": (at * 7).sum(), "of_codes": 4 * (other * 2).sum()}, at)
    torch.stack(list(settled.values())).sum().backward()
    assert other.grad is not None and other.grad.tolist() == [8, 8]
    assert at.grad is not None and at.grad.norm().item() == pytest.approx(1.0), "the shares are of those that are there"
    alone = {"of_codes": other.sum()}
    assert balancer(alone, at) is alone


def test_a_loss_that_starts_later_is_not_averaged_with_nothing() -> None:
    balancer = Balancer(Balance(decay=0.9), {"a": 1.0, "late": 1.0})
    at = torch.zeros(1, 1, 2, requires_grad=True)
    for _ in range(3):
        gradient(balancer, {"a": at.sum()}, at)
    found = gradient(balancer, {"a": at[..., 0].sum() * 2, "late": at[..., 1].sum() * 50}, at)
    assert found[0, 0, 1].item() == pytest.approx(0.5)


ADVERSARIAL = """
adversarial: {discriminators: [{name: patch, width: 4, layers: 1}], weight: 2.0, feature_matching: 1.0, start: 1}
"""


def run(folder: Path, *options: str, steps: int = 4) -> list[dict[str, float]]:
    recipe = write_recipe(folder, RECIPE + ADVERSARIAL)
    train(Recipe.load(recipe, [f"train.steps={steps}", "train.log_every=1", *options]), folder / "run", cpu=True, resume=True)
    return [json.loads(line) for line in (folder / "run" / "metrics.jsonl").read_text().splitlines()]


def test_a_resumed_run_goes_on_with_the_averages(tmp_path: Path) -> None:
    for name in ("whole", "parts"):
        (tmp_path / name).mkdir()
    whole = run(tmp_path / "whole", "train.balancer={decay: 0.9}")
    run(tmp_path / "parts", "train.balancer={decay: 0.9}", steps=2)
    parts = run(tmp_path / "parts", "train.balancer={decay: 0.9}")
    states = [Tokenizer.from_pretrained(tmp_path / name / "run").state_dict() for name in ("whole", "parts")]
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    norms = [[line["gradient_norm"] for line in lines if "gradient_norm" in line] for lines in (whole, parts)]
    assert norms[0] == norms[1] and len(norms[0]) == 4
    assert {"l1", "generator", "feature_matching", "balanced"} <= whole[2].keys() and whole[2]["balanced"] == 0


def test_scales_of_losses_do_not_matter_and_shares_do(tmp_path: Path) -> None:
    """Both weights ten times as large: the same shares, so the same first step. One of them: another."""
    norms = {}
    for name, l1, generator in (("plain", 1, 2), ("scaled", 10, 20), ("shifted", 1, 20)):
        (tmp_path / name).mkdir()
        options = [f"losses=[{{name: l1, weight: {l1}}}]", f"adversarial.weight={generator}", f"adversarial.feature_matching={generator}"]
        lines = run(tmp_path / name, "train.balancer={}", "adversarial.start=0", *options, steps=1)
        norms[name] = lines[0]["gradient_norm"]
    assert norms["scaled"] == pytest.approx(norms["plain"], rel=1e-4)
    assert norms["shifted"] != pytest.approx(norms["plain"], rel=1e-2)


def test_a_batch_in_parts_weighs_as_much(tmp_path: Path) -> None:
    norms = []
    for parts in (1, 2):
        (tmp_path / str(parts)).mkdir()
        # No codes, no discriminator: the balanced gradient alone, whose averages of the first step differ a little between parts.
        options = ["quantizer={name: fsq, levels: [8, 5, 5]}", "adversarial.start=9", f"train.accumulate={parts}"]
        norms.append(run(tmp_path / str(parts), "train.balancer={}", *options, steps=1)[0]["gradient_norm"])
    assert norms[1] == pytest.approx(norms[0], rel=0.1)


def test_two_ways_of_balancing_are_refused(tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, RECIPE + ADVERSARIAL)
    with pytest.raises(RecipeError, match=r"adversarial.adaptive: train.balancer weighs the losses already"):
        Recipe.load(recipe, ["train.balancer={}", "adversarial.adaptive=true"])
    with pytest.raises(RecipeError, match=r"train.balancer.decay"):
        Recipe.load(recipe, ["train.balancer={decay: 2}"])
