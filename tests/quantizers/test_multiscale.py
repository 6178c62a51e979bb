"""Multi-scale residual quantization: sizes, the residual loop, which phi serves which scale."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from tokkit.errors import InputError
from tokkit.quantizers.fsq import FSQ
from tokkit.quantizers.lfq import LFQ
from tokkit.quantizers.multiscale import MultiScale, _nearest_tick
from tokkit.quantizers.nested import Nested
from tokkit.quantizers.rvq import RVQ
from tokkit.quantizers.vq import VQ

VAR_SCALES = (1, 2, 3, 4, 5, 6, 8, 10, 13, 16)


def test_vars_token_counts() -> None:
    quantizer = MultiScale(quantizer=VQ(dim=4, codebook_size=4096))
    assert quantizer.num_codes(256, (16, 16)) == 680
    assert quantizer.prefix_lengths(256, (16, 16)) == (1, 5, 14, 30, 55, 91, 155, 255, 424, 680)
    assert quantizer.prefix_lengths(1024, (32, 32))[0] == 4, "a larger picture has more tokens at every scale"
    assert quantizer._sizes((16, 8))[:3] == [(1, 1), (2, 1), (3, 2)]


def test_phi_of_each_scale_is_vars() -> None:
    ticks = np.linspace(1 / 3 / 4, 1 - 1 / 3 / 4, 4)
    expected = [int(np.argmin(np.abs(ticks - index / 9))) for index in range(10)]
    assert [_nearest_tick(index / 9, 4) for index in range(10)] == expected
    assert MultiScale(quantizer=FSQ(levels=(5, 5)), scales=VAR_SCALES).phi_of_scale == tuple(expected)


def test_the_residual_loop_on_a_grid() -> None:
    """As VAR's code has it: area down, nearest code, bicubic up, blend, add, take away."""
    torch.manual_seed(0)
    quantizer = MultiScale(quantizer=VQ(dim=4, codebook_size=32, kmeans_init=False), scales=(1, 2, 4), phi=2).eval()
    latents = torch.randn(2, 16, 4)
    weight = quantizer.quantizer.codebook.weight
    features = latents.transpose(1, 2).reshape(2, 4, 4, 4)
    rest, total, codes = features.clone(), torch.zeros_like(features), []
    for index, side in enumerate((1, 2, 4)):
        small = functional.interpolate(rest, (side, side), mode="area") if side != 4 else rest
        found = torch.cdist(small.permute(0, 2, 3, 1).reshape(-1, 4), weight).argmin(-1).view(2, side * side)
        codes.append(found)
        full = weight[found].transpose(1, 2).reshape(2, 4, side, side)
        full = functional.interpolate(full, (4, 4), mode="bicubic") if side != 4 else full
        full = 0.5 * full + 0.5 * quantizer.phi[quantizer.phi_of_scale[index]](full)
        total, rest = total + full, rest - full
    quantized = quantizer(latents, (4, 4))
    assert torch.equal(quantized.codes[..., 0], torch.cat(codes, 1))
    torch.testing.assert_close(quantized.latents, total.flatten(2).transpose(1, 2))


def test_loss_by_hand_without_codes_to_learn() -> None:
    torch.manual_seed(0)
    quantizer = MultiScale(quantizer=LFQ(bits=4, entropy_weight=0.0), scales=(1, 2), phi=0, commitment=0.25).train()
    latents = torch.randn(1, 4, 4)
    quantized = quantizer(latents, (2, 2))
    coarse = latents.mean(1, keepdim=True).sign().expand(1, 4, 4)
    fine = (latents - coarse).sign()
    inner = [(latents.mean(1, keepdim=True) - coarse[:, :1]).square().mean(), (latents - coarse - fine).square().mean()]
    errors = [(coarse - latents).square().mean(), (coarse + fine - latents).square().mean()]
    torch.testing.assert_close(quantized.terms["scale_error"], sum(errors) / 2)
    torch.testing.assert_close(quantized.terms["commitment"], sum(inner) / 2)
    torch.testing.assert_close(quantized.loss, (1.25 * sum(errors) + 0.25 * sum(inner)) / 2)
    torch.testing.assert_close(quantized.latents, coarse + fine)


def test_decoder_gradient_passes_through_once() -> None:
    quantizer = MultiScale(quantizer=FSQ(levels=(8, 5, 5)), scales=(1, 2, 4), phi=2).train()
    latents = torch.randn(2, 16, 3, requires_grad=True)
    upstream = torch.randn(2, 16, 3)
    quantizer(latents, (4, 4)).latents.backward(upstream)
    torch.testing.assert_close(latents.grad, upstream)


