"""Runs that are killed and go on, runs that blow up, and what a run leaves behind."""

from __future__ import annotations

import itertools
import json
import pydoc
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import tokkit
from tests.small import RECIPE, write_recipe
from tokkit.errors import InputError, RecipeError, TokkitError
from tokkit.quantizers.nested import Nested
from tokkit.recipe import Recipe, Train
from tokkit.train import checkpoint, train
from tokkit.train.clock import TICK, Clock
from tokkit.train.ema import Average
from tokkit.train.log import MetricsFile, read_metrics
from tokkit.train.loop import NotFinite, Run
from tokkit.train.optim import learning_rate

ADVERSARIAL = (
    "adversarial: {discriminators: [{name: patch, width: 8, layers: 1}], start: 2, adaptive: true, lecam: 0.1, feature_matching: 1.0}\n"
)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_what_a_run_leaves(tmp_path: Path) -> None:
    out = train(Recipe.load(write_recipe(tmp_path)), tmp_path / "run", cpu=True)
    assert {path.name for path in out.iterdir()} == {"recipe.yaml", "model.safetensors", "metrics.jsonl", "samples", "checkpoints"}
    lines = read_metrics(out)
    assert [line["step"] for line in lines if "l1" in line] == [2, 4, 6]
    assert [line["step"] for line in lines if "val/psnr" in line] == [3, 6]
    for name in (
        "l1",
        "quantizer",
        "quantizer/commitment",
        "codebook/usage",
        "codebook/perplexity",
        "codebook/entropy_bits",
        "gradient_norm",
    ):
        assert name in lines[-2], name
    assert [path.name for path in sorted((out / "samples").iterdir())] == ["step-00000003.png", "step-00000006.png"]
    assert len(checkpoint.found(out)) == checkpoint.KEPT
    tok = tokkit.Tokenizer.from_pretrained(out)
    assert tok.encode(torch.rand(3, 16, 16)).codes.shape == (1, 64, 1)
    with pytest.raises(InputError, match="--resume"):
        train(Recipe.load(write_recipe(tmp_path)), out, cpu=True)


@pytest.mark.parametrize("extra", ["", ADVERSARIAL], ids=["plain", "adversarial"])
@pytest.mark.parametrize("killed_at", [3, 4])
def test_a_killed_run_goes_on_exactly(tmp_path: Path, extra: str, killed_at: int, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = Recipe.load(write_recipe(tmp_path, RECIPE + extra), ["train.ema=0.9", "train.schedule=cosine", "train.warmup=2"])
    whole = weights(train(recipe, tmp_path / "whole", cpu=True))

    take_step = Run._take_step

    def killed(run: Run, batch: torch.Tensor) -> None:
        if run.step == killed_at:
            raise KeyboardInterrupt
        take_step(run, batch)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Run, "_take_step", killed)
        train(recipe, tmp_path / "cut", cpu=True)
    torch.rand(7)
    out = train(recipe, tmp_path / "cut", resume=True, cpu=True)
    assert same(weights(out), whole)
    steps = [line["step"] for line in read_metrics(out) if "l1" in line]
    assert steps == sorted(set(steps)) == [2, 4, 6]


@pytest.mark.parametrize("where", ["tokkit.train.checkpoint.save", "tokkit.tokenizer.Tokenizer.save"])
def test_a_run_killed_while_it_saves_its_last_step_still_leaves_that_step(
    tmp_path: Path, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = Recipe.load(write_recipe(tmp_path), ["train.ema=0.9", "train.checkpoint_every=4"])
    whole = weights(train(recipe, tmp_path / "whole", cpu=True))
    calls = itertools.count(1)
    save = pydoc.locate(where)

    def killed(*arguments: object, **options: object) -> None:
        if next(calls) == 2:
            raise KeyboardInterrupt
        save(*arguments, **options)  # type: ignore[operator]

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(where, killed)
        train(recipe, tmp_path / "cut", cpu=True)
    assert same(weights(train(recipe, tmp_path / "cut", resume=True, cpu=True)), whole)


def test_starting_anew_keeps_the_old_run_until_the_new_one_is_set_up(tmp_path: Path) -> None:
    path = write_recipe(tmp_path)
    train(Recipe.load(path), tmp_path / "run", cpu=True)
    kept = checkpoint.found(tmp_path / "run")
    with pytest.raises(InputError, match="no such folder"):
        train(Recipe.load(path, [f"data={{name: folder, path: {tmp_path / 'none'}}}"]), tmp_path / "run", force=True, cpu=True)
    assert checkpoint.found(tmp_path / "run") == kept
    train(Recipe.load(path, ["train.steps=2"]), tmp_path / "run", force=True, cpu=True)
    assert [found.name for found in checkpoint.found(tmp_path / "run")] == ["step-00000002.pt"]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), RuntimeError("unexpected pos 128 vs 0")])
