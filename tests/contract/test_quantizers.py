"""What every registered quantizer must do. A new one is tested here the moment it exists."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor

from tokkit import registry
from tokkit.errors import InputError
from tokkit.quantizers.base import Quantizer
from tokkit.registry import Spec, spec_of

NAMES = registry.names("quantizer")
OWN = [name for name in NAMES if not name.startswith("vqp.")]

pytestmark = pytest.mark.parametrize("name", NAMES)


@pytest.fixture(autouse=True)
def seeded(few_threads: None) -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)


def build(name: str, *, warm: bool = True) -> Quantizer:
    """A quantizer in eval mode that has seen one training batch, so that its codebooks are started."""
    quantizer: Quantizer = registry.build("quantizer", name, **registry.get("quantizer", name).example_options())
    if warm:
        quantizer.train()(latents_for(quantizer, batch=4), grid_for(quantizer))
    return quantizer.eval()


def grid_for(quantizer: Quantizer) -> tuple[int, ...] | None:
    return type(quantizer).example_grid()


def latents_for(quantizer: Quantizer, batch: int = 2, tokens: int = 7) -> Tensor:
    grid = grid_for(quantizer)
    return torch.randn(batch, tokens if grid is None else math.prod(grid), quantizer.dim)


def test_lookup_of_the_codes_is_the_latents(name: str) -> None:
    quantizer = build(name)
    latents, grid = latents_for(quantizer), grid_for(quantizer)
    quantized = quantizer(latents, grid)
    assert quantized.latents.shape == latents.shape
    assert torch.equal(quantizer.lookup(quantized.codes, grid), quantized.latents)


def test_codes_are_in_range(name: str) -> None:
    quantizer = build(name)
    latents, grid = latents_for(quantizer), grid_for(quantizer)
    for scale in (0.01, 1.0, 100.0):
        codes = quantizer(latents * scale, grid).codes
        sizes = quantizer.codebook_sizes
        assert codes.dtype == torch.int64
        assert codes.shape == (2, quantizer.num_codes(latents.shape[1], grid), len(sizes))
        assert (codes >= 0).all() and (codes < torch.tensor(sizes)).all()
    assert quantizer.bits_per_token == sum(math.ceil(math.log2(size)) for size in sizes if size > 1)


def test_gradient_reaches_the_input(name: str) -> None:
    quantizer = build(name).train()
    latents = latents_for(quantizer).requires_grad_()
    quantized = quantizer(latents, grid_for(quantizer))
    assert torch.isfinite(quantized.loss) and quantized.loss.ndim == 0
    (gradient,) = torch.autograd.grad((quantized.latents * torch.randn_like(quantized.latents)).sum(), latents, retain_graph=True)
    assert torch.isfinite(gradient).all() and gradient.abs().sum() > 0
    if quantized.loss.requires_grad:
        (gradient,) = torch.autograd.grad(quantized.loss, latents)
        assert torch.isfinite(gradient).all()


def test_every_parameter_has_a_gradient(name: str) -> None:
    """DistributedDataParallel stops at a parameter that the loss does not reach."""
    quantizer = build(name).train()
    quantized = quantizer(latents_for(quantizer).requires_grad_(), grid_for(quantizer))
    (quantized.latents.square().sum() + quantized.loss).backward()
    assert [key for key, parameter in quantizer.named_parameters() if parameter.requires_grad and parameter.grad is None] == []


def test_terms_are_detached_scalars(name: str) -> None:
    quantizer = build(name)
    latents, grid = latents_for(quantizer), grid_for(quantizer)
    evaluated = quantizer(latents, grid)
    assert evaluated.loss == 0 and evaluated.terms == {}
    trained = quantizer.train()(latents.requires_grad_(), grid)
    assert all(term.ndim == 0 and not term.requires_grad and torch.isfinite(term) for term in trained.terms.values())
    assert trained.loss.dtype == torch.float32


def test_bfloat16_and_autocast(name: str) -> None:
    quantizer = build(name)
    latents, grid = latents_for(quantizer).bfloat16(), grid_for(quantizer)
    plain = quantizer(latents, grid)
    assert plain.latents.dtype == torch.bfloat16
    assert torch.equal(quantizer.lookup(plain.codes, grid).bfloat16(), plain.latents)
    with torch.autocast("cpu", torch.bfloat16):
        cast = quantizer(latents, grid)
    assert torch.equal(cast.codes, plain.codes) and torch.equal(cast.latents, plain.latents)
    with torch.autocast("cpu", torch.bfloat16):
        trained = quantizer.train()(latents.requires_grad_(), grid)
    assert torch.isfinite(trained.loss) and trained.loss.dtype == torch.float32


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(("batch", "tokens"), [(0, 7), (2, 0)])
def test_empty_batch(name: str, training: bool, batch: int, tokens: int) -> None:
    quantizer = build(name).train(training)
    latents, grid = latents_for(quantizer, batch, tokens), grid_for(quantizer)
    if latents.numel():
        pytest.skip("this quantizer has a fixed number of tokens")
    quantized = quantizer(latents, grid)
    assert quantized.latents.shape == latents.shape
    assert quantized.codes.shape == (batch, quantizer.num_codes(latents.shape[1], grid), len(quantizer.codebook_sizes))
    assert torch.isfinite(quantized.loss)
    assert quantizer.lookup(quantized.codes, grid).shape == latents.shape


def test_same_codes_at_any_batch_size(name: str) -> None:
    quantizer = build(name)
    latents, grid = latents_for(quantizer, batch=5), grid_for(quantizer)
    whole = quantizer(latents, grid).codes
    assert torch.equal(torch.cat([quantizer(sample, grid).codes for sample in latents.split(1)]), whole)
    assert torch.equal(torch.cat([quantizer(part, grid).codes for part in latents.split(3)]), whole)


def test_same_result_after_save_and_load(name: str) -> None:
    quantizer = build(name)
    latents, grid = latents_for(quantizer), grid_for(quantizer)
    state = {key: value.clone() for key, value in quantizer.state_dict().items()}
    torch.manual_seed(1)
    other = spec_of(quantizer).build().eval()
    other.load_state_dict(state)
    assert torch.equal(other(latents, grid).codes, quantizer(latents, grid).codes)
    assert torch.equal(other(latents, grid).latents, quantizer(latents, grid).latents)


def test_training_goes_on_after_save_and_load(name: str) -> None:
    """A loaded quantizer takes the same next step: nothing that training needs lives outside the state dict."""
    quantizer = build(name).train()
    other = spec_of(quantizer).build().train()
    other.load_state_dict({key: value.clone() for key, value in quantizer.state_dict().items()})
    latents, grid = latents_for(quantizer), grid_for(quantizer)
    results = []
    for each in (quantizer, other):
        torch.manual_seed(2)
        results.append(each(latents, grid))
    assert torch.equal(results[0].latents, results[1].latents) and torch.equal(results[0].loss, results[1].loss)
    for key, value in quantizer.state_dict().items():
        assert torch.equal(value, other.state_dict()[key]), key


def test_spec_survives_a_round_trip(name: str) -> None:
    spec = spec_of(build(name, warm=False))
    assert isinstance(spec, Spec) and spec_of(spec.build()).to_dict() == spec.to_dict()


def test_deepcopy(name: str) -> None:
    quantizer = build(name)
    latents, grid = latents_for(quantizer), grid_for(quantizer)
    twin = copy.deepcopy(quantizer)
    assert torch.equal(twin(latents, grid).codes, quantizer(latents, grid).codes)
    twin.train()(latents * 3, grid)
    assert torch.equal(quantizer(latents, grid).latents, copy.deepcopy(quantizer)(latents, grid).latents)


def test_compiles(name: str) -> None:
    """Eval mode is one graph (not for the adapted library, whose code breaks it); training may break and must give the same."""
    quantizer = build(name)
    latents, grid = latents_for(quantizer), grid_for(quantizer)
    torch._dynamo.reset()
    compiled = torch.compile(quantizer, backend="eager", fullgraph=name in OWN)
    with torch.no_grad():
        assert torch.equal(compiled(latents, grid).codes, quantizer(latents, grid).codes)
        assert torch.equal(compiled(latents, grid).latents, quantizer(latents, grid).latents)
    if name in OWN:
        twin = copy.deepcopy(quantizer).train()
        compiled = torch.compile(quantizer.train(), backend="aot_eager")
        torch.manual_seed(3)
        expected = twin(latents, grid)
        torch.manual_seed(3)
        given = latents.clone().requires_grad_()
        quantized = compiled(given, grid)
        (quantized.latents.sum() + quantized.loss).backward()
        torch.testing.assert_close(quantized.latents, expected.latents)
        torch.testing.assert_close(quantized.loss, expected.loss)
        assert given.grad is not None and torch.isfinite(given.grad).all()


def test_wrong_shapes_are_refused(name: str) -> None:
    quantizer = build(name)
    latents, grid = latents_for(quantizer), grid_for(quantizer)
    codes = quantizer(latents, grid).codes
    for wrong in (latents[0], latents[..., :-1], latents.unsqueeze(0), latents.long()):
        with pytest.raises(InputError):
            quantizer(wrong, grid)
    for wrong in (codes[0], torch.cat([codes, codes], -1), codes[..., :0], codes.int(), codes.float()):
        with pytest.raises(InputError):
            quantizer.lookup(wrong, grid)


def test_leading_parts_can_be_looked_up_where_it_says_so(name: str) -> None:
    quantizer = build(name)
    latents, grid = latents_for(quantizer), grid_for(quantizer)
    codes = quantizer(latents, grid).codes
    if quantizer.variable_levels:
        for level in range(1, codes.shape[-1] + 1):
            assert quantizer.lookup(codes[..., :level], grid).shape == latents.shape
    elif codes.shape[-1] > 1:
        with pytest.raises(InputError):
            quantizer.lookup(codes[..., :1], grid)
    if quantizer.variable_length:
        for length in quantizer.prefix_lengths(latents.shape[1], grid):
            assert quantizer.lookup(codes[:, :length], grid).shape == latents.shape
