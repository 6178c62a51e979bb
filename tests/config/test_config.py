"""Recipes that are wrong say everything that is wrong, where it stands."""

from pathlib import Path

import pytest

from tokkit.errors import RecipeError
from tokkit.recipe import Recipe

GOOD = """\
modality: image
data: {name: synthetic, size: 16}
encoder: {name: conv, width: 8, multipliers: [1, 2], blocks: 1, dim: 8, groups: 4}
quantizer: {name: fsq, levels: [8, 5, 5]}
decoder: {name: conv, width: 8, multipliers: [1, 2], blocks: 1, dim: 8, groups: 4}
losses: [{name: l1, weight: 1}]
train: {steps: 10, lr: 1e-4}
"""


def write(tmp_path: Path, text: str, name: str = "r.yaml") -> Path:
    path = tmp_path / name
    path.write_text(text)
    return path


def problems(tmp_path: Path, text: str, *overrides: str) -> list[str]:
    path = write(tmp_path, text)
    with pytest.raises(RecipeError) as raised:
        Recipe.load(path, overrides)
    return [problem.replace(f"{tmp_path}/", "") for problem in raised.value.problems]


def test_a_good_recipe(tmp_path: Path) -> None:
    recipe = Recipe.load(write(tmp_path, GOOD))
    assert recipe.name == "r"
    assert recipe.section("train").lr == 1e-4
    assert recipe.quantizer.options == {"levels": (8, 5, 5)}  # type: ignore[attr-defined]


def test_the_resolved_recipe_loads_as_itself(tmp_path: Path) -> None:
    recipe = Recipe.load(write(tmp_path, GOOD), ["train.ema=0.9"])
    assert Recipe.load(write(tmp_path, recipe.to_yaml(), "again.yaml")) == recipe


def test_every_problem_at_once_in_order_of_place(tmp_path: Path) -> None:
    text = """\
modality: imgae
encoder: {name: conv, chanels: 3}
quantizer:
  name: fsqq
decoder: conv
losses: [{name: l1, weight: heavy}]
train: {lr: 1e-4, steps: "10", batch_size: true}
trian: {}
"""
    found = [problem.partition(", did you mean")[0].partition("; known")[0] for problem in problems(tmp_path, text)]
    assert found == [
        "r.yaml:1:11: modality.name: no modality 'imgae'",
        "r.yaml:2:23: encoder.chanels: unknown field",
        "r.yaml:4:9: quantizer.name: no quantizer 'fsqq'",
        "r.yaml:6:29: losses.0.weight: input should be a valid number, got 'heavy'",
        "r.yaml:7:26: train.steps: input should be a valid integer, got '10'",
        "r.yaml:7:44: train.batch_size: input should be a valid integer, got True",
        "r.yaml:8:1: trian: unknown field",
    ]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (("levels: [8, 5, 5]", "levels: [8, 1, 5]"), "r.yaml:4:12: quantizer: fsq levels must all be >= 2, got [8, 1, 5]"),
        (("levels: [8, 5, 5]", "levels: [8, 5.5]"), "r.yaml:4:36: quantizer.levels.1: input should be a valid integer, got 5.5"),
        (("levels: [8, 5, 5]", "levels: 8"), "r.yaml:4:32: quantizer.levels: input should be a valid list, got 8"),
        (
            ("modality: image", "modality: [image]"),
            "r.yaml:1:11: modality: expected the name of a modality or a mapping with `name`, got a list",
        ),
        (("losses: [{name: l1, weight: 1}]", "losses: {name: l1}"), "r.yaml:6:9: losses: expected a list, got a mapping"),
        (("train: {steps: 10, lr: 1e-4}", "train: 10"), "r.yaml:7:8: train: expected a mapping, got 10"),
        (("steps: 10", "steps: 0"), "r.yaml:7:16: train.steps: input should be greater than or equal to 1, got 0"),
        (("lr: 1e-4", "lr: .nan"), "r.yaml:7:24: train.lr: input should be greater than 0, got nan"),
        (("steps: 10", "steps: 10, batch_size: 5, accumulate: 2"), "r.yaml:7:8: train: accumulate=2 must divide batch_size=5"),
        (
            ("train:", "adversarial: {discriminators: []}\ntrain:"),
            "r.yaml:7:14: adversarial: discriminators: at least one, or no section `adversarial`",
        ),
        (
            ("train:", "adversarial: {discriminators: [patch, mpd]}\ntrain:"),
            "r.yaml:7:39: adversarial.discriminators.1: mpd judges samples of 1 spatial axis, and image has 2",
        ),
        (
            ("train:", "evaluate: {metrics: [psnr, si_sdr]}\ntrain:"),
            "r.yaml:7:28: evaluate.metrics.1: si_sdr judges the modality audio, not image; `tokkit list metric` has more",
        ),
        (("steps: 10, ", ""), "r.yaml:7:8: train.steps: required, missing"),
        (("steps: 10", "steps: 10, steps: 11"), "r.yaml:7:20: train.steps: given twice"),
        (
            ("steps: 10", "steps: 10, precision: bf61"),
            "r.yaml:7:31: train.precision: input should be 'fp32', 'bf16' or 'fp16', got 'bf61', did you mean 'bf16'?",
        ),
    ],
)
def test_one_problem(tmp_path: Path, change: tuple[str, str], expected: str) -> None:
    assert problems(tmp_path, GOOD.replace(*change)) == [expected]


