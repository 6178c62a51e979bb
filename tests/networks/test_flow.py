"""Rectified flow: its target by hand, samplers against exact solutions, guidance by its formula, noise of a seed, and the decoder."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

import tokkit
from tokkit.errors import InputError
from tokkit.networks.flow import FlowDecoder
from tokkit.networks.noise import seeded_noise
from tokkit.networks.rectified import Sampler, denoised, draw_sigmas, guided, guided_by_projection, integrate, noised
from tokkit.networks.vit1d import ViT1DDecoder

TINY: dict[str, Any] = {"patch": 4, "width": 16, "depth": 1, "heads": 2}


def test_path_and_velocity_by_hand() -> None:
    data, noise, sigma = torch.tensor([[2.0, -1.0], [4.0, 0.0]]), torch.tensor([[0.0, 1.0], [-4.0, 8.0]]), torch.tensor([0.25, 0.5])
    values = noised(data, noise, sigma)
    assert values.tolist() == [[1.5, -0.5], [0.0, 4.0]]
    assert denoised(values, noise - data, sigma).tolist() == data.tolist()


def test_sigmas_are_sigmoids_of_normal_numbers() -> None:
    torch.manual_seed(0)
    drawn = draw_sigmas(20_000, torch.device("cpu")).logit()
    assert drawn.mean().item() == pytest.approx(0, abs=0.03) and drawn.std().item() == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize("sampler", ["euler", "heun"])
@pytest.mark.parametrize("steps", [1, 2, 7])
def test_a_straight_flow_is_exact_in_any_number_of_steps(sampler: Sampler, steps: int) -> None:
    """All the data in one point c: the velocity is (x - c) / sigma, and every path is straight."""
    point, noise = torch.tensor([[3.0, -2.0]]), torch.tensor([[0.5, 1.0], [-4.0, 2.0]])
    found = integrate(lambda values, sigma: (values - point) / sigma, noise, steps, sampler)
    torch.testing.assert_close(found, point.expand(2, 2), atol=1e-5, rtol=0)


@pytest.mark.parametrize(("sampler", "order"), [("euler", 1), ("heun", 2)])
def test_a_linear_field_converges_to_its_exact_solution_at_the_order_of_the_sampler(sampler: Sampler, order: int) -> None:
    """dx/dsigma = a x + b from sigma 1 to 0: x(0) = (x(1) + b / a) exp(-a) - b / a."""
    a, b = 1.5, 0.7
    noise = torch.tensor([[0.3, -2.0]], dtype=torch.float64)
    exact = (noise + b / a) * math.exp(-a) - b / a
    errors = [(integrate(lambda values, sigma: a * values + b, noise, steps, sampler) - exact).abs().max().item() for steps in (64, 128)]
    assert errors[1] < 0.02
    assert math.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.1)


@pytest.mark.parametrize(("sampler", "expected"), [("euler", [1, 0.75, 0.5, 0.25]), ("heun", [1, 0.75, 0.75, 0.5, 0.5, 0.25, 0.25])])
def test_no_sampler_asks_at_sigma_zero(sampler: Sampler, expected: list[float]) -> None:
    asked: list[float] = []

    def field(values: Tensor, sigma: float) -> Tensor:
        asked.append(sigma)
        return values

    integrate(field, torch.ones(1, 1), 4, sampler)
    assert asked == expected


def test_guidance_by_hand() -> None:
    conditional, unconditional = torch.tensor([[1.0, 2.0]]), torch.tensor([[0.0, 4.0]])
    assert guided(conditional, unconditional, 3.0).tolist() == [[3.0, -2.0]]
    assert guided(conditional, unconditional, 1.0).tolist() == conditional.tolist()
    assert guided(conditional, unconditional, 0.0).tolist() == unconditional.tolist()


def test_projected_guidance_by_hand() -> None:
    """sigma 0.5, x = (2.5, 1): D_c = x - 0.5 v_c = (2, 0), along the first axis; v_c - v_u = (1, -2) keeps its second part."""
    values, conditional, unconditional = torch.tensor([[2.5, 1.0]]), torch.tensor([[1.0, 2.0]]), torch.tensor([[0.0, 4.0]])
    found = guided_by_projection(conditional, unconditional, 3.0, values=values, sigma=0.5, limit=100.0)
    torch.testing.assert_close(found, torch.tensor([[1.0, 2.0 + 2 * -2.0]]))
    # |D_c - D_u| = 0.5 * sqrt(5): a limit of half of that halves the difference.
    found = guided_by_projection(conditional, unconditional, 3.0, values=values, sigma=0.5, limit=0.25 * math.sqrt(5))
    torch.testing.assert_close(found, torch.tensor([[1.0, 2.0 + 2 * -1.0]]))


def splitmix64(seed: int, count: int) -> list[int]:
    """The published generator in Python's integers; the seed is hashed first."""
    mask = 2**64 - 1

    def mix(z: int) -> int:
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & mask
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB & mask
        return z ^ (z >> 31)

    start = mix((seed + 0x9E3779B97F4A7C15) & mask)
    return [mix((start + index * 0x9E3779B97F4A7C15) & mask) for index in range(1, count + 1)]