def test_a_full_disk_is_said(tmp_path: Path, error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise error

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(TokkitError, match=r"step 2: cannot write into .*--resume"):
        train(Recipe.load(write_recipe(tmp_path)), tmp_path / "run", cpu=True)
    with pytest.raises(TokkitError, match=r"step 2: .*metrics.jsonl: cannot be written"):
        file = MetricsFile(tmp_path, 0)
        file.path.unlink()
        file.path.mkdir()
        file.write(2, {})


def test_a_tracker_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="trackers: nothing: unknown or not installed; usable here: all"):
        train(Recipe.load(write_recipe(tmp_path), ["train.trackers=[nothing]"]), tmp_path / "run", cpu=True)


def test_resuming_with_another_recipe_is_refused(tmp_path: Path) -> None:
    path = write_recipe(tmp_path)
    train(Recipe.load(path), tmp_path / "run", cpu=True)
    with pytest.raises(InputError, match=r"train.lr \(was 0.001, now 0.5\)"):
        train(Recipe.load(path, ["train.lr=0.5"]), tmp_path / "run", resume=True, cpu=True)
    train(Recipe.load(path, ["train.steps=8"]), tmp_path / "run", resume=True, cpu=True)
    assert read_metrics(tmp_path / "run")[-1]["step"] == 8
    nested = "quantizer={name: nested, quantizer: {name: fsq, levels: [8, 5, 5]}, num_tokens: 64, warmup: 0.5}"
    train(Recipe.load(path, [nested]), tmp_path / "nested", cpu=True)
    with pytest.raises(InputError, match=r"train.steps \(was 6, now 8\)"):
        train(Recipe.load(path, [nested, "train.steps=8"]), tmp_path / "nested", resume=True, cpu=True)


def test_nan_stops_with_step_and_term_and_keeps_the_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    generator_terms = Run._generator_terms

    def poisoned(run: Run, batch: torch.Tensor) -> object:
        terms, pair = generator_terms(run, batch)
        return (terms | {"l1": terms["l1"] * torch.nan}, pair) if run.step == 4 else (terms, pair)

    monkeypatch.setattr(Run, "_generator_terms", poisoned)
    with pytest.raises(NotFinite, match=r"step 4: l1 is nan.*step-00000004.pt"):
        train(Recipe.load(write_recipe(tmp_path)), tmp_path / "run", cpu=True)
    kept = checkpoint.load(tmp_path / "run", torch.device("cpu"))
    assert kept is not None and kept["step"] == 4
    assert all(value.isfinite().all() for value in kept["tokenizer"].values())
    assert all(value.isfinite().all() for value in weights(tmp_path / "run").values())


def test_accumulated_gradients_are_those_of_the_batch(tmp_path: Path) -> None:
    path = write_recipe(tmp_path, RECIPE.replace("{name: vq, dim: 8, codebook_size: 32}", "{name: fsq, levels: [8, 5, 5]}"))
    runs = [weights(train(Recipe.load(path, [f"train.accumulate={n}"]), tmp_path / str(n), cpu=True)) for n in (1, 4)]
    for name, value in runs[0].items():
        torch.testing.assert_close(runs[1][name], value, atol=1e-4, rtol=1e-3)


def test_missing_sections_are_named(tmp_path: Path) -> None:
    path = write_recipe(tmp_path, "\n".join(line for line in RECIPE.splitlines() if not line.startswith("losses")))
    with pytest.raises(RecipeError, match="losses: required for training"):
        train(Recipe.load(path), tmp_path / "run", cpu=True)


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"recipe.yaml: cannot be written"):
        train(Recipe.load(write_recipe(tmp_path)), "/proc/self", cpu=True)  # which nobody can, root neither


def test_a_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    recipe = Recipe.load(write_recipe(tmp_path))
    train(recipe, tmp_path / "run", cpu=True)
    newest = checkpoint.found(tmp_path / "run")[-1]
    newest.write_bytes(newest.read_bytes()[:100])
    with pytest.raises(InputError, match=rf"{newest.name}: cannot be read"):
        train(recipe, tmp_path / "run", resume=True, cpu=True)


def test_learning_rates_by_hand() -> None:
    options = Train(steps=11, lr=1.0, warmup=2, schedule="cosine", min_lr=0.1)
    rates = [learning_rate(step, options) for step in range(11)]
    assert rates[:3] == [0.5, 1.0, 1.0]
    assert rates[6] == pytest.approx(0.1 + 0.9 * 0.5)
    assert rates[10] == pytest.approx(0.1)
    assert learning_rate(9, Train(steps=11, lr=2.0)) == 2.0


