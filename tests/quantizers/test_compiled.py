"""What the contract suite is too quick for: code made by inductor, and the GPU."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator

import pytest
import torch

from tokkit import registry
from tokkit.quantizers.base import Quantizer
from tokkit.quantizers.codebook import CHECK_DEAD_EVERY, Codebook

OWN = [name for name in registry.names("quantizer") if not name.startswith("vqp.")]


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    torch.manual_seed(0)
    torch._dynamo.reset()
    yield


def warm(name: str, device: str) -> tuple[Quantizer, torch.Tensor, tuple[int, ...] | None]:
    """A quantizer that has seen two batches, and latents for it."""
    quantizer: Quantizer = registry.build("quantizer", name, **registry.get("quantizer", name).example_options()).to(device)
    grid = type(quantizer).example_grid()
    latents = torch.randn(4, 50 if grid is None else math.prod(grid), quantizer.dim, device=device)
    for _ in range(2):
        quantizer.train()(latents, grid)
    return quantizer, latents, grid


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vq"])
def test_inductor_on_the_cpu(name: str) -> None:
    quantizer, latents, grid = warm(name, "cpu")
    quantizer.eval()
    compiled = torch.compile(quantizer, fullgraph=True)
    with torch.no_grad():
        assert torch.equal(compiled(latents, grid).codes, quantizer(latents, grid).codes)


@pytest.mark.gpu
@pytest.mark.parametrize("name", OWN)
def test_gpu_gives_the_codes_of_the_cpu(name: str) -> None:
    quantizer, latents, grid = warm(name, "cpu")
    quantizer.eval()
    expected = quantizer(latents, grid)
    found = copy.deepcopy(quantizer).cuda()(latents.cuda(), grid)
    assert torch.equal(found.codes.cpu(), expected.codes)
    torch.testing.assert_close(found.latents.cpu(), expected.latents, rtol=1e-4, atol=1e-5)
    assert torch.equal(copy.deepcopy(quantizer).cuda().lookup(found.codes, grid), found.latents)


@pytest.mark.gpu
@pytest.mark.parametrize("name", OWN)
def test_a_training_step_waits_for_nothing(name: str) -> None:
    """No value is read back from the GPU, except where dead codes are looked for."""
    quantizer, latents, grid = warm(name, "cuda")
    for book in (module for module in quantizer.modules() if isinstance(module, Codebook)):
        book.dead_threshold = 0.0
    latents.requires_grad_()
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(CHECK_DEAD_EVERY + 1):
            quantized = quantizer(latents, grid)
            (quantized.latents.sum() + quantized.loss).backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.gpu
@pytest.mark.parametrize("name", OWN)
def test_inductor_on_the_gpu(name: str) -> None:
    quantizer, latents, grid = warm(name, "cuda")
    compiled = torch.compile(quantizer.eval(), fullgraph=True)
    with torch.no_grad():
        expected, found = quantizer(latents, grid), compiled(latents, grid)
    assert (found.codes == expected.codes).float().mean() > 0.99  # sums in another order may move a latent over an edge
    torch._dynamo.reset()
    compiled = torch.compile(quantizer.train())
    latents = latents.clone().requires_grad_()
    quantized = compiled(latents, grid)
    (quantized.latents.sum() + quantized.loss).backward()
    assert torch.isfinite(latents.grad).all() and torch.isfinite(quantized.loss)


@pytest.mark.gpu
def test_deterministic_on_the_gpu_when_asked() -> None:
    results = []
    for _ in range(2):
        torch.manual_seed(0)
        torch.use_deterministic_algorithms(True)
        try:
            quantizer = registry.build("quantizer", "vq", dim=8, codebook_size=32).cuda().train()
            for _ in range(10):
                quantizer(torch.randn(8, 500, 8, device="cuda"))
        finally:
            torch.use_deterministic_algorithms(False)
        results.append(quantizer.codebook.weight.clone())
    assert torch.equal(*results)
