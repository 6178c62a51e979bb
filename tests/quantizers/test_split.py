"""The split quantizer: both orders against its parts, leading codes, and what `distill` gets."""

from __future__ import annotations

import pytest
import torch

from tokkit.errors import InputError
from tokkit.quantizers.fsq import FSQ
from tokkit.quantizers.multiscale import MultiScale
from tokkit.quantizers.rvq import RVQ
from tokkit.quantizers.split import Split
from tokkit.quantizers.vq import VQ


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def parallel(**options: int) -> Split:
    return Split(semantic=VQ(dim=8, codebook_size=8), acoustic=RVQ(dim=8, levels=2, codebook_size=8), dim=8, **options)


def test_in_parallel_both_quantize_the_same_latents_and_add_up() -> None:
    quantizer = parallel()
    latents = torch.randn(2, 9, 8)
    quantizer.train()(latents)
    quantizer.eval()
    semantic, acoustic = (member.quantizer for member in quantizer.members)
    one, others = semantic(latents), acoustic(latents)
    found = quantizer(latents)
    assert torch.equal(found.codes, torch.cat([one.codes, others.codes], -1)) and quantizer.codebook_sizes == (8, 8, 8)
    torch.testing.assert_close(found.latents, one.latents + others.latents)
    torch.testing.assert_close(quantizer.lookup(found.codes[..., :1]), one.latents)
    torch.testing.assert_close(quantizer.lookup(found.codes[..., :2]), one.latents + acoustic.lookup(others.codes[..., :1]))


def test_in_sequence_it_is_the_residual_quantizer() -> None:
    quantizer = Split(acoustic=RVQ(dim=8, levels=3, codebook_size=8), dim=8).train()
    latents = torch.randn(2, 9, 8)
    quantizer(latents)
    found, inner = quantizer.eval()(latents), quantizer.members[0].quantizer
    assert torch.equal(found.codes, inner(latents).codes) and torch.equal(found.latents, inner(latents).latents)
    given = latents.clone().requires_grad_()
    trained = quantizer.train()(given)
    assert trained.semantic is not None
    torch.testing.assert_close(trained.semantic, inner.lookup(trained.codes[..., :1]), atol=0.2, rtol=0)  # the averages moved a little
    (gradient,) = torch.autograd.grad(trained.semantic.sum(), given)
    torch.testing.assert_close(gradient, torch.ones_like(gradient))


@pytest.mark.parametrize("sequence", [False, True])
def test_distilling_moves_the_semantic_code_and_not_the_others(sequence: bool) -> None:
    rvq = RVQ(dim=4, levels=2, codebook_size=8, learning="gradient")
    semantic = None if sequence else VQ(dim=4, codebook_size=8, learning="gradient")
    quantizer = Split(semantic=semantic, acoustic=rvq, dim=8, teacher_dim=5).train()
    given = torch.randn(2, 9, 8, requires_grad=True)
    found = quantizer(given)
    assert found.semantic is not None and found.semantic.shape == (2, 9, 5)
    found.semantic.square().sum().backward()
    moved = {name for name, parameter in quantizer.named_parameters() if parameter.grad is not None and parameter.grad.abs().sum() > 0}
    assert given.grad is not None and given.grad.abs().sum() > 0
    assert {"to_teacher.weight", "members.0.way_out.weight"} <= moved
    assert not any("codebooks.1" in name or name.startswith("members.1") for name in moved)
    assert quantizer.eval()(given).semantic is None


def test_dropped_acoustic_levels_leave_the_semantic_code() -> None:
    quantizer = Split(semantic=VQ(dim=8, codebook_size=8), acoustic=RVQ(dim=8, levels=3, codebook_size=8, dropout=1.0), dim=8).train()
    latents = torch.randn(64, 3, 8)
    quantizer(latents)
    found = quantizer(latents)
    lengths = {
        levels
        for row, codes in zip(found.latents, found.codes, strict=True)
        for levels in (2, 3, 4)
        if torch.allclose(row, quantizer.lookup(codes[None, :, :levels])[0], atol=0.3)
    }
    assert lengths == {2, 3, 4}


def test_what_cannot_be_split_is_refused() -> None:
    with pytest.raises(InputError, match="MultiScale does not code single latents"):
        Split(acoustic=MultiScale(quantizer=FSQ(levels=(8, 5)), scales=(1, 2), rank=1))
    with pytest.raises(InputError, match="must be residual"):
        Split(acoustic=FSQ(levels=(8, 5)), dim=2)
    mixed = Split(semantic=FSQ(levels=(8, 5, 5)), acoustic=VQ(dim=4, codebook_size=8), dim=6)
    assert mixed.codebook_sizes == (200, 8) and mixed.variable_levels
    assert not Split(semantic=FSQ(levels=(8, 5)), acoustic=parallel_of_signs(), dim=4).variable_levels


def parallel_of_signs() -> VQ:
    import tokkit

    signs: VQ = tokkit.build("quantizer", "binary", bits=16)
    return signs
