"""Losses that learn: they see the latents of the tokenizer, their weights are trained with it, and a resumed run goes on exactly."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from tests.small import RECIPE, write_recipe
from tokkit.output import TokenizerOutput
from tokkit.recipe import Recipe
from tokkit.train import checkpoint, train
from tokkit.train.loop import Run

LOSSES = """\
losses:
  - {name: l1}
  - {name: align, teacher: test_vit, weights: random, size: 32}
  - {name: relation, teacher: test_vit, weights: random, size: 32}
  - {name: self_distill, prototypes: 16, hidden: 8}
"""


def recipe(folder: Path, text: str = RECIPE, *options: str) -> Recipe:
    return Recipe.load(write_recipe(folder, text.replace("losses: [{name: l1}]\n", LOSSES)), options)


def test_their_weights_are_trained_and_kept_without_teachers(tmp_path: Path) -> None:
    run = Run(recipe(tmp_path, RECIPE, "train.steps=2"), tmp_path / "run", cpu=True)
    before = {name: value.clone() for name, value in run.judges.state_dict().items()}
    assert {name.split(".")[1] for name in before} == {"project", "head", "teacher", "teacher_head", "centre"}
    assert not any(name.startswith(("1.teacher", "2.")) for name in before)
    run.go()
    changed = {name for name, value in run.judges.state_dict().items() if not torch.equal(value, before[name])}
    assert {"1.project.weight", "3.head.prototypes", "3.teacher_head.prototypes", "3.centre"} <= changed
    assert any(name.startswith("3.teacher.") for name in changed)
    state = checkpoint.load(tmp_path / "run", torch.device("cpu"))
    assert state is not None and state["losses"].keys() == before.keys()
    line = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[0])
    assert all(line[name] > 0 for name in ("align", "self_distill")) and line["relation"] >= 0


def test_a_resumed_run_takes_the_same_steps(tmp_path: Path) -> None:
    options = ("train.steps=4", "train.log_every=1")
    whole = train(recipe(tmp_path, RECIPE, *options), tmp_path / "whole", cpu=True)
    train(recipe(tmp_path, RECIPE, "train.steps=2", "train.log_every=1"), tmp_path / "parts", cpu=True)
    parts = train(recipe(tmp_path, RECIPE, *options), tmp_path / "parts", resume=True, cpu=True)
    lines = [(folder / "metrics.jsonl").read_text().splitlines() for folder in (whole, parts)]
    values = [{json.loads(line)["step"]: json.loads(line).get("self_distill") for line in each if "self_distill" in line} for each in lines]
    assert values[0] == values[1] and set(values[0]) == {1, 2, 3, 4}
    weights = [load_file(folder / "model.safetensors") for folder in (whole, parts)]
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())


def test_captions_reach_the_losses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str] | None] = []
    data = tmp_path / "pictures"
    data.mkdir()
    for index in range(3):
        Image.new("RGB", (16, 16), (80 * index,) * 3).save(data / f"{index}.png")
        (data / f"{index}.txt").write_text(f"grey {index}")
    text = RECIPE.replace("{name: synthetic, size: 16, count: 24}", f"{{name: folder, path: {data}, size: 16, captions: true}}")
    run = Run(Recipe.load(write_recipe(tmp_path, text), ["train.steps=2", "train.accumulate=2"]), tmp_path / "run", cpu=True)
    terms = run.judges.terms

    def spy(target: torch.Tensor, fake: torch.Tensor, output: TokenizerOutput) -> dict[str, torch.Tensor]:
        levels = [round(255 * (value.mean().item() + 1) / 2 / 80) for value in target]
        assert [f"grey {level}" for level in levels] == output.captions
        seen.append(output.captions)
        return terms(target, fake, output)

    monkeypatch.setattr(run.judges, "terms", spy)
    run.go()
    assert [len(captions or []) for captions in seen] == [2, 2, 2, 2]
