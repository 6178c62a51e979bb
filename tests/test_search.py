"""Search over tokens: on a code whose best answer is known, and with a real tokenizer's pixels and features."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import tokkit
from tokkit.errors import InputError
from tokkit.search import beam, best_of, feature_verifier, geometric, linear, lookahead, pixel_verifier, uniform

WANTED = torch.tensor([3, 1, 4, 1, 5, 0, 2, 6])
NOTHING = torch.zeros(1, 0, 1, dtype=torch.int64)


def agreement(codes: Tensor) -> Tensor:
    """How many tokens are the wanted ones, the first counting most."""
    weights = 2.0 ** -torch.arange(codes.shape[1])
    return ((codes[..., 0] == WANTED[: codes.shape[1]]) * weights).sum(1)


def chance(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def every_next(prefixes: Tensor, length: int) -> Tensor:
    """Proposes the eight codes in turn for the next token, and zeros behind it."""
    following = torch.arange(len(prefixes)).view(-1, 1, 1) % 8
    rest = torch.zeros(len(prefixes), length - prefixes.shape[1] - 1, 1, dtype=torch.int64)
    return torch.cat([prefixes, following, rest], 1)


@pytest.mark.parametrize(("length", "expected"), [(1, (1,)), (2, (1, 2)), (6, (1, 2, 4, 6)), (8, (1, 2, 4, 8))])
def test_geometric_steps(length: int, expected: tuple[int, ...]) -> None:
    assert geometric(length) == expected
    assert len(geometric(256)) == 9


def test_linear_steps() -> None:
    assert linear(8, 3) == (3, 6, 8) and linear(8, 4) == (4, 8)


def test_a_beam_that_sees_every_next_token_finds_the_best_code() -> None:
    found = beam(every_next, agreement, start=NOTHING, steps=linear(8, 1), width=2, candidates=8)
    assert found.codes[0, :, 0].tolist() == WANTED.tolist()
    assert found.scores[0] == agreement(WANTED.view(1, 8, 1)) and found.scores[0] > found.scores[1]
    assert found.verified == 8 + 7 * 16


def test_best_of_n_is_the_best_of_what_was_proposed() -> None:
    found = best_of(uniform((8,), chance()), agreement, start=NOTHING, length=8, count=50)
    same = uniform((8,), chance())(NOTHING.expand(50, -1, -1), 8)
    assert found.scores[0] == agreement(same).max() and found.scores.tolist() == sorted(found.scores.tolist(), reverse=True)
    assert found.verified == len(torch.unique(same, dim=0))


def test_more_candidates_and_a_beam_find_better_ones() -> None:
    few, many = (best_of(uniform((8,), chance()), agreement, start=NOTHING, length=8, count=count).scores[0] for count in (2, 200))
    beams = beam(uniform((8,), chance()), agreement, start=NOTHING, steps=geometric(8), width=5, candidates=10)
    assert few < many < beams.scores[0] and beams.verified < 200


def test_what_is_given_stays() -> None:
    start = torch.tensor([[[7], [7]]])
    found = beam(uniform((8,), chance()), agreement, start=start, steps=(4, 8), width=3, candidates=4)
    assert (found.codes[:, :2] == 7).all() and found.codes.shape == (3, 8, 1)


def test_lookahead_sees_past_a_first_token_that_looks_bad() -> None:
    """Token 0 is worth 1 as a 0 and 0 as a 1, but what follows a 1 is worth 5."""

    def propose(prefixes: Tensor, length: int) -> Tensor:
        if prefixes.shape[1] == 0:
            first = torch.arange(len(prefixes)).view(-1, 1, 1) % 2
            return torch.cat([first, first.new_zeros(len(first), length - 1, 1)], 1)
        return torch.cat([prefixes, prefixes[:, :1].expand(-1, length - prefixes.shape[1], -1)], 1)

    def verify(codes: Tensor) -> Tensor:
        return (codes[:, 0, 0] == 0) + 5.0 * codes[:, 1:, 0].sum(1)

    options = {"start": NOTHING, "steps": (1, 3), "width": 1, "candidates": 2}
    assert beam(propose, verify, **options).codes[0, :, 0].tolist() == [0, 0, 0]  # type: ignore[arg-type]
    assert lookahead(propose, verify, **options, ahead=1).codes[0, :, 0].tolist() == [1, 1, 1]  # type: ignore[arg-type]


@pytest.mark.parametrize("steps", [(), (2, 2), (4, 2), (0, 3)])
def test_refuses_steps_that_do_not_rise(steps: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="steps must rise"):
        beam(every_next, agreement, start=NOTHING, steps=steps)


def model() -> tokkit.Tokenizer:
    torch.manual_seed(0)
    options = {"num_tokens": 4, "patch": 4, "width": 16, "depth": 1, "heads": 2}
    built = tokkit.Tokenizer(
        modality="image",
        encoder=tokkit.build("encoder", "vit1d", **options),
        quantizer=tokkit.build("quantizer", "nested", quantizer=tokkit.build("quantizer", "fsq", levels=(3, 3)), num_tokens=4),
        decoder=tokkit.build("decoder", "vit1d", **options),
    ).eval()
    torch.nn.init.normal_(built.decoder.unpatchify.project.weight, std=0.3)  # type: ignore[union-attr, arg-type]
    return built


def test_pixels_lead_to_the_code_of_a_picture() -> None:
    tokenizer = model()
    hidden = tokenizer.encode(torch.rand(1, 3, 8, 8))
    target = tokenizer.decode(hidden)[0]
    verify = pixel_verifier(tokenizer.decode, hidden[0], target)
    assert verify(hidden.codes).tolist() == pytest.approx([0.0], abs=1e-9)
    found = beam(uniform((9,), chance()), verify, start=NOTHING, steps=linear(4, 1), width=20, candidates=40)
    first_of_nothing = verify(uniform((9,), chance())(NOTHING, 4))
    assert found.scores[0] > first_of_nothing[0]
    torch.testing.assert_close(found.scores, verify(found.codes))
    with pytest.raises(InputError, match=r"decode to \[3, 8, 8\], and the target is \[3, 4, 8\]"):
        pixel_verifier(tokenizer.decode, hidden[0], target[:, :4])(hidden.codes)


def test_features_lead_to_a_picture_that_has_them() -> None:
    tokenizer = model()
    hidden = tokenizer.encode(torch.rand(1, 3, 8, 8))

    def features(pictures: Tensor) -> Tensor:
        return pictures.mean((2, 3)) - 0.5

    wanted = torch.tensor([1.0, -1.0, 0.0])
    verify = feature_verifier(tokenizer.decode, hidden[0], features, wanted)
    found = best_of(uniform((9,), chance()), verify, start=NOTHING, length=4, count=30)
    colours = features(tokenizer.decode(hidden[0].unflatten(found.codes[:1, :, 0])))
    assert found.scores[0].item() == pytest.approx(torch.nn.functional.cosine_similarity(colours, wanted[None]).item(), abs=1e-5)
    assert found.scores[0] > found.scores[-1]
