"""Training examples vary; what is measured does not."""

from __future__ import annotations

import pytest
import torch

import tokkit
from tokkit.data.base import Source
from tokkit.errors import InputError
from tokkit.recipe import Recipe

SOUND = tokkit.build("modality", "audio", sample_rate=16000)


def opened(**options: float) -> Source:
    tones = tokkit.build("data", "tones", count=3, seconds=0.5, size=4000, flip=True)
    return tokkit.build("data", "varied_sound", of=tones, **options).open(SOUND)


def test_measured_samples_stay_as_they_are() -> None:
    source = opened()
    assert len(source) == 3
    assert torch.equal(source[1], source.of[1]) and torch.equal(source.sample(2).values, source.of.sample(2).values)


def test_examples_are_a_function_of_the_seed() -> None:
    source = opened()
    examples = [source.draw(0, seed) for seed in range(6)]
    assert all(each.shape == (1, 4000) and each.dtype == torch.float32 and each.abs().max() <= 1 for each in examples)
    assert torch.equal(examples[3], source.draw(0, 3))
    assert not torch.allclose(examples[0], examples[1])


def test_nothing_to_vary_changes_nothing() -> None:
    source = opened(speed=0.0, gain=0.0, equalizer=0.0)
    assert torch.allclose(source.draw(1, 5), source.of.draw(1, 5), atol=1e-6)


def test_speed_moves_the_pitch() -> None:
    source = opened(speed=0.5, gain=0.0, equalizer=0.0)
    tone = torch.sin(2 * torch.pi * 1000 * torch.arange(6000) / 16000)[None]
    faster = source._varied(tone, 30, torch.Generator())
    assert faster.shape == (1, 4000)
    assert abs(int(torch.fft.rfft(faster).abs().argmax()) * 16000 / 4000 - 1500) <= 4


def test_equalizer_stays_within_its_decibels() -> None:
    source = opened(speed=0.0, gain=0.0, equalizer=6.0)
    click = torch.zeros(1, 4000)
    click[0, 2000] = 0.1
    gains = 20 * torch.fft.rfft(source._varied(click, 20, torch.Generator().manual_seed(1)))[0].abs().div(0.1).log10()
    assert gains.abs().max() <= 6.01 and gains.max() - gains.min() > 2


def test_volume_keeps_the_peak_within_one() -> None:
    source = opened(speed=0.0, gain=20.0, equalizer=0.0)
    loud = torch.full((1, 4000), 0.9)
    peaks = [float(source._varied(loud, 20, torch.Generator().manual_seed(seed)).abs().max()) for seed in range(8)]
    assert max(peaks) <= 1.0001 and min(peaks) < 0.5


def test_pictures_are_refused() -> None:
    with pytest.raises(InputError, match="varies sound"):
        tokkit.build("data", "varied_sound", of=tokkit.build("data", "synthetic")).open(tokkit.build("modality", "image"))


def test_recipe_nests_the_source() -> None:
    recipe = Recipe.load("recipes/audio/smoke.yaml", ["data={name: varied_sound, speed: 0.1, of: {name: tones, size: 4000}}"])
    source = recipe.section("data").build()
    assert source.size == 4000 and source.of.size == 4000