@pytest.mark.parametrize("seed", [0, 1, 2**40 + 3])
def test_seeded_noise_is_box_mullers_of_splitmix64(seed: int) -> None:
    expected = [
        math.sqrt(-2 * math.log(((bits >> 40) + 0.5) / 2**24)) * math.cos(2 * math.pi * (bits & 0xFFFFFF) / 2**24)
        for bits in splitmix64(seed, 6)
    ]
    assert seeded_noise(torch.tensor([seed]), (2, 3)).flatten().tolist() == pytest.approx(expected, abs=1e-4)


def test_splitmix64_is_the_published_one() -> None:
    """The first output for a state of 1234567 is 6457827717110365317 (Vigna's test vector)."""
    from tokkit.networks.noise import _STEP, _mix

    assert int(_mix(torch.tensor([1234567]) + _STEP)) % 2**64 == 6457827717110365317


def test_seeded_noise_is_normal_and_seeds_differ() -> None:
    noise = seeded_noise(torch.arange(4), (3, 64, 64))
    assert noise.mean().item() == pytest.approx(0, abs=0.02) and noise.std().item() == pytest.approx(1, abs=0.02)
    assert noise.pow(4).mean().item() == pytest.approx(3, abs=0.15)
    correlation = torch.corrcoef(noise.flatten(1)) - torch.eye(4)
    assert correlation.abs().max() < 0.04
    assert torch.equal(seeded_noise(torch.tensor([2]), (3, 64, 64))[0], noise[2])


def decoder(**options: Any) -> FlowDecoder:
    torch.manual_seed(0)
    built = FlowDecoder(**TINY | {"num_tokens": 6, "steps": 3} | options).eval()
    torch.nn.init.normal_(built.unpatchify.project.weight, std=0.2)
    return built


