"""IBQ against the paper's formula with the whole N x K assignment in memory."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from tokkit.quantizers import ibq
from tokkit.quantizers.ibq import IBQ


def whole(latents: Tensor, weight: Tensor, commitment: float, entropy_weight: float, temperature: float) -> tuple[Tensor, Tensor, Tensor]:
    logits = latents @ weight.T
    soft = logits.softmax(-1)
    codes = logits.argmax(-1)
    hard = functional.one_hot(codes, len(weight)).to(soft)
    index = hard + soft - soft.detach()
    quantized, plain = index @ weight, hard @ weight
    loss = functional.mse_loss(quantized, latents) + functional.mse_loss(plain.detach(), latents)
    loss = loss + commitment * functional.mse_loss(plain, latents.detach())
    share = (logits / temperature).softmax(-1)
    sample = -torch.xlogy(share, share).sum(-1).mean()
    mean = share.flatten(0, 1).mean(0)
    return quantized, codes, loss + entropy_weight * (sample + torch.xlogy(mean, mean).sum())


@pytest.mark.parametrize("chunk", [2**24, 7])
def test_values_and_gradients(monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    monkeypatch.setattr(ibq, "CHUNK_ELEMENTS", chunk)
    torch.manual_seed(0)
    quantizer = IBQ(dim=4, codebook_size=5, temperature=0.5).train()
    with torch.no_grad():
        quantizer.weight.normal_()
    latents = torch.randn(2, 6, 4, requires_grad=True)
    other, weight = latents.detach().clone().requires_grad_(), quantizer.weight.detach().clone().requires_grad_()
    quantized = quantizer(latents)
    expected, codes, loss = whole(other, weight, 0.25, 0.05, 0.5)
    assert torch.equal(quantized.codes[..., 0], codes)
    torch.testing.assert_close(quantized.latents, expected)
    torch.testing.assert_close(quantized.loss, loss)
    upstream = torch.randn_like(expected)
    (quantized.loss + (quantized.latents * upstream).sum()).backward()
    (loss + (expected * upstream).sum()).backward()
    torch.testing.assert_close(latents.grad, other.grad)
    torch.testing.assert_close(quantizer.weight.grad, weight.grad)


def test_every_code_has_a_gradient() -> None:
    torch.manual_seed(0)
    quantizer = IBQ(dim=4, codebook_size=64).train()
    quantizer(torch.randn(1, 2, 4)).latents.square().sum().backward()
    assert (quantizer.weight.grad.abs().sum(-1) > 0).all()