def test_overrides_are_checked_like_the_file(tmp_path: Path) -> None:
    found = problems(tmp_path, GOOD, "train.lr=fast", "quantizer.levls=[3]", "train.steps", "losses.4.weight=2")
    assert found == [
        "command line: train.steps: expected key.sub=value",
        "command line: losses.4.weight: '4' is not an index below 1",
        "command line: quantizer.levls: unknown field, did you mean 'levels'?",
        "command line: train.lr: input should be a valid number, got 'fast'",
    ]


def test_overrides_change_values(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD)
    recipe = Recipe.load(path, ["train.lr=3e-4", "losses.0.weight=2.5", "quantizer.name=lfq", "quantizer.bits=8"])
    assert recipe.section("train").lr == 3e-4
    assert recipe.losses[0].options["weight"] == 2.5  # type: ignore[attr-defined]
    assert recipe.quantizer.to_dict() == {"name": "lfq", "bits": 8}  # type: ignore[attr-defined]


def test_an_override_of_the_recipes_own_name_keeps_the_rest(tmp_path: Path) -> None:
    assert Recipe.load(write(tmp_path, f"name: mine\n{GOOD}"), ["name=other"]).name == "other"


def test_a_base_is_joined_key_by_key_one_level_deep(tmp_path: Path) -> None:
    write(tmp_path, f"name: below\n{GOOD}", "base.yaml")
    recipe = Recipe.load(
        write(tmp_path, "base: base.yaml\nname: above\nquantizer: {name: lfq, bits: 4}\ntrain: {steps: 7}\n", "above.yaml")
    )
    assert recipe.quantizer.options == {"bits": 4}  # type: ignore[attr-defined]
    assert (recipe.name, recipe.section("train").steps, recipe.section("train").lr) == ("above", 7, 1e-4)
    for given, said in (("[above.yaml]", "a list"), ("", "nothing"), ("3", "3")):
        assert problems(tmp_path, f"base: {given}\n")[0].endswith(f"base: expected the path of a recipe, got {said}")
    deeper = write(tmp_path, "base: above.yaml\n", "deeper.yaml")
    with pytest.raises(RecipeError, match="a base cannot have a base itself"):
        Recipe.load(deeper)
    with pytest.raises(RecipeError, match=r"lost.yaml:1:7: base: .*nothing.yaml: cannot read"):
        Recipe.load(write(tmp_path, "base: nothing.yaml\n", "lost.yaml"))


@pytest.mark.parametrize(
    "text", ["", "- a\n", "a: [1\n", "\t\n", "a: &a\n  <<: *a\n", "!!python/object:os.system {}\n", "a: &x [*x]\n", "\x00", "42"]
)
def test_what_is_no_recipe_at_all(tmp_path: Path, text: str) -> None:
    with pytest.raises(RecipeError):
        Recipe.load(write(tmp_path, text))


def test_binary_and_missing_files(tmp_path: Path) -> None:
    (tmp_path / "b.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RecipeError, match="cannot read the recipe"):
        Recipe.load(tmp_path / "b.yaml")
    with pytest.raises(RecipeError, match="cannot read the recipe"):
        Recipe.load(tmp_path)
