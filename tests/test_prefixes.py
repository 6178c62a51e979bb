"""Leading tokens by number, by budget and by quality."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

import tokkit
from tests.small import tokenizer
from tokkit.errors import InputError
from tokkit.metrics.psnr import PSNR
from tokkit.prefixes import Cut, Target, shortest
from tokkit.quantizers.fsq import FSQ
from tokkit.quantizers.nested import Nested
from tokkit.tokens import Tokens

N = 11


def nested(num_tokens: int = N) -> Nested:
    return Nested(quantizer=FSQ(levels=(8, 5, 5)), num_tokens=num_tokens)


def tokens_of(samples: int) -> Tokens:
    """Each sample's codes are its number, so that a fake decoder knows whose they are."""
    codes = torch.arange(samples).view(-1, 1, 1).expand(-1, N, 1).contiguous()
    return Tokens(codes=codes, codebook_sizes=(200,), grid=(N,))


def errors_by(error: Callable[[int, int], float]) -> tuple[Callable[[Tokens], list[torch.Tensor]], list[int]]:
    """A decoder of pictures of 0 that is wrong by error(sample, length), and the lengths that it was asked for."""
    asked: list[int] = []

    def decode_each(tokens: Tokens) -> list[torch.Tensor]:
        length = tokens.codes.shape[1]
        asked.extend([length] * len(tokens))
        return [torch.full((3, 2, 2), error(int(codes[0, 0]), length)) for codes in tokens.codes]

    return decode_each, asked


def found(error: Callable[[int, int], float], samples: int = 1, target: float = 20.0) -> list[int]:
    decode_each, _ = errors_by(error)
    originals = [torch.zeros(3, 2, 2)] * samples
    results = shortest(tokens_of(samples), originals, Target(PSNR(), target), nested(), decode_each)
    assert all(len(result) == 1 and int(result.codes[0, 0, 0]) == index for index, result in enumerate(results))
    return [result.codes.shape[1] for result in results]


def test_every_sample_gets_its_shortest_prefix() -> None:
    """PSNR 20 is an error of 0.1: sample i reaches it from length i + 1 on."""
    assert found(lambda sample, length: 0.05 if length > sample else 0.5, samples=N) == list(range(1, N + 1))


def test_all_tokens_are_kept_where_they_do_not_reach_the_target() -> None:
    assert found(lambda sample, length: 0.5, samples=2) == [N, N]


@pytest.mark.parametrize("good", [{2, 5, 6, 7, 11}, {3, 11}, {1, 2, 9, 10, 11}, {4, 5, 6, 7, 8, 9, 10, 11}])
def test_without_monotony_the_length_reaches_the_target_and_the_next_shorter_does_not(good: set[int]) -> None:
    (length,) = found(lambda sample, length: 0.05 if length in good else 0.5)
    assert length in good and length - 1 not in good


def test_decodings_grow_with_the_logarithm() -> None:
    decode_each, asked = errors_by(lambda sample, length: 0.5 if length < 7 else 0.05)
    shortest(tokens_of(1), [torch.zeros(3, 2, 2)], Target(PSNR(), 20), nested(), decode_each)
    assert asked[0] == N and len(asked) <= 1 + 4


def test_target_of_a_metric_that_is_better_when_lower() -> None:
    mae = Target.parse("mae:0.1", "image")
    assert mae.reached(torch.zeros(3, 2, 2), torch.full((3, 2, 2), 0.05))
    assert not mae.reached(torch.zeros(3, 2, 2), torch.full((3, 2, 2), 0.2))


@pytest.mark.parametrize("text", ["psnr", "psnr:", "psnr:high", "psnr:nan"])
def test_target_that_is_no_metric_and_number(text: str) -> None:
    with pytest.raises(InputError, match="expected a metric and a number"):
        Target.parse(text, "image")


def test_target_of_another_modality_and_a_pair_without_a_value() -> None:
    with pytest.raises(InputError, match="judges the modality audio"):
        Target.parse("si_sdr:3", "image")
    with pytest.raises(InputError, match="target=psnr:20 cannot be measured"):
        Target(PSNR(), 20).reached(torch.zeros(3, 2, 2), torch.full((3, 2, 2), torch.nan))


