"""The conv pair: its size against LlamaGen's, its layers against plain torch, its options."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import tokkit.networks.layers as layers
from tokkit import registry
from tokkit.errors import InputError
from tokkit.networks.conv import ConvDecoder, ConvEncoder

TINY: dict[str, Any] = {"width": 8, "multipliers": (1, 2, 2), "blocks": 1, "dim": 12, "groups": 4}


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(
    ("multipliers", "encoder_size", "decoder_size"),
    [((1, 1, 2, 2, 4), 29_298_176, 42_449_795), ((1, 2, 2, 4), 28_559_232, 41_415_171)],
    ids=["VQ-16", "VQ-8"],
)
def test_has_as_many_parameters_as_llamagen(multipliers: tuple[int, ...], encoder_size: int, decoder_size: int) -> None:
    """The numbers are those of FoundationVision/LlamaGen ce98ec4, tokenizer/tokenizer_image/vq_model.py, counted with its own code."""
    with torch.device("meta"):
        assert count(ConvEncoder(multipliers=multipliers)) == encoder_size
        assert count(ConvDecoder(multipliers=multipliers)) == decoder_size


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("factor", [1, 2, 3])
def test_depth_to_space_undoes_space_to_depth(rank: int, factor: int) -> None:
    pixels = torch.randn(2, 3, *(factor * cells for cells in (2, 3, 4)[:rank]))
    folded = layers.space_to_depth(pixels, factor)
    assert folded.shape == (2, 3 * factor**rank, *(2, 3, 4)[:rank])
    assert torch.equal(layers.depth_to_space(folded, factor), pixels)


def test_every_axis_may_have_a_factor_of_its_own() -> None:
    video = torch.arange(4 * 2 * 6.0).view(1, 1, 4, 2, 6)
    folded = layers.space_to_depth(video, (2, 1, 3))
    assert folded.shape == (1, 6, 2, 2, 2)
    assert folded[0, :, 1, 0, 1].tolist() == video[0, 0, 2:, 0, 3:].flatten().tolist()
    assert torch.equal(layers.depth_to_space(folded, (2, 1, 3)), video)


def test_space_to_depth_holds_the_pixels_of_torch() -> None:
    pixels = torch.randn(2, 3, 8, 4)
    ours = layers.space_to_depth(pixels, 2).unflatten(1, (4, 3))  # the channel innermost
    theirs = F.pixel_unshuffle(pixels, 2).unflatten(1, (3, 4))  # the channel outermost
    assert torch.equal(ours, theirs.transpose(1, 2))


@pytest.mark.parametrize("patch", [1, 2, 4])
def test_patch_multiplies_the_stride(patch: int) -> None:
    encoder, decoder = ConvEncoder(**TINY, patch=patch), ConvDecoder(**TINY, patch=patch)
    assert encoder.stride == decoder.stride == 4 * patch
    pictures = torch.rand(1, 3, 8 * patch, 4 * patch)
    latents = encoder(pictures)
    assert latents.grid == (2, 1)
    assert decoder(*latents).shape == pictures.shape


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("sizes", [(7,), (5, 3), (2, 3, 4), (1, 1)])
def test_group_norm_by_channel_equals_torchs(sizes: tuple[int, ...], affine: bool) -> None:
    layer = layers.GroupNorm(4, 16, affine=affine)
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter)
    features = 3 * torch.randn(2, 16, *sizes) + 50  # a mean far above the deviation
    torch.testing.assert_close(layer.by_channel(features), layer(features), atol=1e-4, rtol=1e-4)
    assert layer.by_channel(features.bfloat16()).dtype == torch.bfloat16


def test_attention_with_one_head_is_softmax_of_scaled_products() -> None:
    layer = layers.Attention(8, 4)
    features = torch.randn(2, 8, 3, 2)
    tokens = layer.norm(features).flatten(2).transpose(1, 2)
    queries, keys, values = layer.qkv(tokens).chunk(3, -1)
    mixed = torch.softmax(queries @ keys.transpose(1, 2) / 8**0.5, -1) @ values
    expected = features + layer.proj(mixed).transpose(1, 2).reshape(2, 8, 3, 2)
    torch.testing.assert_close(layer(features), expected)


def test_adaptive_norm_scales_by_the_deviation_and_shifts_by_the_mean() -> None:
    layer = layers.AdaptiveNorm(4, 2, 3)
    with torch.no_grad():
        for linear in (layer.scale, layer.shift):
            linear.weight.copy_(torch.eye(4, 3))
            linear.bias.zero_()
    latents = torch.tensor([[[1.0, 0.0, 5.0], [3.0, 0.0, 5.0]]])  # deviation (1, 0, 0), mean (2, 0, 5)
    features = torch.randn(1, 4, 2, 2)
    output = layer(features, latents)
    normed = F.group_norm(features, 2, eps=1e-6)
    torch.testing.assert_close(output[:, 0], normed[:, 0] + 2, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(output[:, 2], torch.full((1, 2, 2), 5.0), atol=1e-2, rtol=0)
    torch.testing.assert_close(output[:, 3], torch.zeros(1, 2, 2))


@pytest.mark.parametrize("upsample", ["nearest", "shuffle"])
@pytest.mark.parametrize("adaptive_norm", [False, True])
def test_every_decoder_option_trains(upsample: Any, adaptive_norm: bool) -> None:
    decoder = ConvDecoder(**TINY, upsample=upsample, adaptive_norm=adaptive_norm)
    pictures = decoder(torch.randn(2, 6, 12), (2, 3))
    assert pictures.shape == (2, 3, 8, 12)
    pictures.square().mean().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in decoder.parameters())


def test_adaptive_norm_decodes_a_single_cell() -> None:
    assert ConvDecoder(**TINY, adaptive_norm=True)(torch.randn(1, 1, 12), (1, 1)).isfinite().all()


def test_without_attention_the_network_is_smaller() -> None:
    assert count(ConvEncoder(**TINY, attention=False)) < count(ConvEncoder(**TINY))


def test_latents_are_a_view_in_channels_last() -> None:
    encoder = ConvEncoder(**TINY).to(memory_format=torch.channels_last)
    values, grid = encoder(torch.rand(2, 3, 8, 12).contiguous(memory_format=torch.channels_last))
    assert values.is_contiguous()
    assert values.transpose(1, 2).unflatten(2, grid).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"groups": 3}, "3 norm groups do not divide"),
        ({"groups": 0}, "0 norm groups do not divide"),
        ({"groups": -2}, "-2 norm groups do not divide"),
        ({"channels": -1}, "channels must be positive"),
        ({"width": 0}, "width must be positive"),
        ({"multipliers": ()}, "multipliers must be positive"),
        ({"multipliers": (1, 0)}, "multipliers must be positive"),
        ({"patch": 0}, "patch must be positive"),
    ],
)
def test_refuses_options_that_cannot_be(options: dict[str, Any], message: str) -> None:
    for kind in ("encoder", "decoder"):
        with pytest.raises(InputError, match=message):
            registry.build(kind, "conv", **TINY | options)


@pytest.mark.parametrize("rank", [1, 2])
def test_without_groups_a_tile_is_coded_as_the_whole(rank: int) -> None:
    """20 pixels beside the border are more than the receptive field of this network."""
    torch.manual_seed(0)
    encoder = ConvEncoder(width=4, multipliers=(1, 1), blocks=1, dim=3, groups=None, attention=False, rank=rank, channels=1)
    size, margin = 88, 20
    whole = torch.rand(1, 1, *[size] * rank)
    with torch.no_grad():
        latents, grid = encoder(whole)
        inner = slice(0, size // 2 + 2 * margin)
        tile, tile_grid = encoder(whole[(..., *[inner] * rank)])
    core = slice(0, size // 4 + margin // 2)
    expected = latents.transpose(1, 2).unflatten(2, grid)[(..., *[core] * rank)]
    found = tile.transpose(1, 2).unflatten(2, tile_grid)[(..., *[core] * rank)]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_position_norm_by_hand() -> None:
    norm = layers.PositionNorm(2)
    with torch.no_grad():
        norm.weight[1] = 10.0
    values = norm(torch.tensor([3.0, 4.0]).view(1, 2, 1, 1)).flatten()
    torch.testing.assert_close(values, torch.tensor([3.0, 40.0]) / 12.5**0.5)
