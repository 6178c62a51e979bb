"""The adapters give what vector-quantize-pytorch gives, and its codes lead back to it."""

from __future__ import annotations

import pytest
import torch

from tokkit import registry
from tokkit.errors import InputError
from tokkit.quantizers.vqp import Adapted, LatentQuantize

NAMES = [name for name in registry.names("quantizer") if name.startswith("vqp.")]


def build(name: str) -> Adapted:
    torch.manual_seed(0)
    quantizer: Adapted = registry.build("quantizer", name, **registry.get("quantizer", name).example_options())
    return quantizer


@pytest.mark.parametrize("name", NAMES)
def test_lookup_gives_what_the_library_returned(name: str) -> None:
    quantizer = build(name).eval()
    latents = torch.randn(3, 50, quantizer.dim)
    from_library, _, _ = quantizer._run(latents)
    torch.testing.assert_close(quantizer.lookup(quantizer(latents).codes), from_library, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_the_loss_is_the_sum_of_the_librarys(name: str) -> None:
    quantizer = build(name).train()
    latents = torch.randn(2, 9, quantizer.dim)
    torch.manual_seed(1)
    mine = quantizer(latents)
    other = build(name).train()
    channel_first = isinstance(other, LatentQuantize)
    torch.manual_seed(1)
    _, _, *losses = other.inner(latents.transpose(1, 2) if channel_first else latents)
    torch.testing.assert_close(mine.loss, losses[0].sum() if losses else torch.zeros(()))


def test_codes_of_groups_are_one_after_the_other() -> None:
    quantizer = build("vqp.grouped_residual_vq").eval()
    latents = torch.randn(1, 4, quantizer.dim)
    _, indices, _ = quantizer.inner(latents)
    codes = quantizer(latents).codes
    assert torch.equal(codes[..., 0], indices[0, ..., 0]) and torch.equal(codes[..., 1], indices[0, ..., 1])
    assert torch.equal(codes[..., 2], indices[1, ..., 0]) and torch.equal(codes[..., 3], indices[1, ..., 1])


@pytest.mark.parametrize("levels", [(6, 10), (12, 15), (7, 8)])
def test_latent_quantize_digits_are_not_cut_down(levels: tuple[int, ...]) -> None:
    """In the library a fifth of the codes of (6,) are one step too low at this spread."""
    torch.manual_seed(0)
    quantizer = LatentQuantize(levels=levels, dim=2).eval()
    latents = 5 * (torch.rand(4, 500, 2) - 0.5)
    from_library, _, _ = quantizer._run(latents)
    torch.testing.assert_close(quantizer.lookup(quantizer(latents).codes), from_library, rtol=1e-5, atol=1e-5)


def test_lfq_needs_a_power_of_two() -> None:
    with pytest.raises(InputError, match="power of two"):
        registry.build("quantizer", "vqp.lfq", codebook_size=12)