@pytest.mark.parametrize(("budget", "expected"), [(8, 1), (15, 1), (16, 2), (87, 10), (88, 11), (1000, 11)])
def test_a_budget_pays_for_as_many_tokens_as_it_holds(budget: int, expected: int) -> None:
    codes = torch.zeros(2, N, 1, dtype=torch.int64)
    assert Cut(max_bits=budget).of(codes, (N,), nested(), "small").shape[1] == expected


def test_a_budget_below_one_token_and_a_quantizer_without_order() -> None:
    codes = torch.zeros(1, N, 1, dtype=torch.int64)
    with pytest.raises(InputError, match="takes 8 bits"):
        Cut(max_bits=7).of(codes, (N,), nested(), "small")
    with pytest.raises(InputError, match=r"max_bits=512: the tokens of .* have no order"):
        Cut(max_bits=512).of(codes, (N,), FSQ(levels=(8, 5, 5)), "small")


def test_scales_are_cut_between_scales_only() -> None:
    quantizer = tokkit.build("quantizer", "multiscale", quantizer=FSQ(levels=(8, 5, 5)), scales=(1, 2, 4))
    codes = torch.zeros(1, 21, 1, dtype=torch.int64)
    assert Cut(max_bits=8 * 20).of(codes, (4, 4), quantizer, "small").shape[1] == 5


def ordered() -> tokkit.Tokenizer:
    torch.manual_seed(0)
    options = {"num_tokens": N, "patch": 4, "width": 16, "depth": 1, "heads": 2}
    return tokkit.Tokenizer(
        modality="image",
        encoder=tokkit.build("encoder", "vit1d", **options),
        quantizer=nested(),
        decoder=tokkit.build("decoder", "vit1d", **options),
    ).eval()


def test_encode_with_a_target_and_a_budget() -> None:
    model = ordered()
    pictures = torch.rand(3, 3, 8, 12, generator=torch.Generator().manual_seed(0))
    whole = model.encode(pictures)
    quality = [[PSNR()(original, model.decode(cut)[0]) for cut in prefixes(part)] for original, part in zip(pictures, whole, strict=True)]
    wanted = sorted(quality[1])[N // 2]
    results = model.encode(pictures, target=f"psnr:{wanted:.9f}")
    for values, result, part in zip(quality, results, whole, strict=True):
        length = result.codes.shape[1]
        assert torch.equal(result.codes, part.codes[:, :length]) and result.sizes == ((8, 12),)
        if values[-1] >= wanted:
            assert values[length - 1] >= wanted - 1e-6 and (length == 1 or values[length - 2] < wanted + 1e-6)
        else:
            assert length == N
    assert model.encode(pictures, max_bits=24).payload_bits == 24
    assert all(result.codes.shape[1] <= 3 for result in model.encode(pictures, target="psnr:99", max_bits=24))
    small = torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(1))
    mixed = list(model.encode_each([*pictures, small], target=f"psnr:{wanted:.9f}"))
    alone = [*results, *model.encode(small, target=f"psnr:{wanted:.9f}")]
    assert all(torch.equal(one.codes, other.codes) for one, other in zip(mixed, alone, strict=True))
    assert [tokens.payload_bits for tokens in model.encode_each([pictures[0], small], max_bits=24)] == [24, 24]


def prefixes(tokens: Tokens) -> list[Tokens]:
    return [
        Tokens(codes=tokens.codes[:, :k], codebook_sizes=tokens.codebook_sizes, grid=tokens.grid, sizes=tokens.sizes)
        for k in range(1, N + 1)
    ]


def test_a_target_needs_ordered_tokens() -> None:
    with pytest.raises(InputError, match="target=psnr:20: the tokens of 'small' have no order"):
        tokenizer().encode(torch.rand(3, 8, 8), target="psnr:20")


@pytest.mark.parametrize("asked", [{"num_tokens": 1.5}, {"num_tokens": True}, {"num_tokens": "4"}, {"max_bits": "9"}, {"target": 28}])
def test_what_is_no_number_of_tokens(asked: dict[str, object]) -> None:
    option, value = next(iter(asked.items()))
    with pytest.raises(InputError, match=f"^{option}={value!r}.*(number|metric)"):
        ordered().encode(torch.rand(3, 8, 8), **asked)  # type: ignore[call-overload]
