"""The prior of blocks: who sees what, draws by hand and by seed, learns a joint distribution, is saved and continues prefixes."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

from tokkit.errors import InputError
from tokkit.networks.transformer import Shape
from tokkit.prior import BlockPrior, Prior, PriorRecipe, train_prior
from tokkit.prior.blocks import sources
from tokkit.tokens import Tokens, flatten_codes

SIZES = (5, 3)
BLOCKS = (1, 1, 2, 4)


def like(num_tokens: int = 8) -> Tokens:
    return Tokens(codes=torch.zeros(1, num_tokens, 2, dtype=torch.int64), codebook_sizes=SIZES, grid=(num_tokens,))


def prior() -> BlockPrior:
    torch.manual_seed(0)
    built = BlockPrior(like=like(), shape=Shape(16, 2, 2), blocks=BLOCKS).eval()
    torch.nn.init.normal_(built.embedding.weight, std=0.3)
    return built


def ids_of(codes: torch.Tensor) -> torch.Tensor:
    return flatten_codes(codes, SIZES).unflatten(1, (-1, 2))


def random_codes(count: int, num_tokens: int = 8) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.stack([torch.randint(size, (count, num_tokens), generator=generator) for size in SIZES], -1)


def test_every_token_is_given_to_the_next_block() -> None:
    assert sources(BLOCKS).tolist() == [-1, 0, 1, 1, 2, 2, 3, 3]
    assert sources((1, 4, 6)).tolist() == [-1, 0, 0, 0, 0, 1, 1, 2, 3, 3, 4]


def test_a_place_sees_exactly_the_blocks_before_its_own() -> None:
    """Change one token: the logits of its own and earlier blocks stay, those of every place of a later block move."""
    model = prior()
    ids = ids_of(random_codes(1))
    before = model(ids)
    block_of = torch.arange(4).repeat_interleave(torch.tensor(BLOCKS))
    for place in range(8):
        changed = ids.clone()
        changed[0, place, 0] = (ids[0, place, 0] + 1) % 5
        moved = (model(changed) - before).abs().amax(-1)[0] > 1e-6
        assert moved.tolist() == (block_of > block_of[place]).tolist()


def test_codes_of_a_block_are_picked_at_once_by_hand() -> None:
    model = prior()
    codes = random_codes(1)
    logits = model(ids_of(codes))[0]
    first, second = logits[:, :5].softmax(-1).cumsum(-1), logits[:, 5:].softmax(-1).cumsum(-1)
    draws = torch.rand(1, 4 * 2, generator=torch.Generator().manual_seed(2))
    expected = [
        (int((first[4 + place] <= draws[0, 2 * place]).sum()), int((second[4 + place] <= draws[0, 2 * place + 1]).sum()))
        for place in range(4)
    ]
    drawn = model.extend(codes[:, :4], draws)
    assert torch.equal(drawn[:, :4], codes[:, :4]) and [tuple(code) for code in drawn[0, 4:].tolist()] == expected
    partly = model.extend(codes[:, :5], draws[:, 2:])
    assert torch.equal(partly[:, :5], codes[:, :5]) and torch.equal(partly[:, 5:], drawn[:, 5:])


def test_a_seed_gives_the_same_sample_whatever_the_others_and_the_length() -> None:
    model = prior()
    together = model.sample([3, 9, 4])
    assert torch.equal(model.sample([9]).codes, together.codes[1:2])
    assert torch.equal(model.sample([9], num_tokens=3).codes, together.codes[1:2, :3])
    ids = ids_of(random_codes(1))
    torch.testing.assert_close(model(ids[:, :3]), model(ids)[:, :3])
    assert len({tuple(codes.flatten().tolist()) for codes in model.sample(range(40)).codes}) > 10
    with pytest.raises(InputError, match="at most 8 tokens, asked for 9"):
        model.sample([1], num_tokens=9)


def test_padding_does_not_count() -> None:
    """Of a short sample only its own tokens are scored, as if it were alone."""
    model = prior()
    short, whole = flatten_codes(random_codes(1)[:, :3], SIZES, bos=True), flatten_codes(random_codes(1), SIZES, bos=True)
    padded = torch.cat([short, short.new_full((1, 10), 9)], 1)
    labels = torch.cat([short, short.new_full((1, 10), -100)], 1)
    torch.testing.assert_close(model.loss(padded, labels), model.loss(short, short))
    assert not torch.allclose(model.loss(whole, whole), model.loss(short, short))


def test_it_learns_a_distribution_and_is_saved(tmp_path: Path) -> None:
    """The first code takes 5 values and the rest follow from it, so a sample of 16 ids holds log2(5) bits."""
    first = torch.arange(40) % 5
    codes = torch.stack([(first.unsqueeze(1) + torch.arange(8)) % 5, (first.unsqueeze(1) * 2 + torch.arange(8)) % 3], -1)
    codes[:, 0, 1] = 1  # of one block no code can follow from another of it
    Tokens(codes=codes, codebook_sizes=SIZES, grid=(8,)).save(tmp_path / "some.tok")
    recipe = PriorRecipe(
        tokens=str(tmp_path), blocks=BLOCKS, width=32, depth=1, heads=2, steps=250, batch_size=16, lr=5e-3, warmup=5, log_every=250
    )
    train_prior(recipe, tmp_path / "run", device=torch.device("cpu"))
    line = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1])
    assert line["val/loss"] == pytest.approx(math.log2(5) / 16, abs=0.05)
    model = Prior.load(tmp_path / "run")
    assert isinstance(model, BlockPrior) and model.blocks == BLOCKS
    samples = model.sample(range(200)).codes
    assert (samples[:, :, 0] == (samples[:, :1, 0] + torch.arange(8)) % 5).float().mean() > 0.95
    shares = samples[:, 0, 0].bincount(minlength=5) / 200
    assert (shares - 0.2).abs().max() < 0.1


@pytest.mark.parametrize("blocks", [(1, 1, 2), (4, 2, 2)])
def test_blocks_that_do_not_fit_are_refused(blocks: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"must not fall and must add up to 8 tokens"):
        BlockPrior(like=like(), shape=Shape(16, 1, 2), blocks=blocks)
