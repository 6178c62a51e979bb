"""Metrics of all samples together in `compare`: their noise, and what cannot be judged."""

from __future__ import annotations

import dataclasses
import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from eval_fakes import Fake, brighter, noisy, pictures
from torch import Tensor
from typer.testing import CliRunner

from tokkit.cli.main import app
from tokkit.errors import InputError
from tokkit.evaluate.compare import compare
from tokkit.evaluate.jackknife import jackknife, paired
from tokkit.evaluate.result import Evaluation
from tokkit.evaluate.run import Options, evaluate
from tokkit.metrics.base import Fold
from tokkit.metrics.frechet import FrechetDistance
from tokkit.metrics.moments import Moments, frechet_distance, joined


def spread(batch: Tensor) -> Tensor:
    """A stand-in for a backbone: brightness and contrast of both halves."""
    halves = batch.float().flatten(1).chunk(2, 1)
    return torch.stack([statistic for half in halves for statistic in (half.mean(1), half.std(1))], 1)


def run(fake: Fake, count: int = 60) -> Evaluation:
    metrics = ["psnr", FrechetDistance("fd/spread", spread)]
    return evaluate(fake, pictures(count, size=16), metrics=metrics, options=Options(curve_samples=0, worst=0, others=0))


@pytest.fixture(scope="module")
def before() -> Evaluation:
    return run(Fake(noisy(0.05, seed=1)))


def test_the_jackknife_of_a_mean_is_its_standard_error() -> None:
    values = np.random.default_rng(0).normal(size=(10, 50))
    without = [Fold(block, 50, np.delete(values, block, 0).mean()) for block in range(10)]
    interval = jackknife(values.mean(), without, 500, level=0.95)
    error = values.mean(1).std(ddof=1) / np.sqrt(10)
    assert interval.high - interval.mean == pytest.approx(2.262157 * error), "Student's, nine degrees of freedom"
    assert interval.mean - interval.low == pytest.approx(interval.high - interval.mean)
    assert jackknife(1.0, without[:4], 200).low is None, "too few blocks"


def test_its_interval_holds_the_difference_of_two_distances_as_often_as_it_says() -> None:
    generator = np.random.default_rng(0)
    truth = (0.6**2 - 0.5**2) + ((1.45**0.5 - 1) ** 2 - (1.22**0.5 - 1) ** 2)
    held = 0
    for _ in range(150):
        base = generator.normal(size=400)
        sets = [base, 0.5 + 1.1 * base + 0.1 * generator.normal(size=400), 0.6 + 1.2 * base + 0.1 * generator.normal(size=400)]
        ends = np.linspace(0, 400, 11).astype(int) + np.array([0, 3, -4, 5, 0, 2, -7, 1, 0, 6, 0])
        blocks = [[_moments(own[low:high]) for low, high in itertools.pairwise(ends)] for own in sets]
        folds = []
        for index in (1, 2):
            wholes = [joined(blocks[0]), joined(blocks[index])]
            pairs = enumerate(zip(blocks[0], blocks[index], strict=True))
            left = [(number, one.count, wholes[0].without(one), wholes[1].without(other)) for number, (one, other) in pairs]
            folds.append([Fold(number, count, _distance(one, other)) for number, count, one, other in left])
            sets[index] = _distance(*wholes)
        interval = jackknife(sets[2] - sets[1], paired(*folds), 400, level=0.95)
        held += interval.low < truth < interval.high
    assert 0.88 < held / 150 < 0.99


def _moments(values: np.ndarray) -> Moments:
    found = Moments(1)
    found.update(values[:, None])
    return found


def _distance(first: Moments, second: Moments) -> float:
    return frechet_distance(first.mean, first.covariance(), second.mean, second.covariance())


def test_taking_a_part_out_is_never_having_counted_it() -> None:
    vectors = np.random.default_rng(0).normal(3, 2, size=(60, 5))
    part, rest = Moments(5), Moments(5)
    part.update(vectors[:13])
    rest.update(vectors[13:])
    left = joined([part, rest]).without(part)
    assert left.count == 47
    np.testing.assert_allclose(left.mean, rest.mean)
    np.testing.assert_allclose(left.covariance(), np.cov(vectors[13:], rowvar=False))
    back = Moments.from_arrays(rest.to_arrays())
    np.testing.assert_array_equal(back.scatter, rest.scatter)


def test_folds_pair_by_the_names_of_the_samples(before: Evaluation) -> None:
    folds = before.folds["fake"]["fd/spread"]
    assert sum(fold.n for fold in folds) == 60 and len(folds) == 10
    turned = evaluate(Fake(noisy(0.05, seed=1)), pictures(60, size=16)[::-1], metrics=[FrechetDistance("fd/spread", spread)])
    assert [fold.n for fold in turned.folds["fake"]["fd/spread"]] == [fold.n for fold in folds]


def test_other_noise_of_the_same_strength_is_no_regression(before: Evaluation) -> None:
    found = compare(before, run(Fake(noisy(0.05, seed=2))))
    (difference,) = [each for each in found.differences if each.name == "fd/spread"]
    assert difference.interval.low < 0 < difference.interval.high and not difference.noticeable
    assert not found.notes


def test_a_larger_distance_is_a_regression_and_a_smaller_one_none(before: Evaluation) -> None:
    worse = run(Fake(noisy(0.08, seed=2)))
    found = compare(before, worse)
    assert "fd/spread" in {difference.name for difference in found.regressions}
    assert {difference.name for difference in compare(worse, before).differences if difference.better} == {"psnr", "fd/spread"}


def test_what_cannot_be_judged_is_told(before: Evaluation) -> None:
    other = run(Fake(noisy(0.08, seed=2)))
    fewer = compare(before, dataclasses.replace(other, rows=other.rows[:-1]))
    assert "fd/spread is not compared: it is of all samples together" in fewer.notes[0]
    old = compare(dataclasses.replace(before, folds={}), other)
    assert "not judged: too few samples" in old.notes[0] and "fd/spread" not in {each.name for each in old.regressions}
    lost = compare(before, dataclasses.replace(other, sets={}, folds={}))
    assert "fd/spread" in {each.name for each in lost.regressions}
    only = compare(dataclasses.replace(before, metrics=[]), dataclasses.replace(other, metrics=[]))
    assert [each.name for each in only.regressions] == ["fd/spread"], "they need no other metric in common"
    with pytest.raises(InputError, match="no metric in common"):
        compare(dataclasses.replace(before, metrics=[], set_metrics=[]), other)


def test_the_command_exits_1_for_a_set_metric_alone(before: Evaluation, tmp_path: Path) -> None:
    for name, evaluation in (("good", before), ("bad", run(Fake(brighter(0.2))))):
        evaluation.write_json(tmp_path / f"{name}.json")
        stored = json.loads((tmp_path / f"{name}.json").read_text())
        stored["metrics"] = []
        (tmp_path / f"{name}.json").write_text(json.dumps(stored))
    good, bad = str(tmp_path / "good.json"), str(tmp_path / "bad.json")
    worse = CliRunner().invoke(app, ["compare", good, bad])
    assert worse.exit_code == 1 and "fd/spread" in worse.output, worse.output
    assert CliRunner().invoke(app, ["compare", bad, good]).exit_code == 0
    assert CliRunner().invoke(app, ["compare", good, good]).exit_code == 0
