"""What every registered discriminator must do, and the shapes of tokkit's own."""

from __future__ import annotations

from typing import Any, cast

import pytest
import torch

from tokkit import registry
from tokkit.errors import InputError
from tokkit.losses.adversarial import LeCam, discriminator_loss, generator_loss, r1_penalty
from tokkit.losses.base import Discriminator
from tokkit.losses.stylegan import minibatch_deviation
from tokkit.recipe import Adversarial, Train
from tokkit.train.adversary import Adversary

NAMES = [
    name for name in registry.names("discriminator") if "channels" in registry.signature(registry.get("discriminator", name)).parameters
]
PICTURES = ["patch", "stylegan"]
SOUNDS = ["mpd", "mrd", "msstft"]


def build(name: str, **more: Any) -> Discriminator:
    torch.manual_seed(0)
    return registry.build("discriminator", name, **registry.get("discriminator", name).example_options() | more)  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", PICTURES)
def test_returns_feature_maps_that_end_in_logits(name: str) -> None:
    outputs = build(name)(torch.randn(2, 3, 32, 40))
    assert isinstance(outputs, list) and all(isinstance(features, list) and len(features) > 1 for features in outputs)
    assert all(features[-1].shape[:2] == (2, 1) for features in outputs)
    assert build(name, channels=1)(torch.randn(1, 1, 32, 32))[0][-1].isfinite().all()


@pytest.mark.parametrize("name", PICTURES)
def test_trains_in_bf16_and_learns_to_tell_two_textures_apart(name: str) -> None:
    discriminator = build(name)
    optimizer = torch.optim.Adam(discriminator.parameters(), 2e-3)
    generator = torch.Generator().manual_seed(0)
    losses = []
    for _ in range(25):
        noise = torch.randn(4, 3, 24, 24, generator=generator)
        with torch.autocast("cpu", torch.bfloat16):
            loss = discriminator_loss("hinge", discriminator(noise), discriminator(noise[..., :1].expand_as(noise)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize("name", PICTURES)
def test_a_gradient_reaches_every_parameter_and_the_picture(name: str) -> None:
    discriminator = build(name)
    pictures = torch.randn(2, 3, 32, 32, requires_grad=True)
    generator_loss("nonsaturating", discriminator(pictures)).backward()
    assert not [key for key, parameter in discriminator.named_parameters() if parameter.grad is None or not parameter.grad.any()]
    assert pictures.grad is not None and pictures.grad.any()


@pytest.mark.parametrize("name", PICTURES)
def test_the_r1_penalty_can_be_differentiated(name: str) -> None:
    discriminator = build(name)
    pictures = torch.randn(2, 3, 32, 32, requires_grad=True)
    r1_penalty(discriminator(pictures), pictures).backward()
    assert any(parameter.grad is not None and parameter.grad.any() for parameter in discriminator.parameters())


@pytest.mark.parametrize("name", PICTURES)
def test_refuses_pictures_too_small_for_a_logit(name: str) -> None:
    discriminator = build(name)
    smallest = discriminator.smallest
    assert discriminator(torch.randn(2, 3, smallest, smallest))[0][-1].numel() >= 2
    with pytest.raises(InputError, match=f"at least {smallest} pixels"):
        discriminator(torch.randn(2, 3, smallest - 1, 64))


@pytest.mark.parametrize("name", registry.names("discriminator"))
def test_the_spec_builds_the_same_network(name: str) -> None:
    discriminator = build(name)
    again = registry.spec_of(discriminator).build()
    assert {key: value.shape for key, value in again.state_dict().items()} == {
        key: value.shape for key, value in discriminator.state_dict().items()
    }


def test_patch_has_as_many_parameters_as_llamagens() -> None:
    """FoundationVision/LlamaGen ce98ec4, discriminator_patchgan.py, counted with its own code."""
    assert sum(parameter.numel() for parameter in registry.build("discriminator", "patch").parameters()) == 2_765_633


@pytest.mark.parametrize(
    ("name", "options"),
    [*((name, {}) for name in NAMES), ("patch", {"norm": "group", "width": 16}), ("patch", {"norm": "none"})],
)
def test_one_that_says_so_looks_at_each_sample_by_itself(name: str, options: dict[str, Any]) -> None:
    discriminator = build(name, channels=1, **options)
    shape = (400,) if name in SOUNDS else (24, 24)
    first, second = torch.randn(2, 1, *shape), torch.randn(2, 1, *shape)
    together = [maps[-1][:2] for maps in discriminator(torch.cat([first, second]))]
    alone = [maps[-1] for maps in discriminator(first)]
    same = all(torch.allclose(one, other, atol=1e-5, rtol=1e-5) for one, other in zip(together, alone, strict=True))
    assert same == discriminator.per_sample


def test_an_adversary_asks_for_the_same_in_one_pass_as_in_two() -> None:
    torch.manual_seed(0)
    judge = registry.Spec("discriminator", "mpd", {"width": 2, "periods": [2, 3]})
    section = Adversarial(discriminators=cast(Any, (judge,)), lecam=0.1)
    adversary = Adversary(section, Train(steps=1), torch.device("cpu"), lambda *parts: parts)
    target, fake = torch.randn(2, 3, 1, 400)
    terms, gradients = [], []
    for together in (True, False):
        adversary.per_sample = together
        terms.append(adversary.discriminator_terms(target, fake))
        total = terms[-1]["discriminator"] + terms[-1]["lecam"]
        gradients.append(torch.autograd.grad(total, list(adversary.module.parameters())))
        adversary.lecam = LeCam()
    torch.testing.assert_close(*terms)
    torch.testing.assert_close(*gradients)


def test_minibatch_deviation_by_hand() -> None:
    pictures = torch.tensor([1.0, 5.0, 3.0, 9.0]).view(4, 1, 1, 1)
    for group, expected in ((2, [1.0, 2.0, 1.0, 2.0]), (1, [0.0] * 4), (4, [float(pictures.std(correction=0))] * 4)):
        output = minibatch_deviation(pictures, group)
        assert torch.equal(output[:, :1], pictures)
        torch.testing.assert_close(output[:, 1].flatten(), torch.tensor(expected), atol=1e-3, rtol=0)
    assert minibatch_deviation(torch.randn(5, 2, 3, 3)).shape == (5, 3, 3, 3)


@pytest.mark.parametrize(
    ("name", "options"),
    [("patch", {"layers": 0}), ("patch", {"norm": "group", "width": 24}), ("stylegan", {"multipliers": ()}), ("stylegan", {"width": 0})],
)
def test_refuses_options_that_cannot_be(name: str, options: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="discriminator"):
        registry.build("discriminator", name, **options)
