"""Every recipe of the project loads; those that need no download and no files train."""

from pathlib import Path

import pytest

from tokkit.prior import PriorRecipe
from tokkit.recipe import Recipe
from tokkit.train import train

ROOT = Path(__file__).parents[1]
PRIORS = sorted((ROOT / "recipes" / "prior").glob("*.yaml"))
RECIPES = sorted({*(ROOT / "recipes").rglob("*.yaml"), *(ROOT / "benchmarks" / "training").rglob("*.yaml")} - {*PRIORS})
SMOKE = [path for path in RECIPES if path.stem == "smoke"]


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: str(path.relative_to(ROOT)))
def test_recipe_loads_and_says_how_to_run_it(path: Path) -> None:
    Recipe.load(path)
    check_header(path)


@pytest.mark.parametrize("path", PRIORS, ids=lambda path: str(path.relative_to(ROOT)))
def test_recipe_of_a_prior_loads_and_says_how_to_run_it(path: Path) -> None:
    PriorRecipe.load(path)
    check_header(path)


def check_header(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert lines[0].startswith("# ")
    assert any(line.startswith("#   tokkit ") for line in lines[:4]), "the header shows the command"


@pytest.mark.parametrize("path", SMOKE, ids=lambda path: str(path.relative_to(ROOT)))
def test_smoke_recipe_takes_two_steps(path: Path, tmp_path: Path) -> None:
    train(Recipe.load(path, ["train.steps=2", "train.batch_size=2"]), tmp_path, cpu=True)
    assert (tmp_path / "model.safetensors").exists()
