"""LFQ, binary and BSQ: bits, packing, and entropies against the explicit softmax over all codes."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from tokkit.errors import InputError
from tokkit.ops.bitpack.codec import pack_bits_numpy, unpack_bits_numpy
from tokkit.quantizers.binary import Binary
from tokkit.quantizers.bits import group_sizes, pack_bits, unpack_bits
from tokkit.quantizers.bsq import BSQ
from tokkit.quantizers.lfq import LFQ


def softmax_entropies(latents: Tensor, scale: float, temperature: float) -> tuple[Tensor, Tensor]:
    """Of softmax(2 x.c / temperature) over all codes c in {-scale, +scale}^d: mean entropy of rows [n, d], and entropy of the mean."""
    codes = scale * torch.tensor(list(itertools.product([-1.0, 1.0], repeat=latents.shape[-1])), dtype=latents.dtype)
    log_share = (2 * latents @ codes.T / temperature).log_softmax(-1)
    share = log_share.exp()
    mean = share.mean(0)
    return -(share * log_share).sum(-1).mean(), -torch.xlogy(mean, mean).sum()


def small_latents(*shape: int) -> Tensor:
    """Near enough to zero that the soft bits at temperature 0.01 are not all 0 or 1."""
    torch.manual_seed(0)
    return torch.randn(*shape) * 0.005


def test_sign_zero_and_bit_order() -> None:
    quantizer = LFQ(bits=6, groups=2)
    quantized = quantizer(torch.tensor([[[0.3, 0.0, -1.0, -2.0, 0.1, 5.0]]]))
    assert quantized.latents.tolist() == [[[1, -1, -1, -1, 1, 1]]]
    assert quantized.codes.tolist() == [[[1, 6]]]
    assert quantizer.codebook_sizes == (8, 8)


def test_whole_lfq_entropy_is_the_explicit_softmax() -> None:
    latents = small_latents(3, 7, 6)
    terms = LFQ(bits=6).train()(latents).terms
    sample, batch = softmax_entropies(latents.flatten(0, 1), 1, 0.01)
    torch.testing.assert_close(terms["entropy_sample"], sample, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(terms["entropy_batch"], batch, rtol=1e-4, atol=1e-5)


def test_groups_pooled_as_wetok_has_them() -> None:
    """One histogram over batch, tokens and groups: the groups are rows like any other."""
    latents = small_latents(3, 7, 12)
    quantizer = LFQ(bits=12, groups=3).train()
    sample, batch = softmax_entropies(latents.reshape(-1, 4), 1, 0.01)
    quantized = quantizer(latents)
    torch.testing.assert_close(quantized.terms["entropy_sample"], sample, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(quantized.terms["entropy_batch"], batch, rtol=1e-4, atol=1e-5)
    commitment = (latents - quantized.latents).square().mean()
    torch.testing.assert_close(quantized.loss, 0.1 * (sample - batch) + 0.25 * commitment, rtol=1e-4, atol=1e-5)


def test_a_histogram_for_each_group() -> None:
    """Sums over groups, as BSQ has it."""
    latents = small_latents(3, 7, 12) + torch.linspace(-0.01, 0.01, 12)
    terms = LFQ(bits=12, groups=3, entropy_pool="per_group").train()(latents).terms
    parts = [softmax_entropies(latents[..., 4 * group : 4 * group + 4].reshape(-1, 4), 1, 0.01) for group in range(3)]
    torch.testing.assert_close(terms["entropy_sample"], sum(part[0] for part in parts), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(terms["entropy_batch"], sum(part[1] for part in parts), rtol=1e-4, atol=1e-5)


def test_entropy_gradient_is_that_of_the_explicit_softmax() -> None:
    latents = small_latents(2, 5, 6).requires_grad_()
    LFQ(bits=6, commitment=0.0, entropy_weight=1.0).train()(latents).loss.backward()
    other = latents.detach().clone().requires_grad_()
    sample, batch = softmax_entropies(other.flatten(0, 1), 1, 0.01)
    (sample - batch).backward()
    torch.testing.assert_close(latents.grad, other.grad, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("scale", [1.0, 100.0])
def test_confident_latents_have_finite_gradients(scale: float) -> None:
    for quantizer in (LFQ(bits=8), Binary(bits=8), BSQ(bits=8)):
        latents = (torch.randn(2, 5, 8) * scale).requires_grad_()
        quantizer.train()(latents).loss.backward()
        assert latents.grad is not None and torch.isfinite(latents.grad).all()


def test_binary_by_hand() -> None:
    latents = small_latents(3, 7, 20)
    quantized = Binary(bits=20).train()(latents)
    bounded = torch.tanh(latents / 2)
    share = torch.sigmoid(4 * bounded.double() / 0.01).flatten(0, 1)

    def binary_entropy(p: Tensor) -> Tensor:
        return -(torch.xlogy(p, p) + torch.xlogy(1 - p, 1 - p)).sum(-1)

    sample, batch = binary_entropy(share).mean().float(), binary_entropy(share.mean(0)).float()
    commitment = (bounded - latents.sign()).square().mean()
    torch.testing.assert_close(quantized.terms["entropy_sample"], sample, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(quantized.terms["entropy_batch"], batch, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(quantized.loss, 0.1 * (sample - batch) + 0.25 * commitment, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(quantized.latents, latents.sign())


def test_binary_entropy_and_commitment_agree_where_lfq_quarrels() -> None:
    """SigLu's point: far out, pushing a latent further lowers both losses of `binary`, and raises the commitment of `lfq`."""
    latents = torch.tensor([[[6.0]]], requires_grad=True)
    Binary(bits=1).train()(latents).loss.backward()
    assert latents.grad is not None and latents.grad.item() < 0
    latents = torch.tensor([[[6.0]]], requires_grad=True)
    LFQ(bits=1).train()(latents).loss.backward()
    assert latents.grad is not None and latents.grad.item() > 0


