"""Training pictures vary; what is measured does not."""

from __future__ import annotations

import pytest
import torch

import tokkit
from tokkit.data.base import Source
from tokkit.errors import InputError
from tokkit.recipe import Recipe

NOTHING = {"zoom": 1.0, "colors": 0.0, "light": 0.0, "noisy": 0.0}


def opened(**options: float) -> Source:
    pictures = tokkit.build("data", "synthetic", size=24)
    return tokkit.build("data", "varied_pictures", of=pictures, **options).open(tokkit.build("modality", "image"))


def test_measured_samples_stay_as_they_are() -> None:
    source = opened()
    assert len(source) == len(source.of)
    assert torch.equal(source[1], source.of[1]) and torch.equal(source.sample(2).values, source.of.sample(2).values)


def test_examples_are_a_function_of_the_seed() -> None:
    source = opened(colors=1.0, light=1.0, noisy=1.0)
    examples = [source.draw(0, seed) for seed in range(6)]
    assert all(each.shape == (3, 24, 24) and each.dtype == torch.float32 for each in examples)
    assert all(each.min() >= 0 and each.max() <= 1 and each.is_contiguous() for each in examples)
    assert torch.equal(examples[3], source.draw(0, 3))
    assert not torch.allclose(examples[0], examples[1])


def test_nothing_to_vary_changes_nothing() -> None:
    source = opened(**NOTHING)
    assert torch.equal(source.draw(1, 5), source.of.draw(1, 5))


def test_colors_change_places_or_are_negative() -> None:
    source = opened(**NOTHING | {"colors": 1.0})
    seen = set()
    for seed in range(40):
        means = source.draw(0, seed).mean((1, 2)).sort().values
        plain = source.of.draw(0, seed).mean((1, 2)).sort().values
        seen.add("as it is" if torch.allclose(means, plain) else "negative")
        assert torch.allclose(means, plain) or torch.allclose(means, (1 - plain).sort().values)
    assert seen == {"as it is", "negative"}


def test_light_cuts_off_at_black_and_white() -> None:
    source = opened(**NOTHING | {"light": 1.0, "contrast": 50.0})
    cut = [float(((example == 0) | (example == 1)).float().mean()) for example in (source.draw(0, seed) for seed in range(8))]
    assert max(cut) > 0.9


def test_noise_is_along_one_color() -> None:
    source = opened(**NOTHING | {"noisy": 1.0, "noise": 0.05})
    grey = torch.full((3, 24, 24), 0.5)
    _, vary = source.plan(torch.Generator().manual_seed(3))
    grain = (vary(grey) - 0.5).flatten(1)
    assert torch.linalg.matrix_rank(grain, atol=1e-4) == 1 and 0 < float(grain.std()) < 0.1


def test_other_modalities_are_refused() -> None:
    with pytest.raises(InputError, match="varies pictures"):
        tokkit.build("data", "varied_pictures", of=tokkit.build("data", "tones")).open(tokkit.build("modality", "audio"))


def test_recipe_nests_the_source() -> None:
    recipe = Recipe.load("recipes/image/smoke.yaml", ["data={name: varied_pictures, zoom: 2, of: {name: synthetic, size: 32}}"])
    assert recipe.section("data").build().size == 32