def test_the_clock_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("tokkit.train.clock.time.monotonic", lambda: now[0])
    options = Train(steps=1001, minutes=1.0, lr=1.0, warmup=20, schedule="cosine")
    clock = Clock(options, torch.device("cpu"), 1)
    clock.start(0)
    for step, seconds, progress in ((10, 110.0, 0.0), (20, 120.0, 0.0), (25, 125.0, 5 / 980), (30, 130.0, 0.25), (40, 140.0, 0.5)):
        now[0] = seconds
        clock.tick(step)
        assert clock.progress == pytest.approx(progress)
        assert not clock.over
    assert learning_rate(40, options, progress=clock.progress) == pytest.approx(0.5)
    resumed = Clock(options, torch.device("cpu"), 1)
    resumed.load_state_dict(clock.state_dict())
    now[0] = 1000.0
    resumed.start(40)
    now[0] = 1010.0
    resumed.tick(50)
    assert resumed.progress == pytest.approx(0.75)
    now[0] = 1020.0
    resumed.tick(60)
    assert resumed.progress == 1
    assert resumed.over
    by_steps = Clock(Train(steps=11), torch.device("cpu"), 1)
    by_steps.tick(5)
    assert by_steps.progress == 0.5
    by_steps.tick(11)
    assert not by_steps.over


def test_minutes_end_a_run_with_its_schedule(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = itertools.count()
    monkeypatch.setattr(Clock, "_elapsed", lambda clock: float(next(seconds)))  # a second each time it is looked at
    options = ["train.steps=1000000", "train.minutes=0.1", "train.schedule=cosine", "train.min_lr=1e-7", "evaluate.every=1000000"]
    options += ["train.log_every=10", "train.sample_every=1000000", "train.checkpoint_every=1000000"]
    recipe = Recipe.load(write_recipe(tmp_path), options)
    out = train(recipe, tmp_path / "run", cpu=True)
    last = [line for line in read_metrics(out) if "l1" in line][-1]
    assert last["step"] == 7 * TICK
    assert last["learning_rate"] < recipe.section("train").lr / 2
    before = weights(out)
    assert same(weights(train(recipe, tmp_path / "run", resume=True, cpu=True)), before)


def test_nested_dropout_waits_for_its_share_of_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[torch.Tensor] = []
    draw = Nested.draw_lengths

    def remembered(quantizer: Nested, batch: int) -> torch.Tensor:
        kept.append(draw(quantizer, batch))
        return kept[-1]

    monkeypatch.setattr(Nested, "draw_lengths", remembered)
    nested = "quantizer={name: nested, num_tokens: 64, warmup: 0.5, quantizer: {name: fsq, levels: [8, 5, 5]}}"
    train(Recipe.load(write_recipe(tmp_path), [nested]), tmp_path / "run", cpu=True)
    assert [bool((lengths == 64).all()) for lengths in kept] == [True] * 3 + [False] * 3


def test_average_by_hand() -> None:
    module = torch.nn.Linear(1, 1, bias=False)
    module.weight.data.fill_(1.0)
    average = Average(module, 0.5)
    for value in (3.0, 5.0):
        module.weight.data.fill_(value)
        average.update(module)
    first = 1 + (1 - 2 / 11) * (3 - 1)
    assert average.weights["weight"].item() == pytest.approx(first + (1 - 3 / 12) * (5 - first))
    average.swap(module)
    average.swap(module)
    assert module.weight.item() == 5.0


def test_metrics_of_steps_after_the_checkpoint_are_dropped(tmp_path: Path) -> None:
    file = MetricsFile(tmp_path, 0)
    for step in (1, 2, 3):
        file.write(step, {"loss": step / 2})
    with file.path.open("a") as stream:
        stream.write('{"step": 4, "lo')
    MetricsFile(tmp_path, 2)
    assert [json.loads(line) for line in file.path.read_text().splitlines()] == [{"step": 1, "loss": 0.5}, {"step": 2, "loss": 1.0}]


def test_a_new_decoder_learns_the_codes_of_a_trained_encoder(tmp_path: Path) -> None:
    path, fsq = write_recipe(tmp_path), ["quantizer={name: fsq, levels: [8, 5, 5]}", "train.steps=2"]
    first = train(Recipe.load(path, fsq), tmp_path / "first", cpu=True)
    start = [f"train.init_from={first}", "train.init_parts=[encoder, quantizer]", "train.freeze_encoder=true", "train.seed=7"]
    second = train(Recipe.load(path, [*fsq, *start, "decoder.blocks=2"]), tmp_path / "second", cpu=True)
    before, after = weights(first), weights(second)
    kept = [name for name in before if name.startswith(("encoder.", "to_quantizer."))]
    assert kept and all(torch.equal(before[name], after[name]) for name in kept)
    anew = [name for name in before.keys() & after.keys() if name.startswith("decoder.") and before[name].ndim > 1]
    assert anew and not any(torch.equal(before[name], after[name]) for name in anew)
    one, two = (tokkit.Tokenizer.from_pretrained(folder) for folder in (first, second))
    pictures = torch.rand(2, 3, 16, 16)
    assert torch.equal(one.encode(pictures).codes, two.encode(pictures).codes)
    with pytest.raises(InputError, match="init_from"):
        Run(Recipe.load(path, [*fsq, start[0], "decoder.blocks=2"]), tmp_path / "third", cpu=True)
