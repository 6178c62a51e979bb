"""The prior: causal, only ids whose turn it is, draws by hand and by seed, learns, is saved, and its samples decode."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from tests.small import tokenizer
from tokkit.cli.main import app
from tokkit.errors import InputError, RecipeError
from tokkit.networks.transformer import Shape
from tokkit.prior import Prior, PriorRecipe, train_prior
from tokkit.search import best_of, pixel_verifier
from tokkit.tokens import Tokens, flatten_codes

CPU = torch.device("cpu")
SIZES = (5, 3)


def like(num_tokens: int = 4) -> Tokens:
    return Tokens(codes=torch.zeros(1, num_tokens, 2, dtype=torch.int64), codebook_sizes=SIZES, grid=(num_tokens,))


def prior() -> Prior:
    torch.manual_seed(0)
    built = Prior(like=like(), shape=Shape(16, 1, 2)).eval()
    torch.nn.init.normal_(built.embedding.weight, std=0.3)
    return built


def random_codes(count: int, num_tokens: int = 4) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.stack([torch.randint(size, (count, num_tokens), generator=generator) for size in SIZES], -1)


def test_a_prediction_does_not_depend_on_what_follows() -> None:
    model = prior()
    ids = flatten_codes(random_codes(1), SIZES, bos=True)[:, :-1]
    changed = ids.clone()
    changed[0, 5] = (ids[0, 5] + 1) % 5 + (0 if ids[0, 5] < 5 else 5)
    before, after = model(ids), model(changed)
    assert torch.allclose(before[:, :5], after[:, :5], atol=1e-5) and not torch.allclose(before[:, 5:], after[:, 5:], atol=1e-3)


def test_only_ids_whose_turn_it_is_are_predicted() -> None:
    probabilities = prior()(flatten_codes(random_codes(2), SIZES, bos=True)[:, :-1]).softmax(-1)
    assert probabilities.shape == (2, 8, 8)
    assert not probabilities[:, ::2, 5:].any() and not probabilities[:, 1::2, :5].any()
    assert probabilities[:, ::2, :5].all()


def test_ids_are_picked_off_the_cumulated_probabilities() -> None:
    model = prior()
    first = model(torch.tensor([[8]]))[0, 0, :5].softmax(-1)
    edges = torch.cat([torch.zeros(1), first.cumsum(0)])
    middles = (edges[:-1] + edges[1:]) / 2
    draws = torch.stack([middles, torch.zeros(5)], 1)
    assert model.extend(torch.empty(5, 0, 2, dtype=torch.int64), draws)[:, 0, 0].tolist() == [0, 1, 2, 3, 4]


def test_temperature_and_top_k() -> None:
    model = prior()
    likeliest = model(torch.tensor([[8]]))[0, 0, :5].argmax().item()
    nothing, draws = torch.empty(50, 0, 2, dtype=torch.int64), torch.rand(50, 2, generator=torch.Generator().manual_seed(0))
    assert set(model.extend(nothing, draws, top_k=1)[:, 0, 0].tolist()) == {likeliest}
    assert set(model.extend(nothing, draws, temperature=1e-4)[:, 0, 0].tolist()) == {likeliest}
    assert len(set(model.extend(nothing, draws)[:, 0, 0].tolist())) > 1
    for nonsense in (0, -1, math.nan, math.inf):
        with pytest.raises(InputError, match="must be positive"):
            model.extend(nothing, draws, temperature=nonsense)
    with pytest.raises(InputError, match="at most 4 tokens, asked for 5"):
        model.extend(nothing, torch.rand(50, 10))


def test_a_seed_gives_the_same_sample_whatever_the_others() -> None:
    model = prior()
    together = model.sample([3, 9, 4])
    assert together.names == ("sample-3", "sample-9", "sample-4")
    assert torch.equal(model.sample([9]).codes, together.codes[1:2])
    assert torch.equal(model.sample([9], num_tokens=2).codes, together.codes[1:2, :2])
    assert len({tuple(codes.flatten().tolist()) for codes in model.sample(range(20)).codes}) > 10


def write(folder: Path, codes: torch.Tensor) -> None:
    Tokens(codes=codes, codebook_sizes=SIZES, grid=(codes.shape[1],)).save(folder / "some.tok")


def test_it_learns_a_rule_and_is_saved(tmp_path: Path) -> None:
    """Codes that follow from the first one, which takes 5 values: log2(5) bits a sample of 8 ids."""
    first = torch.arange(40) % 5
    codes = torch.stack([(first.unsqueeze(1) + torch.arange(4)) % 5, (first.unsqueeze(1) + torch.arange(4)) % 3], -1)
    write(tmp_path, codes)
    recipe = PriorRecipe(tokens=str(tmp_path), width=32, depth=1, heads=2, steps=150, batch_size=16, lr=5e-3, warmup=5, log_every=75)
    train_prior(recipe, tmp_path / "run", device=CPU)
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [75, 150]
    assert lines[-1]["val/loss"] == pytest.approx(math.log2(5) / 8, abs=0.1)
    model = Prior.load(tmp_path / "run")
    samples = model.sample(range(16)).codes
    assert (samples[:, :, 0] == (samples[:, :1, 0] + torch.arange(4)) % 5).float().mean() > 0.9
    with pytest.raises(InputError, match="holds a prior already"):
        train_prior(recipe, tmp_path / "run", device=CPU)


def test_what_cannot_be_trained_on_or_loaded(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"prior\.yaml and like\.tok and prior\.safetensors missing"):
        Prior.load(tmp_path)
    write(tmp_path, random_codes(1))
    with pytest.raises(InputError, match="1 sample is too few"):
        train_prior(PriorRecipe(tokens=str(tmp_path), steps=1), tmp_path / "run", device=CPU)
    with pytest.raises(InputError, match=r"the first sample of .* has 4 tokens"):
        train_prior(PriorRecipe(tokens=str(tmp_path), steps=1, num_tokens=5), tmp_path / "run", device=CPU)


def test_recipe_problems_have_a_place(tmp_path: Path) -> None:
    path = tmp_path / "gpt.yaml"
    path.write_text("tokens: shards/\nheads: 7\nstepz: 3\n")
    with pytest.raises(RecipeError, match=r"gpt\.yaml:3:1: stepz: unknown field, did you mean 'steps'"):
        PriorRecipe.load(path)
    path.write_text("tokens: shards/\nheads: 7\n")
    with pytest.raises(RecipeError, match=r"gpt\.yaml:2:8: heads: .*no even number of channels"):
        PriorRecipe.load(path)


def test_from_pictures_to_new_pictures(tmp_path: Path) -> None:
    model = tokenizer()
    model.save(tmp_path / "model")
    tokens = model.encode(torch.rand(6, 3, 8, 8))
    tokens.save(tmp_path / "train.tok")
    (tmp_path / "gpt.yaml").write_text(f"tokens: {tmp_path / 'train.tok'}\nwidth: 16\ndepth: 1\nheads: 2\nsteps: 2\nbatch_size: 2\n")
    runner = CliRunner()
    run, out = str(tmp_path / "run"), str(tmp_path / "out")
    result = runner.invoke(app, ["prior", "train", str(tmp_path / "gpt.yaml"), "-o", run, "--device", "cpu"], catch_exceptions=False)
    assert result.exit_code == 0
    options = ["prior", "sample", run, str(tmp_path / "model"), "-o", out, "--count", "2", "--seed", "5", "--device", "cpu"]
    assert runner.invoke(app, options, catch_exceptions=False).exit_code == 0
    assert sorted(path.name for path in Path(out).iterdir()) == ["sample-5.png", "sample-6.png", "samples.tok"]
    drawn = Tokens.load(Path(out) / "samples.tok", expect_fingerprint=model.fingerprint)
    assert model.decode(drawn).shape == (2, 3, 8, 8)
    (Path(out) / "samples.tok").unlink()
    with pytest.raises(InputError, match=r"sample-5.png exists"):
        runner.invoke(app, options, catch_exceptions=False)
    assert not (Path(out) / "samples.tok").exists()
    blocked = [*options[:5], str(tmp_path / "gpt.yaml" / "x"), "--count", "1", "--device", "cpu"]
    with pytest.raises(InputError, match=r"cannot make this folder: .*; give a place"):
        runner.invoke(app, blocked, catch_exceptions=False)
    few = runner.invoke(app, [*options[:5], str(tmp_path / "few"), "--num-tokens", "2", "--device", "cpu"])
    assert isinstance(few.exception, SystemExit | InputError), few.exception
    assert not (tmp_path / "few").exists()


def test_a_prior_proposes_to_a_search() -> None:
    model = tokenizer()
    tokens = model.encode(torch.rand(1, 3, 4, 4))
    torch.manual_seed(0)
    proposal = Prior(like=tokens, shape=Shape(16, 1, 2)).proposal(torch.Generator().manual_seed(0))
    verify = pixel_verifier(model.decode, tokens, torch.rand(3, 4, 4))
    found = best_of(proposal, verify, start=tokens.codes[:, :1], length=4, count=5)
    assert found.codes.shape[1:] == (4, 1) and (found.codes[:, 0] == tokens.codes[0, 0]).all()
