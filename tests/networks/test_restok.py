"""ResTok's levels: the pyramid of residuals by hand, merging, who may look at whom, and leading levels."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tokkit.errors import InputError
from tokkit.networks.restok import ResTokDecoder, ResTokEncoder, level_shape, level_sizes, merge, residual_pyramid

TINY: dict[str, Any] = {"patch": 4, "width": 16, "heads": 2, "dim": 6, "num_tokens": 8}


def test_levels_of_the_paper() -> None:
    assert level_sizes(128) == [1, 1, 2, 4, 8, 16, 32, 64]
    assert [level_shape(size, 2) for size in level_sizes(128)] == [(1, 1), (1, 1), (1, 2), (2, 2), (2, 4), (4, 4), (4, 8), (8, 8)]
    assert [level_shape(size, 1) for size in (1, 2, 8)] == [(1,), (2,), (8,)]
    assert level_sizes(1) == [1]
    with pytest.raises(InputError, match="must be a power of two, got 6"):
        level_sizes(6)


def test_the_pyramid_by_hand() -> None:
    """One row of four cells: the mean, nothing, the means of both halves' rest, what is left of each."""
    found = residual_pyramid(torch.tensor([[[1.0, 3.0, 5.0, 11.0]]]), 8)[0, :, 0]
    assert found.tolist() == [5.0, 0.0, -3.0, 3.0, -1.0, 1.0, -3.0, 3.0]


def test_the_levels_add_up_to_the_picture_where_the_last_is_as_fine() -> None:
    features = torch.randn(2, 3, 2, 4)
    levels = residual_pyramid(features, 16).transpose(1, 2).split(level_sizes(16), 2)
    total = torch.zeros_like(features)
    for level, size in zip(levels, level_sizes(16), strict=True):
        total += torch.nn.functional.interpolate(level.unflatten(2, level_shape(size, 2)), (2, 4), mode="nearest")
    torch.testing.assert_close(total, features)


@pytest.mark.parametrize("count", [1, 2, 5, 8])
def test_merging_loses_nothing(count: int) -> None:
    tokens = torch.arange(float(count)).view(1, count, 1) ** 2
    merged, left = merge(tokens)
    assert merged.flatten().tolist() == [float(index) ** 2 for index in range(0, count, 2)]
    assert not left[:, ::2].any()
    assert torch.equal(left + merged.repeat_interleave(2, 1)[:, :count], tokens)


def encoder(**options: Any) -> ResTokEncoder:
    torch.manual_seed(0)
    return ResTokEncoder(**TINY | {"depth": 4, "merges": 3} | options).eval()


def test_merges_stand_at_equal_distances() -> None:
    assert ResTokEncoder(**TINY | {"num_tokens": 2}, depth=24, merges=3).merge_after == {5, 11, 17}
    assert encoder(merges=0).merge_after == set()
    with pytest.raises(InputError, match="merges 0 to 3, got 6 and 4"):
        encoder(merges=4)


@pytest.mark.parametrize("level", [1, 2, 3])
def test_a_level_does_not_look_at_those_behind_it(level: int) -> None:
    model = encoder()
    pictures = torch.rand(2, 3, 12, 16)
    before = model(pictures).values
    start = sum(level_sizes(8)[:level])
    with torch.no_grad():
        model.embeddings[start] += torch.randn(16)
    after = model(pictures).values
    torch.testing.assert_close(after[:, :start], before[:, :start], atol=1e-6, rtol=1e-6)
    assert (after[:, start:] - before[:, start:]).abs().amax((0, 2)).min() > 1e-5


def test_patches_see_coarser_ones_only_and_no_latents() -> None:
    """The masks of the four blocks, of 8 latents and 12 patches that become 6, 3 and 2."""
    model = encoder()
    masks: list[torch.Tensor] = []
    for block in model.transformer.blocks:
        block.attn.register_forward_pre_hook(lambda module, inputs, options: masks.append(options["attn_mask"]), with_kwargs=True)
    model(torch.rand(1, 3, 12, 16))
    assert [len(mask) for mask in masks] == [20, 26, 29, 31]
    last = masks[-1]
    names = [0] * 8 + [1] * 12 + [2] * 6 + [3] * 3 + [4] * 2
    for row, column in ((1, 0), (2, 1), (3, 2), (4, 3)):
        rows, columns = (torch.tensor([name == index for name in names]) for index in (row, column))
        assert not last[rows][:, columns].any()
        assert last[columns][:, rows].all()
    assert last[8:20, 8:20].all() and last[29:, 29:].all()


def test_every_level_has_a_map_of_its_own_and_any_prefix_decodes() -> None:
    torch.manual_seed(0)
    decoder = ResTokDecoder(**TINY, depth=1).eval()
    latents = torch.randn(1, 8, 6)
    mapped = decoder.inputs(latents)
    for token, level in ((0, 0), (1, 1), (3, 2), (7, 3)):
        torch.testing.assert_close(mapped[:, token], decoder.inputs.maps[level](latents[:, token]))
    for count in (1, 2, 3, 8):
        assert decoder(latents[:, :count], (2, 3)).shape == (1, 3, 8, 12)
    with pytest.raises(InputError, match="at most num_tokens=8"):
        decoder(torch.randn(1, 9, 6), (2, 3))
    with pytest.raises(InputError, match="dim must be positive"):
        ResTokDecoder(**TINY | {"dim": 0})
