"""The sound networks: sizes, what depends on what, pieces against the whole, and the inverse transform by hand."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor

import tokkit
from tokkit.errors import InputError
from tokkit.networks.causal import CausalDecoder, CausalEncoder, State
from tokkit.networks.snake import Snake


def build(kind: str, name: str, **options: Any) -> Any:
    torch.manual_seed(0)
    return tokkit.build(kind, name, **options).eval()


def noise(samples: int, batch: int = 1) -> Tensor:
    return torch.randn(batch, 1, samples, generator=torch.Generator().manual_seed(1)) * 0.1


def parameters(*modules: torch.nn.Module) -> float:
    return sum(parameter.numel() for module in modules for parameter in module.parameters()) / 1e6


@pytest.mark.parametrize(("strides", "levels", "millions"), [((2, 4, 8, 8), 9, 76.7), ((2, 4, 5, 8), 32, 74.7)])
def test_dac_has_as_many_parameters_as_dacs(strides: tuple[int, ...], levels: int, millions: float) -> None:
    """76.7 and 74.7 M: dates-website, src/data/tokenizers_benchmark.json. A level: two maps with weight norm, 1024 codes of 8."""
    with torch.device("meta"):
        networks = tokkit.build("encoder", "dac", strides=strides), tokkit.build("decoder", "dac", strides=strides)
    level = (1024 * 8 + 8 + 8) + (8 * 1024 + 1024 + 1024) + 1024 * 8
    assert parameters(*networks) + levels * level / 1e6 == pytest.approx(millions, abs=0.06)


def test_mimi_has_as_many_parameters_as_mimis() -> None:
    """79.3 M (the same source), with the four maps of its quantizer between 512 and 256; its codebooks are buffers."""
    with torch.device("meta"):
        networks = tokkit.build("encoder", "mimi"), tokkit.build("decoder", "mimi")
    assert parameters(*networks) + 4 * 512 * 256 / 1e6 == pytest.approx(79.3, abs=0.05)


def test_snake_by_formula_and_gradient() -> None:
    snake = Snake(3).double()
    with torch.no_grad():
        snake.alpha.copy_(torch.tensor([0.5, 1.0, 2.0]))
    inputs = torch.randn(2, 3, 5, dtype=torch.float64, requires_grad=True)
    alpha = snake.alpha[:, None]
    torch.testing.assert_close(snake(inputs), inputs + (alpha * inputs).sin() ** 2 / (alpha + 1e-9))
    assert torch.autograd.gradcheck(lambda x, a: torch.func.functional_call(snake, {"alpha": a}, (x,)), (inputs, snake.alpha), atol=1e-4)


@pytest.mark.parametrize("strides", [(2, 5), (2, 4, 5, 8), (3,)])
def test_dac_depends_on_its_context_and_nothing_else(strides: tuple[int, ...]) -> None:
    encoder = build("encoder", "dac", width=4, strides=strides, dim=6)
    decoder = build("decoder", "dac", width=2 ** len(strides) * 2, strides=strides, dim=6)
    for network, unit, far in ((encoder, encoder.stride, False), (decoder, 1, True)):
        frames = 2 * network.context + 9
        middle = frames // 2
        if far:
            inputs = torch.randn(1, frames, 6, dtype=torch.float64, requires_grad=True)
            output = network.double()(inputs, (frames,))[..., middle * network.stride : (middle + 1) * network.stride]
            (gradient,) = torch.autograd.grad(output.sum(), inputs)
            reached = gradient.abs().sum((0, 2)).nonzero().flatten()
        else:
            inputs = torch.randn(1, 1, frames * unit, dtype=torch.float64, requires_grad=True)
            (gradient,) = torch.autograd.grad(network.double()(inputs).values[:, middle].sum(), inputs)
            reached = gradient.flatten().nonzero().flatten() // unit
        assert middle - network.context <= reached.min() and reached.max() <= middle + network.context
        assert max(middle - reached.min(), reached.max() - middle) >= network.context - 1, "no wider than needed"


@pytest.mark.parametrize("options", [{}, {"resample": 1}, {"depth": 0}, {"strides": (4, 3), "context": 2}])
def test_mimi_looks_at_the_past_only(options: dict[str, Any]) -> None:
    small = {"width": 4, "strides": (2, 3), "dim": 8, "depth": 2, "heads": 2, "context": 3} | options
    encoder, decoder = build("encoder", "mimi", **small), build("decoder", "mimi", **small)
    inputs = noise(12 * encoder.stride).requires_grad_()
    (gradient,) = torch.autograd.grad(encoder(inputs).values[:, 5].sum(), inputs)
    assert gradient[..., 6 * encoder.stride :].abs().max() == 0 and gradient[..., 6 * encoder.stride - 1].abs().max() > 0
    latents = torch.randn(1, 12, 8, requires_grad=True)
    (gradient,) = torch.autograd.grad(decoder(latents, (12,))[..., 5 * decoder.stride : 6 * decoder.stride].sum(), latents)
    assert gradient[:, 6:].abs().max() == 0 and gradient[:, 5].abs().max() > 0


@pytest.mark.parametrize("sizes", [[1] * 23, [23], [2, 5, 1, 9, 6], [22, 1]])
def test_mimi_in_pieces_is_mimi(sizes: list[int]) -> None:
    small = {"width": 4, "strides": (2, 3), "dim": 8, "depth": 2, "heads": 2, "context": 4}
    encoder, decoder = build("encoder", "mimi", **small), build("decoder", "mimi", **small)
    assert isinstance(encoder, CausalEncoder) and isinstance(decoder, CausalDecoder)
    inputs = noise(23 * encoder.stride, 2)
    whole = encoder(inputs)
    state: State = {}
    pieces = [encoder.step(piece, state).values for piece in inputs.split([size * encoder.stride for size in sizes], -1)]
    torch.testing.assert_close(torch.cat(pieces, 1), whole.values, atol=1e-5, rtol=1e-5)
    state = {}
    sounds = [decoder.step(piece, state) for piece in whole.values.split(sizes, 1)]
    torch.testing.assert_close(torch.cat(sounds, -1), decoder(*whole), atol=1e-5, rtol=1e-5)


def test_the_state_stays_small() -> None:
    small = {"width": 4, "strides": (2, 3), "dim": 8, "depth": 2, "heads": 2, "context": 4}
    encoder = build("encoder", "mimi", **small)
    state: State = {}

    def kept() -> int:
        tensors = [value if isinstance(value, tuple) else (value,) for value in state.values() if not isinstance(value, int)]
        return sum(tensor.numel() for group in tensors for tensor in group)

    sizes = []
    for _ in range(20):
        encoder.step(noise(encoder.stride), state)
        sizes.append(kept())
    assert len(set(sizes[5:])) == 1


def test_vocos_inverts_the_fourier_transform() -> None:
    decoder = build("decoder", "vocos", dim=4, width=4, hidden=4, depth=1, hop=10, window=40)
    signal = noise(300, 2)
    padded = torch.nn.functional.pad(signal, (15, 15))
    frames = padded.unfold(-1, 40, 10)  # [B, 1, T, window]
    spectrum = torch.fft.rfft(frames * torch.hann_window(40))
    polar = torch.stack([spectrum.abs().clamp(min=1e-9).log(), spectrum.angle()], -2).permute(0, 2, 1, 3, 4)  # [B, T, C, 2, bins]
    restored = decoder._to_samples(polar)
    assert restored.shape == signal.shape
    torch.testing.assert_close(restored, signal, atol=1e-5, rtol=1e-4)


def test_vocos_is_never_louder_than_sound_can_be_nor_stuck_there() -> None:
    decoder = build("decoder", "vocos", dim=4, width=4, hidden=4, depth=1, hop=10, window=40)
    spectrum = torch.randn(1, 9, 1, 2, 21, generator=torch.Generator().manual_seed(0))
    loud, louder = (spectrum.index_fill(3, torch.tensor(0), level) for level in (math.log(20.0), 30.0))
    louder.requires_grad_()
    torch.testing.assert_close(decoder._to_samples(louder), decoder._to_samples(loud))
    decoder._to_samples(louder).square().sum().backward()
    assert louder.grad is not None and float(louder.grad[:, :, :, 0].sum()) > 0


def test_vocos_draws_its_spectrum_in_fp32_under_autocast() -> None:
    decoder = build("decoder", "vocos", dim=4, width=4, hidden=4, depth=1, hop=10, window=40)
    found: list[Tensor] = []
    decoder.head.register_forward_hook(lambda *call: found.append(call[-1]))
    with torch.autocast("cpu", torch.bfloat16):
        decoder(torch.randn(1, 5, 4), (5,))
    assert found[0].dtype == torch.float32


@pytest.mark.gpu
def test_vocos_compiled_for_the_gpu_has_the_same_gradients() -> None:
    eager = build("decoder", "vocos", dim=64, width=128, hidden=256, depth=2, hop=320, window=1280).cuda().train()
    compiled = copy.deepcopy(eager)
    compiled.compile(mode="reduce-overhead")
    for step in range(4):
        torch.compiler.cudagraph_mark_step_begin()
        made = torch.Generator().manual_seed(step)
        latents, weights = torch.randn(8, 75, 64, generator=made).cuda(), torch.randn(8, 1, 24000, generator=made).cuda()
        for decoder in (eager, compiled):
            decoder.zero_grad(set_to_none=True)
            (decoder(latents, (75,)) * weights).sum().backward()
        for one, other in zip(eager.parameters(), compiled.parameters(), strict=True):
            assert one.grad is not None and other.grad is not None
            torch.testing.assert_close(other.grad, one.grad, rtol=1e-2, atol=1e-2 * float(one.grad.abs().max()))


@pytest.mark.parametrize("channels", [1, 2])
def test_vocos_shapes_context_and_gradients(channels: int) -> None:
    decoder = build("decoder", "vocos", channels=channels, dim=6, width=8, hidden=12, depth=2, hop=10, window=40)
    for count in (1, 2, 40):
        assert decoder(torch.randn(3, count, 6), (count,)).shape == (3, channels, 10 * count)
    latents = torch.randn(1, 41, 6, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(decoder.double()(latents, (41,))[..., 200:210].sum(), latents)
    reached = gradient.abs().sum((0, 2)).nonzero().flatten()
    assert 20 - decoder.context <= reached.min() and reached.max() <= 20 + decoder.context
    decoder.float()(torch.randn(1, 5, 6), (5,)).square().mean().backward()
    assert not [key for key, parameter in decoder.named_parameters() if parameter.grad is None or not parameter.grad.any()]
    assert any(decoder.last_layer is parameter for parameter in decoder.parameters())
    with torch.autocast("cpu", torch.bfloat16):
        assert decoder(torch.randn(1, 5, 6), (5,)).isfinite().all()


@pytest.mark.parametrize(
    ("kind", "name", "options"),
    [
        ("encoder", "dac", {"strides": ()}),
        ("encoder", "dac", {"strides": (1, 2)}),
        ("decoder", "dac", {"width": 24}),
        ("encoder", "mimi", {"strides": (0,)}),
        ("encoder", "mimi", {"heads": 3}),
        ("decoder", "vocos", {"window": 1281}),
        ("decoder", "vocos", {"window": 160}),
    ],
)
def test_refuses_options_that_cannot_be(kind: str, name: str, options: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=f"{name}|transformer"), torch.device("meta"):
        tokkit.build(kind, name, **options)