@pytest.mark.parametrize("learning", ["ema", "gradient"])
@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_trains_around_a_codebook(learning: str, metric: str) -> None:
    """The codebook is used several times in one step and written to in between; further scales help."""
    torch.manual_seed(0)

    def latents() -> torch.Tensor:
        """Pictures with a mean of their own, and noise around it."""
        return torch.randn(8, 1, 4) + 0.5 * torch.randn(8, 16, 4)

    inner = VQ(dim=4, codebook_size=16, code_dim=3, metric=metric, learning=learning, decay=0.9)
    quantizer = MultiScale(quantizer=inner, scales=(1, 2, 4), phi=2).train()
    optimizer = torch.optim.Adam(quantizer.parameters(), lr=2e-2)
    for _ in range(120):
        quantized = quantizer(latents(), (4, 4))
        optimizer.zero_grad()
        quantized.loss.backward()
        optimizer.step()
    quantizer.eval()
    given = latents()
    codes = quantizer(given, (4, 4)).codes
    errors = [(quantizer.lookup(codes[:, :length], (4, 4)) - given).square().mean().item() for length in (1, 5, 21)]
    assert errors == sorted(errors, reverse=True) and errors[-1] < 0.75 * errors[0]


def test_the_codebook_starts_on_all_latents_not_on_the_first_scale() -> None:
    torch.manual_seed(0)
    quantizer = MultiScale(quantizer=VQ(dim=2, codebook_size=8), scales=(1, 4), phi=0).train()
    quantizer(torch.randn(2, 16, 2), (4, 4))
    assert len(torch.unique(quantizer.quantizer.codebook.weight, dim=0)) == 8


@pytest.mark.parametrize("upsample", ["smooth", "repeat"])
@pytest.mark.parametrize("length", [8, 7, 3])
def test_along_time(upsample: str, length: int) -> None:
    quantizer = MultiScale(quantizer=FSQ(levels=(8, 5)), scales=(1, 2, 4), rank=1, phi=0, upsample=upsample).eval()
    latents = torch.randn(2, length, 2)
    quantized = quantizer(latents, (length,))
    assert torch.equal(quantizer.lookup(quantized.codes, (length,)), quantized.latents)
    for prefix in quantizer.prefix_lengths(length, (length,)):
        assert quantizer.lookup(quantized.codes[:, :prefix], (length,)).shape == latents.shape


def test_repeat_holds_a_coarse_code_over_its_span() -> None:
    quantizer = MultiScale(quantizer=FSQ(levels=(8, 5)), scales=(1, 2), rank=1, phi=0, upsample="repeat").eval()
    codes = quantizer(torch.randn(1, 6, 2), (6,)).codes
    coarse = quantizer.lookup(codes[:, :3], (6,))
    assert torch.equal(coarse[:, 0], coarse[:, 1]) and torch.equal(coarse[:, 4], coarse[:, 5])


def test_sets_of_tokens_and_volumes() -> None:
    vat = MultiScale(quantizer=FSQ(levels=(8, 5)), scales=(1, 4, 16), rank=1, num_latents=16).eval()
    latents = torch.randn(2, 16, 2)
    for grid in ((), None, (8, 8)):
        assert vat(latents, grid).codes.shape == (2, 21, 1)
    video = MultiScale(quantizer=RVQ(dim=4, levels=2, codebook_size=8), scales=(1, 2), rank=3).eval()
    assert video(torch.randn(1, 24, 4), (2, 3, 4)).codes.shape == (1, 1 * 2 * 2 + 24, 2)


def test_wrong_grids_and_lengths() -> None:
    quantizer = MultiScale(quantizer=FSQ(levels=(8, 5)), scales=(1, 2, 4))
    for grid in (None, (), (16,), (4, 5), (0, 4)):
        with pytest.raises(InputError, match="multiscale"):
            quantizer(torch.randn(1, 16, 2), grid)
    with pytest.raises(InputError, match=r"\[1, 5, 21\]"):
        quantizer.lookup(torch.zeros(1, 6, 1, dtype=torch.int64), (4, 4))
    with pytest.raises(InputError, match="num_latents"):
        MultiScale(quantizer=FSQ(levels=(8, 5)), rank=1)(torch.randn(1, 16, 2), (4, 4))


@pytest.mark.parametrize("options", [{"scales": ()}, {"scales": (2, 1)}, {"scales": (0, 1)}, {"num_latents": 4}])
def test_options_that_cannot_be(options: dict[str, object]) -> None:
    with pytest.raises(InputError, match="multiscale"):
        MultiScale(quantizer=FSQ(levels=(8, 5)), **options)
    with pytest.raises(InputError, match="variable length"):
        MultiScale(quantizer=Nested(quantizer=FSQ(levels=(8, 5)), num_tokens=16))
