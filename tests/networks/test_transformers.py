"""The transformer networks: positions, masks, the order of causal registers, sizes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from timm.layers import apply_rot_embed_cat
from timm.models.eva import EvaBlock

from tokkit import registry
from tokkit.errors import InputError
from tokkit.networks.transformer import SIZES, Shape, Transformer, attention_dtype, register_mask, resolve_shape, rotary
from tokkit.networks.vit import ViTDecoder, ViTEncoder
from tokkit.networks.vit1d import ViT1DDecoder, ViT1DEncoder

TINY: dict[str, Any] = {"patch": 4, "width": 16, "depth": 2, "heads": 2}


@pytest.mark.parametrize("grid", [(7,), (3, 5), (2, 3, 4)])
def test_rotary_products_depend_on_the_offset_only(grid: tuple[int, ...]) -> None:
    head = 16
    table = rotary(grid, 0, head, torch.device("cpu")).view(*grid, 2 * head)
    query, key = torch.randn(2, head, generator=torch.Generator().manual_seed(0)).unbind()

    def product(*cells: tuple[int, ...]) -> torch.Tensor:
        turned = [apply_rot_embed_cat(vector, table[cell], half=True) for vector, cell in zip((query, key), cells, strict=True)]
        return turned[0] @ turned[1]

    origin, step = (0,) * len(grid), (1,) * len(grid)
    last = tuple(size - 1 for size in grid)
    before_last = tuple(size - 2 for size in grid)
    torch.testing.assert_close(product(origin, step), product(before_last, last), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(product(origin, origin), query @ key)
    assert not torch.isclose(product(origin, last), query @ key)


def test_rotary_leaves_the_prefix_and_spare_channels_alone() -> None:
    head = 10  # 5 pairs: 2 for each axis, 1 spare
    sines, cosines = rotary((2, 3), 4, head, torch.device("cpu")).chunk(2, -1)
    assert sines.shape == (10, head)
    assert not sines[:4].any() and (cosines[:4] == 1).all()
    assert not sines[:, 4].any() and not sines[:, 9].any()
    assert sines[-1, :4].all()


def test_register_mask_by_hand() -> None:
    expected = [
        [1, 0, 1, 1],  # register 0: itself and the patches
        [1, 1, 1, 1],  # register 1: register 0 too
        [0, 0, 1, 1],  # patches: patches
        [0, 0, 1, 1],
    ]
    assert register_mask(2, 2, torch.device("cpu")).int().tolist() == expected


def latents_after_changing_register(causal: bool, index: int) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    encoder = ViT1DEncoder(**TINY, num_tokens=6, causal=causal).eval()
    pictures = torch.rand(2, 3, 8, 12)
    before = encoder(pictures).values
    with torch.no_grad():
        encoder.registers[index] += torch.randn(16)
    return before, encoder(pictures).values


@pytest.mark.parametrize("index", [1, 3, 5])
def test_causal_registers_do_not_look_ahead(index: int) -> None:
    before, after = latents_after_changing_register(True, index)
    torch.testing.assert_close(after[:, :index], before[:, :index], atol=1e-6, rtol=1e-6)
    assert (after[:, index:] - before[:, index:]).abs().amax((0, 2)).min() > 1e-4


def test_free_registers_look_at_each_other() -> None:
    before, after = latents_after_changing_register(False, 5)
    assert (after - before).abs().amax((0, 2)).min() > 1e-6


def test_vit1d_has_the_same_number_of_latents_at_any_size() -> None:
    encoder, decoder = ViT1DEncoder(**TINY, num_tokens=6), ViT1DDecoder(**TINY, num_tokens=6)
    for height, width in ((4, 4), (12, 20), (32, 8)):
        latents = encoder(torch.rand(1, 3, height, width))
        assert latents.values.shape == (1, 6, 16)
        assert latents.grid == (height // 4, width // 4)
        assert decoder(*latents).shape == (1, 3, height, width)


def test_vit1d_decodes_fewer_latents_and_refuses_more() -> None:
    decoder = ViT1DDecoder(**TINY, num_tokens=6)
    assert decoder(torch.randn(1, 2, 16), (2, 3)).shape == (1, 3, 8, 12)
    with pytest.raises(InputError, match="at most num_tokens=6"):
        decoder(torch.randn(1, 7, 16), (2, 3))


def test_the_order_of_latents_matters_to_the_vit1d_decoder() -> None:
    decoder = ViT1DDecoder(**TINY, num_tokens=3)
    latents = torch.randn(1, 3, 16)
    assert not torch.allclose(decoder(latents, (2, 2)), decoder(latents.flip(1), (2, 2)), atol=1e-5)


def test_vit_sees_where_a_patch_is() -> None:
    encoder = ViTEncoder(**TINY)
    torch.nn.init.normal_(encoder.patchify.embed.weight)
    pictures = torch.rand(1, 3, 8, 8)
    mirrored = encoder(swap_patches(pictures)).values
    assert not torch.allclose(mirrored[:, [3, 1, 2, 0]], encoder(pictures).values, atol=1e-6)


def swap_patches(pictures: torch.Tensor) -> torch.Tensor:
    """The first and the last of 2x2 patches of 4 pixels exchanged."""
    swapped = pictures.clone()
    swapped[..., :4, :4], swapped[..., 4:, 4:] = pictures[..., 4:, 4:], pictures[..., :4, :4]
    return swapped


def test_vit_decoder_without_smoothing_ends_in_the_linear_map() -> None:
    decoder = ViTDecoder(**TINY, smooth=False)
    assert decoder.last_layer is decoder.unpatchify.project.weight
    assert decoder(torch.randn(1, 6, 16), (2, 3)).shape == (1, 3, 8, 12)


def test_vit_decoder_refuses_latents_that_do_not_fill_the_grid() -> None:
    with pytest.raises(InputError, match="5 latents do not fill the grid"):
        ViTDecoder(**TINY)(torch.randn(1, 5, 16), (2, 3))


@pytest.mark.parametrize(
    ("size", "parts", "expected"),
    [("small", {}, (512, 8, 8)), ("base", {}, (768, 12, 12)), ("large", {}, (1024, 24, 16)), ("d18", {"depth": 3}, (1152, 3, 18))],
)
def test_sizes_are_titoks_and_flextoks(size: Any, parts: dict[str, int], expected: tuple[int, int, int]) -> None:
    assert tuple(resolve_shape(size, **{"width": None, "depth": None, "heads": None} | parts)) == expected


def test_every_size_gives_heads_of_64() -> None:
    assert {shape.width // shape.heads for shape in SIZES.values()} == {64}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"heads": 3}, "no even number of channels"),
        ({"depth": 0}, "must be positive"),
        ({"num_tokens": 0}, "num_tokens must be positive"),
        ({"patch": 0}, "channels and patch must be positive, got 3 and"),
        ({"patch": -2}, "channels and patch must be positive, got 3 and"),
        ({"channels": -1}, "channels and patch must be positive, got -1 and"),
    ],
)
def test_refuses_options_that_cannot_be(options: dict[str, Any], message: str) -> None:
    for kind in ("encoder", "decoder"):
        with pytest.raises(InputError, match=message):
            registry.build(kind, "vit1d", **TINY | options)


def test_attention_turns_in_the_dtype_of_its_queries() -> None:
    tokens = torch.zeros(1, 2, 8)
    assert attention_dtype(tokens) == torch.float32 and attention_dtype(tokens.bfloat16()) == torch.bfloat16
    with torch.autocast("cpu", torch.bfloat16):
        assert attention_dtype(tokens) == torch.bfloat16


@pytest.mark.parametrize("width", [64, 512])
def test_fresh_maps_keep_the_size_at_any_width(width: int) -> None:
    torch.manual_seed(0)
    block = Transformer(Shape(width, 1, 2)).blocks[0]
    assert isinstance(block, EvaBlock)
    tokens = torch.randn(4, 32, width)
    for layer in (block.mlp.fc1, block.attn.proj):
        assert isinstance(layer, torch.nn.Linear)
        assert 0.9 < float(layer(tokens[..., : layer.in_features]).std().detach()) < 1.1
