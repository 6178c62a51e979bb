"""FSQ against vector-quantize-pytorch's, which has the same bound and digit order."""

from __future__ import annotations

import pytest
import torch
from vector_quantize_pytorch import FSQ as TheirFSQ

from tokkit.errors import InputError
from tokkit.quantizers.fsq import FSQ


@pytest.mark.parametrize("levels", [(8, 5, 5), (8, 8, 8, 5, 5, 5), (3, 4, 7)])
def test_values_codes_and_gradients_are_theirs(levels: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    mine, theirs = FSQ(levels=levels), TheirFSQ(levels=list(levels))
    latents = (torch.randn(3, 40, len(levels)) * 2).requires_grad_()
    other = latents.detach().clone().requires_grad_()
    quantized = mine(latents)
    expected, indices = theirs(other)
    torch.testing.assert_close(quantized.latents, expected)
    assert torch.equal(quantized.codes[..., 0], indices.long())
    upstream = torch.randn_like(expected)
    quantized.latents.backward(upstream)
    expected.backward(upstream)
    torch.testing.assert_close(latents.grad, other.grad)


def test_first_channel_is_least_significant() -> None:
    quantizer = FSQ(levels=(8, 5, 3))
    codes = torch.tensor([[[0], [1], [8], [40]]])
    digits = quantizer.lookup(codes)[0] * torch.tensor([4, 2, 1])
    assert digits.tolist() == [[-4, -2, -1], [-3, -2, -1], [-4, -1, -1], [-4, -2, 0]]


def test_every_code_is_reached() -> None:
    quantizer = FSQ(levels=(8, 5, 2))
    codes = torch.arange(80).view(1, 80, 1)
    values = quantizer.lookup(codes)
    assert len(torch.unique(values[0], dim=0)) == 80
    torch.manual_seed(0)
    assert len(quantizer(torch.randn(1, 20_000, 3) * 3).codes.unique()) == 80


@pytest.mark.parametrize("levels", [(), (8, 1), (1000,) * 7])
def test_bad_levels(levels: tuple[int, ...]) -> None:
    with pytest.raises(InputError):
        FSQ(levels=levels)


def test_groups_are_quantizers_side_by_side() -> None:
    torch.manual_seed(0)
    one, three = FSQ(levels=(8, 5, 4)), FSQ(levels=(8, 5, 4), groups=3)
    assert three.dim == 9 and three.codebook_sizes == (160,) * 3
    latents = torch.randn(2, 7, 9)
    parts = [one(part) for part in latents.chunk(3, -1)]
    whole = three(latents)
    assert torch.equal(whole.codes, torch.cat([part.codes for part in parts], -1))
    assert torch.equal(whole.latents, torch.cat([part.latents for part in parts], -1))
    torch.testing.assert_close(three.lookup(whole.codes), whole.latents)


def test_gain_widens_the_latents_and_reaches_the_outer_levels() -> None:
    torch.manual_seed(0)
    plain, wide = FSQ(levels=(8, 5, 5)), FSQ(levels=(8, 5, 5), gain=2.0)
    latents = (torch.randn(1, 400, 3) * 0.577).requires_grad_()
    assert torch.equal(wide(latents).codes, plain(2 * latents).codes)
    assert torch.equal(wide.lookup(wide(latents).codes), plain.lookup(wide(latents).codes))
    outer = [(quantizer(latents).latents.abs() == 1).float().mean() for quantizer in (plain, wide)]
    assert outer[1] > 2 * outer[0]