def test_bsq_by_hand() -> None:
    torch.manual_seed(0)
    latents = torch.randn(3, 7, 8)
    quantizer = BSQ(bits=8, temperature=0.3).train()
    quantized = quantizer(latents)
    unit = latents / latents.norm(dim=-1, keepdim=True)
    corners = latents.sign() / math.sqrt(8)
    torch.testing.assert_close(quantized.latents, corners)
    torch.testing.assert_close(quantized.latents.norm(dim=-1), torch.ones(3, 7))
    sample, _ = softmax_entropies(unit.flatten(0, 1), 1 / math.sqrt(8), 0.3)
    torch.testing.assert_close(quantized.terms["entropy_sample"], sample, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(quantized.terms["commitment"], (unit - corners).square().sum(-1).mean())


def test_128_bits_train_save_pack_and_come_back() -> None:
    torch.manual_seed(0)
    quantizer = Binary(bits=128, temperature=0.5)
    encoder = torch.nn.Linear(16, 128)
    optimizer = torch.optim.Adam(encoder.parameters(), lr=1e-2)
    inputs = torch.randn(4, 10, 16)
    losses = []
    for _ in range(20):
        quantized = quantizer.train()(encoder(inputs))
        losses.append(quantized.loss.item())
        optimizer.zero_grad()
        (quantized.loss + (quantized.latents.mean(-1) - inputs.mean(-1)).square().mean()).backward()
        optimizer.step()
    assert losses[-1] < losses[0]
    quantized = quantizer.eval()(encoder(inputs))
    assert quantizer.bits_per_token == 128 and quantizer.codebook_sizes == (256,) * 16
    packed = pack_bits_numpy(quantized.codes[0, 0].numpy(), 8)
    assert len(packed) == 16
    came_back = torch.from_numpy(unpack_bits_numpy(packed, 8, 16)).view(1, 1, 16)
    other = Binary(bits=128)
    other.load_state_dict(quantizer.state_dict())
    assert torch.equal(other.lookup(came_back), quantized.latents[:1, :1])


@pytest.mark.parametrize(("bits", "group_bits"), [(1, 1), (13, 4), (128, 8), (124, 62), (64, 63 - 1), (5, 8)])
def test_bits_round_trip(bits: int, group_bits: int) -> None:
    torch.manual_seed(0)
    given = torch.rand(3, 5, bits) < 0.5
    given[0] = True
    codes = pack_bits(given, group_bits)
    sizes = group_sizes(bits, group_bits)
    assert codes.shape == (3, 5, len(sizes)) and math.prod(sizes) == 2**bits
    assert (codes >= 0).all() and all((codes[..., index] < size).all() for index, size in enumerate(sizes))
    assert torch.equal(unpack_bits(codes, bits, group_bits), given)


def test_levels_by_hand() -> None:
    """2.0 -> 1 + 1/2 + 1/4; -0.6 -> -1 + 1/2 - 1/4; 0.3 -> 1 - 1/2 - 1/4."""
    quantizer = LFQ(bits=9, groups=3, levels=3)
    quantized = quantizer(torch.tensor([[[2.0, -0.6, 0.3]]]))
    assert quantizer.dim == 3 and quantizer.codebook_sizes == (8, 8, 8)
    assert quantized.latents.tolist() == [[[1.75, -0.75, 0.25]]]
    assert quantized.codes.tolist() == [[[0b111, 0b010, 0b001]]]
    assert torch.equal(quantizer.lookup(quantized.codes), quantized.latents)


@pytest.mark.parametrize("levels", [1, 2, 4])
def test_levels_are_the_nearest_of_equally_spaced_values(levels: int) -> None:
    torch.manual_seed(0)
    latents = torch.randn(2, 50, 3) * 2
    values = torch.arange(2**levels) * 2 ** (2 - levels) - (2 - 2.0 ** (1 - levels))
    nearest = values[(latents.unsqueeze(-1) - values).abs().argmin(-1)]
    assert torch.equal(LFQ(bits=3 * levels, groups=3, levels=levels)(latents).latents, nearest)
    bounded = (torch.sigmoid(latents) * 2 - 1) * (2 - 2.0 ** (1 - levels))
    nearest = values[(bounded.unsqueeze(-1) - values).abs().argmin(-1)]
    assert torch.equal(Binary(bits=3 * levels, levels=levels)(latents).latents, nearest)


@pytest.mark.parametrize("kind", [LFQ, Binary, BSQ])
def test_the_smallest_latent_has_its_sign(kind: type[LFQ | Binary | BSQ]) -> None:
    latents = torch.tensor([[[1e-12, -1e-12, 0.0, 1e-30]]])
    assert kind(bits=4)(latents).codes.tolist() == [[[0b1001]]]


def test_entropies_of_levels_are_over_bits() -> None:
    latents = small_latents(3, 7, 4)
    quantizer = LFQ(bits=8, groups=2, levels=2).train()
    left = torch.stack([latents, 2 * (latents - latents.sign())], -1)
    sample, batch = softmax_entropies(left.reshape(-1, 4), 1, 0.01)
    terms = quantizer(latents).terms
    torch.testing.assert_close(terms["entropy_sample"], sample, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(terms["entropy_batch"], batch, rtol=1e-4, atol=1e-5)


def test_options_that_cannot_be() -> None:
    with pytest.raises(InputError, match="do not divide"):
        LFQ(bits=10, groups=3)
    with pytest.raises(InputError, match="histogram"):
        LFQ(bits=32)
    assert LFQ(bits=32, entropy_weight=0.0).codebook_sizes == (2**32,)
    with pytest.raises(InputError, match="group_bits"):
        Binary(bits=128, group_bits=63)
    with pytest.raises(InputError, match="3 levels do not divide 128 bits"):
        Binary(levels=3)
