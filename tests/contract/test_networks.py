"""What every registered encoder and the decoder of the same name must do. A new pair meets this suite the moment it exists."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tokkit import registry
from tokkit.errors import InputError
from tokkit.networks.base import Decoder, Encoder

GRIDS = {1: (5,), 2: (3, 5), 3: (3, 1, 2)}
PARTNERS = {"flow": "vit1d"}
"""Decoder without an encoder of its name -> the encoder that it is tested with."""

PAIRS = [*PARTNERS, *(name for name in registry.names("encoder") if name in registry.names("decoder"))]


def ranks(name: str) -> tuple[int | None, ...]:
    return (1, 2, 3) if "rank" in registry.signature(registry.get("decoder", name)).parameters else (None,)


CASES = [(name, rank) for name in PAIRS for rank in ranks(name)]

pytestmark = pytest.mark.parametrize(("name", "rank"), CASES, ids=[f"{name}-{rank}" for name, rank in CASES])


def build(kind: str, name: str, rank: int | None, **more: Any) -> Any:
    torch.manual_seed(0)
    options = registry.get(kind, name).example_options() | ({} if rank is None else {"rank": rank}) | more  # type: ignore[attr-defined]
    return registry.build(kind, name, **options)


def pair(name: str, rank: int | None) -> tuple[Encoder, Decoder]:
    return build("encoder", PARTNERS.get(name, name), rank).eval(), build("decoder", name, rank).eval()


def inputs_for(encoder: Encoder, batch: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(batch, encoder.channels, *smallest_size(encoder, GRIDS[encoder.rank]), generator=generator) * 2 - 1


def smallest_size(encoder: Encoder, grid: tuple[int, ...]) -> tuple[int, ...]:
    """Of an input with this grid: one more than what one cell less may have."""
    return encoder.padded_size(tuple((cells - 1) * step + 1 for cells, step in zip(grid, encoder.strides, strict=True)))


def shapes(module: nn.Module) -> dict[str, torch.Size]:
    return {key: value.shape for key, value in module.state_dict().items()}


def test_shapes_of_an_odd_grid(name: str, rank: int | None) -> None:
    encoder, decoder = pair(name, rank)
    inputs = inputs_for(encoder)
    values, grid = encoder(inputs)
    assert grid == GRIDS[encoder.rank]
    assert decoder.output_size(grid) == inputs.shape[2:] == encoder.padded_size(tuple(inputs.shape[2:]))
    assert values.shape == (2, getattr(encoder, "num_tokens", math.prod(grid)), encoder.dim)
    assert decoder.dim == encoder.dim and decoder.strides == encoder.strides and decoder.rank == encoder.rank
    assert decoder(values, grid).shape == (2, decoder.channels, *decoder.output_size(grid))


def test_a_single_cell(name: str, rank: int | None) -> None:
    encoder, decoder = pair(name, rank)
    smallest = torch.zeros(1, encoder.channels, *smallest_size(encoder, (1,) * encoder.rank))
    output = decoder(*encoder(smallest))
    assert output.shape == smallest.shape
    assert output.isfinite().all()


def test_a_sample_does_not_depend_on_its_batch(name: str, rank: int | None) -> None:
    encoder, decoder = pair(name, rank)
    inputs = inputs_for(encoder, 3)
    together = encoder(inputs)
    alone = encoder(inputs[1:2])
    torch.testing.assert_close(together.values[1:2], alone.values, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(decoder(*together)[1:2], decoder(*alone), atol=1e-5, rtol=1e-5)


def test_a_gradient_reaches_every_parameter_and_the_input(name: str, rank: int | None) -> None:
    encoder, decoder = pair(name, rank)
    inputs = inputs_for(encoder).requires_grad_()
    decoder(*encoder(inputs)).square().mean().backward()
    without = [key for module in (encoder, decoder) for key, p in module.named_parameters() if p.grad is None or not p.grad.any()]
    assert not without
    assert inputs.grad is not None and inputs.grad.any()


def test_the_last_layer_is_one_that_the_output_depends_on(name: str, rank: int | None) -> None:
    encoder, decoder = pair(name, rank)
    assert any(decoder.last_layer is parameter for parameter in decoder.parameters())
    (gradient,) = torch.autograd.grad(decoder(*encoder(inputs_for(encoder))).square().mean(), decoder.last_layer)
    assert gradient.shape == decoder.last_layer.shape and gradient.any()


def test_compiles_without_a_graph_break(name: str, rank: int | None) -> None:
    torch.compiler.reset()
    encoder, decoder = pair(name, rank)
    inputs = inputs_for(encoder)
    latents = encoder(inputs)
    compiled_encoder = torch.compile(encoder, fullgraph=True, backend="eager", dynamic=False)
    compiled_decoder = torch.compile(decoder, fullgraph=True, backend="eager", dynamic=False)
    compiled = compiled_encoder(inputs)
    assert compiled.grid == latents.grid
    torch.testing.assert_close(compiled.values, latents.values, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(compiled_decoder(*latents), decoder(*latents), atol=1e-5, rtol=1e-5)


def test_channels_last_changes_nothing(name: str, rank: int | None) -> None:
    encoder, decoder = pair(name, rank)
    if encoder.rank == 1:
        pytest.skip("channels_last is for 2 and 3 spatial axes")
    form = torch.channels_last if encoder.rank == 2 else torch.channels_last_3d
    inputs = inputs_for(encoder)
    latents = encoder(inputs)
    output = decoder(*latents)
    encoder, decoder = encoder.to(memory_format=form), decoder.to(memory_format=form)
    torch.testing.assert_close(encoder(inputs.contiguous(memory_format=form)).values, latents.values, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(decoder(*latents), output, atol=1e-5, rtol=1e-5)


def test_bf16_autocast_is_near_fp32(name: str, rank: int | None) -> None:
    encoder, decoder = pair(name, rank)
    inputs = inputs_for(encoder)
    latents = encoder(inputs)
    with torch.autocast("cpu", torch.bfloat16):
        values, grid = encoder(inputs)
        output = decoder(values, grid)
    assert torch.nn.functional.cosine_similarity(values.float().flatten(), latents.values.flatten(), dim=0) > 0.99
    assert output.isfinite().all() and grid == latents.grid


def test_deepcopy_and_spec_build_the_same_network(name: str, rank: int | None) -> None:
    for module in pair(name, rank):
        twin = copy.deepcopy(module)
        again = registry.spec_of(twin).build()
        assert registry.spec_of(twin) == registry.spec_of(module)
        assert shapes(again) == shapes(module)
        assert not {id(p) for p in twin.parameters()} & {id(p) for p in module.parameters()}


def test_other_channels(name: str, rank: int | None) -> None:
    encoder, decoder = build("encoder", PARTNERS.get(name, name), rank, channels=1), build("decoder", name, rank, channels=1)
    inputs = inputs_for(encoder)
    assert inputs.shape[1] == 1
    assert decoder(*encoder(inputs)).shape == inputs.shape


def test_refuses_a_size_off_the_stride_and_another_rank(name: str, rank: int | None) -> None:
    encoder, _ = pair(name, rank)
    inputs = inputs_for(encoder)
    with pytest.raises(InputError, match=f"multiple of the stride {encoder.stride}"):
        encoder(inputs[..., :-1])
    with pytest.raises(InputError, match="spatial axes"):
        encoder(inputs.unsqueeze(-1))