def latents(count: int, tokens: int = 6) -> Tensor:
    return torch.randn(count, tokens, 16, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("options", [{}, {"guidance": 3.0}, {"guidance": 3.0, "apg": 2.0, "sampler": "heun"}, {"predict": "input"}])
def test_a_seed_gives_the_same_whatever_the_batch(options: dict[str, Any]) -> None:
    model = decoder(**options)
    given = latents(4)
    seeds = torch.tensor([5, 0, 7, 5])
    together = model.draw(given, (2, 3), seeds)
    for index in range(4):
        alone = model.draw(given[index : index + 1], (2, 3), seeds[index : index + 1])
        torch.testing.assert_close(together[index : index + 1], alone, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(model.draw(given, (2, 3), seeds + 1), together, atol=1e-3)


def test_forward_draws_with_the_seed_of_the_decoder() -> None:
    model = decoder()
    given = latents(2)
    assert torch.equal(model(given, (2, 3)), model.draw(given, (2, 3), torch.tensor([0, 0])))
    model.seed = 9
    assert torch.equal(model(given, (2, 3)), model.draw(given, (2, 3), torch.tensor([9])))
    model.steps = 1
    noise = seeded_noise(torch.tensor([9]), (3, 8, 12)).expand(2, -1, -1, -1)
    torch.testing.assert_close(model(given, (2, 3)), noise - model.velocity(noise, torch.ones(2), given, (2, 3)))


def test_learn_is_the_mean_squared_error_of_the_velocity(monkeypatch: pytest.MonkeyPatch) -> None:
    model = decoder(drop=0.0)
    target = torch.rand(2, 3, 8, 12) * 2 - 1
    seen: dict[str, Tensor] = {}

    def velocity(values: Tensor, sigma: Tensor, given: Tensor, grid: tuple[int, ...]) -> Tensor:
        seen.update(values=values, sigma=sigma)
        return torch.zeros_like(values)

    monkeypatch.setattr(model, "velocity", velocity)
    estimate, terms = model.learn(latents(2), (2, 3), target)
    noise = (seen["values"] - (1 - seen["sigma"].view(2, 1, 1, 1)) * target) / seen["sigma"].view(2, 1, 1, 1)
    torch.testing.assert_close(terms["flow"], (noise - target).square().mean(), rtol=1e-4, atol=1e-4)
    assert torch.equal(estimate, seen["values"])  # a velocity of 0 leads nowhere


def test_the_prediction_of_the_input_and_its_velocity_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    """v = (x - D) / sigma, held below sigma 0.05: the estimate of the data is the network's output above it."""
    model = decoder(predict="input")
    values, given = torch.randn(3, 3, 8, 12), latents(3)
    sigma = torch.tensor([0.9, 0.3, 0.01])
    output = torch.rand(3, 3, 8, 12)
    monkeypatch.setattr(model.unpatchify, "forward", lambda tokens, grid: output)
    velocity = model.velocity(values, sigma, given, (2, 3))
    torch.testing.assert_close(denoised(values, velocity, sigma)[:2], output[:2])
    torch.testing.assert_close(velocity[2], (values[2] - output[2]) / 0.05)


def test_dropped_samples_see_no_latents() -> None:
    model = decoder(drop=0.999999)
    target = torch.rand(2, 3, 8, 12)
    results = []
    for given in (latents(2), latents(2) * 5):
        torch.manual_seed(1)
        results.append(model.learn(given, (2, 3), target)[1]["flow"])
    assert results[0] == results[1]


def test_takes_leading_latents_or_one_a_cell() -> None:
    model = decoder()
    assert model(latents(1, 2), (2, 3)).shape == (1, 3, 8, 12)
    with pytest.raises(InputError, match="at most num_tokens=6"):
        model(latents(1, 7), (2, 3))
    by_cell = decoder(num_tokens=None)
    assert by_cell(latents(1, 6), (2, 3)).shape == (1, 3, 8, 12)
    with pytest.raises(InputError, match="5 latents do not fill the grid"):
        by_cell(latents(1, 5), (2, 3))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "must be positive"),
        ({"num_tokens": 0}, "must be positive"),
        ({"apg": 0.0}, "must be positive"),
        ({"drop": 1.0}, "drop must be in"),
        ({"drop": 0.0, "guidance": 2.0}, "above 0 for guidance"),
        ({"time_stride": 2}, "goes with rank=3"),
        ({"time_stride": 0, "rank": 3}, "is positive"),
    ],
)
def test_refuses_options_that_cannot_be(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        FlowDecoder(**TINY | options)


@pytest.mark.parametrize(("option", "value"), [("steps", 0), ("steps", -1), ("steps", 2.5), ("sampler", "foo")])
def test_options_that_are_set_later_are_checked_too(option: str, value: object) -> None:
    """No steps would give the noise itself for a picture, and another sampler would pass for Euler's."""
    model = decoder()
    setattr(model, option, value)
    with pytest.raises(InputError, match="steps must be 1 or more and sampler euler or heun"):
        model(latents(1, 2), (2, 3))


def tokenizer() -> tokkit.Tokenizer:
    torch.manual_seed(0)
    return tokkit.Tokenizer(
        modality="image",
        encoder=tokkit.build("encoder", "vit1d", **TINY, num_tokens=6),
        quantizer=tokkit.build("quantizer", "nested", quantizer=tokkit.build("quantizer", "fsq", levels=(8, 5, 5)), num_tokens=6),
        decoder=tokkit.build("decoder", "flow", **TINY, num_tokens=6, steps=4),
    )


def test_a_tokenizer_learns_in_training_and_draws_in_use() -> None:
    model = tokenizer()
    pictures = torch.rand(2, 3, 10, 12)
    output = model(pictures)
    assert output.reconstruction.shape == pictures.shape and set(output.decoder_terms) == {"flow"}
    output.decoder_terms["flow"].backward()
    assert all(p.grad is not None for p in model.encoder.parameters())
    model.eval()
    output = model(pictures)
    assert not output.decoder_terms
    tokens = model.encode(pictures)
    torch.testing.assert_close(model.decode(tokens), output.reconstruction.clamp(0, 1), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(model.decode(tokens[1])[0], model.decode(tokens)[1], atol=1e-5, rtol=1e-5)


def test_the_flow_of_one_picture_is_learned() -> None:
    """All the data in one point: after some steps what is drawn is that picture, whatever the noise."""
    model = decoder(predict="input", drop=0.0, width=32, steps=4).train()
    target = torch.linspace(-1, 1, 3 * 8 * 12).view(1, 3, 8, 12)
    given = torch.randn(1, 6, 32)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(150):
        _, terms = model.learn(given.expand(8, -1, -1), (2, 3), target.expand(8, -1, -1, -1))
        optimizer.zero_grad()
        terms["flow"].backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        drawn = model.draw(given.expand(2, -1, -1), (2, 3), torch.tensor([0, 1]))
    assert (drawn - target).abs().mean() < 0.1


def test_video_is_drawn_on_the_grid_of_causal3d() -> None:
    """17 x 20 x 12 pixels in cells of 4 x 4 x 4, the first frame by itself; a picture is a video of one frame."""
    torch.manual_seed(0)
    flow = tokkit.build("decoder", "flow", **TINY, rank=3, time_stride=4, steps=2)
    assert flow.strides == (4, 4, 4) and flow.output_size((5, 5, 3)) == (17, 20, 12) and flow.output_size((1, 5, 3)) == (1, 20, 12)
    model = tokkit.Tokenizer(
        modality="video",
        encoder=tokkit.build("encoder", "causal3d", width=8, multipliers=(1, 1, 2), time=(2, 2), blocks=1, dim=12),
        quantizer=tokkit.build("quantizer", "fsq", levels=(8, 5, 5)),
        decoder=flow,
    )
    video = torch.rand(2, 3, 15, 18, 12)
    output = model.train()(video)
    assert output.reconstruction.shape == video.shape
    output.decoder_terms["flow"].backward()
    assert all(p.grad is not None for p in model.encoder.parameters())
    tokens = model.eval().encode(video)
    assert tokens.grid == (5, 5, 3) and model.decode(tokens).shape == video.shape
    assert model.decode(model.encode(video[:, :, :1])).shape == (2, 3, 1, 18, 12)


def test_the_first_frame_fills_its_patches_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    flow = FlowDecoder(**TINY, rank=3, time_stride=3)
    seen: list[Tensor] = []
    flow.patchify.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    values = torch.randn(1, 3, 4, 4, 4)
    velocity = flow.velocity(values, torch.tensor([0.5]), torch.randn(1, 2, 16), (2, 1, 1))
    assert velocity.shape == values.shape
    assert torch.equal(seen[0], values[:, :, [0, 0, 0, 1, 2, 3]])


def test_a_decoder_without_a_first_frame_does_not_go_with_causal3d() -> None:
    encoder = tokkit.build("encoder", "causal3d", width=8, multipliers=(1, 1, 2), time=(2, 2), blocks=1, dim=12)
    decoder, quantizer = FlowDecoder(**TINY, rank=3), tokkit.build("quantizer", "fsq", levels=(8, 5, 5))
    with pytest.raises(InputError, match="first frame"):
        tokkit.Tokenizer(modality="video", encoder=encoder, quantizer=quantizer, decoder=decoder)


def test_compiling_reaches_what_drawing_and_learning_share() -> None:
    model = decoder()
    expected = model(latents(1), (2, 3))
    model.compile(backend="eager", fullgraph=True)
    torch.testing.assert_close(model(latents(1), (2, 3)), expected, atol=1e-5, rtol=1e-5)
    assert model.transformer._compiled_call_impl is not None and model._compiled_call_impl is None


def test_a_flow_starts_from_a_vit1d_decoder() -> None:
    """Of no noise at all it makes what that decoder makes, and all weights of that decoder are used."""
    torch.manual_seed(0)
    shape = {**TINY, "num_tokens": 3}
    first, flow = ViT1DDecoder(**shape, smooth=False), FlowDecoder(**shape, predict="input")
    flow.load_state_dict(flow.adopted(first.state_dict()))
    with torch.no_grad():
        for name, parameter in flow.named_parameters():
            if name.endswith((".own", ".last", "time.4.weight")):
                parameter.zero_()
        latents, sigma = torch.randn(2, 3, 16), torch.ones(2)
        values = torch.zeros(2, 3, 8, 12)
        found = denoised(values, flow.velocity(values, sigma, latents, (2, 3)), sigma)
        torch.testing.assert_close(found, first(latents, (2, 3)), atol=1e-4, rtol=1e-4)
    assert flow.adopted(flow.state_dict()).keys() == flow.state_dict().keys()
