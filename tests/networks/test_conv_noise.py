"""WeTok's generative decoder: noise beside the latents, of a seed in use; and a second stage that starts as the first ended."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import tokkit
from tests.small import CONV, tokenizer, write_recipe
from tokkit.errors import InputError
from tokkit.networks.conv import ConvDecoder
from tokkit.networks.noise import seeded_noise
from tokkit.recipe import Recipe
from tokkit.train import train
from tokkit.train.start import start_from


def noisy(**options: Any) -> ConvDecoder:
    torch.manual_seed(0)
    decoder = ConvDecoder(**CONV, noise=True, **options).eval()
    assert decoder.noise_stem is not None
    torch.nn.init.normal_(decoder.noise_stem.get_parameter("weight"), std=0.1)
    return decoder


def latents(count: int = 3) -> Tensor:
    return torch.randn(count, 15, 8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_the_first_convolution_is_that_of_latents_and_noise_side_by_side(rank: Any) -> None:
    decoder = noisy(rank=rank)
    grid = {1: (15,), 2: (3, 5), 3: (3, 5, 1)}[rank]
    cells = latents().transpose(1, 2).unflatten(2, grid)
    noise = seeded_noise(torch.tensor([0]), (8, *grid)).expand_as(cells)
    convolve = (F.conv1d, F.conv2d, F.conv3d)[rank - 1]
    joined = torch.cat([decoder.stem.weight, decoder.noise_stem.weight], 1)  # type: ignore[union-attr, list-item]
    expected = convolve(torch.cat([cells, noise], 1), joined, decoder.stem.bias, padding=1)  # type: ignore[arg-type]
    seen: list[Tensor] = []
    decoder.middle.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    decoder(latents(), grid)
    torch.testing.assert_close(seen[0], expected, atol=1e-5, rtol=1e-5)


def test_a_fresh_one_decodes_as_without_noise() -> None:
    plain, fresh = ConvDecoder(**CONV).eval(), ConvDecoder(**CONV, noise=True).eval()
    missing = fresh.load_state_dict(plain.state_dict(), strict=False)
    assert missing.missing_keys == ["noise_stem.weight"] and not missing.unexpected_keys
    assert torch.equal(fresh(latents(), (3, 5)), plain(latents(), (3, 5)))


def test_a_seed_decides_in_use_and_chance_in_training() -> None:
    decoder = noisy()
    first = decoder(latents(), (3, 5))
    assert torch.equal(decoder(latents(), (3, 5)), first)
    torch.testing.assert_close(decoder(latents()[1:2], (3, 5)), first[1:2], atol=1e-5, rtol=1e-5)
    decoder.seed = 1
    assert not torch.allclose(decoder(latents(), (3, 5)), first, atol=1e-3)
    decoder.train()
    assert not torch.allclose(decoder(latents(), (3, 5)), decoder(latents(), (3, 5)), atol=1e-3)


def test_a_gradient_reaches_the_zero_weights() -> None:
    decoder = ConvDecoder(**CONV, noise=True)
    decoder(latents(), (3, 5)).square().mean().backward()
    assert decoder.noise_stem is not None
    gradient = decoder.noise_stem.get_parameter("weight").grad
    assert gradient is not None and gradient.any()


def test_a_second_stage_starts_from_the_first(tmp_path: Path) -> None:
    first = tokenizer()
    first.save(tmp_path / "first")
    second = tokkit.Tokenizer(
        modality="image",
        encoder=tokkit.build("encoder", "conv", **CONV),
        quantizer=tokkit.build("quantizer", "fsq", levels=(8, 5, 5)),
        decoder=tokkit.build("decoder", "conv", **CONV, noise=True),
    ).eval()
    start_from(second, tmp_path / "first")
    pictures = torch.rand(2, 3, 8, 8)
    assert torch.equal(second(pictures).reconstruction, first(pictures).reconstruction)


def test_another_network_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"model\.safetensors is missing"):
        start_from(tokenizer(), tmp_path)
    tokenizer().save(tmp_path)
    with pytest.raises(InputError, match=r"only one of the two has .*codebook"):
        start_from(tokenizer(tokkit.build("quantizer", "vq", dim=3, codebook_size=16)), tmp_path)
    with pytest.raises(InputError, match="do not fit this recipe"):
        start_from(tokenizer(tokkit.build("quantizer", "fsq", levels=(8, 5))), tmp_path)


def test_training_takes_init_from(tmp_path: Path) -> None:
    path, changes = write_recipe(tmp_path), ["quantizer={name: fsq, levels: [8, 5, 5]}", "train.steps=1"]
    first = train(Recipe.load(path, changes), tmp_path / "first", cpu=True)
    second = Recipe.load(path, [*changes, "decoder.noise=true", f"train.init_from={first}", "train.lr=1e-9"])
    ran = tokkit.Tokenizer.from_pretrained(train(second, tmp_path / "second", cpu=True))
    pictures = torch.rand(1, 3, 16, 16)
    expected = tokkit.Tokenizer.from_pretrained(first)(pictures).reconstruction
    torch.testing.assert_close(ran(pictures).reconstruction, expected, atol=1e-3, rtol=1e-3)
