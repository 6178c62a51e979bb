from __future__ import annotations

import math

import numpy as np
import pytest

from tokkit.evaluate.bootstrap import bootstrap_mean


def test_it_is_the_same_every_time() -> None:
    values = np.random.default_rng(1).normal(size=50).tolist()
    assert bootstrap_mean(values, seed=3) == bootstrap_mean(values, seed=3)
    assert bootstrap_mean(values, seed=3) != bootstrap_mean(values, seed=4)


def test_the_interval_is_that_of_the_normal_approximation() -> None:
    values = np.random.default_rng(0).normal(10, 2, size=400)
    found = bootstrap_mean(values.tolist(), level=0.95)
    half = 1.96 * values.std() / math.sqrt(len(values))
    assert found.mean == pytest.approx(values.mean())
    assert found.low == pytest.approx(values.mean() - half, abs=0.03)
    assert found.high == pytest.approx(values.mean() + half, abs=0.03)


def test_it_covers_the_true_mean_about_as_often_as_it_says() -> None:
    generator = np.random.default_rng(2)
    intervals = [bootstrap_mean(generator.normal(size=40).tolist(), level=0.9, resamples=400) for _ in range(200)]
    covered = sum(interval.low <= 0 <= interval.high for interval in intervals if interval.low is not None and interval.high is not None)
    assert 165 <= covered <= 195


def test_many_numbers_are_drawn_in_parts_with_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    values = list(range(100))
    whole = bootstrap_mean(values, resamples=300)
    monkeypatch.setattr("tokkit.evaluate.bootstrap._DRAWS_AT_ONCE", 1000)
    parts = bootstrap_mean(values, resamples=300)
    assert parts == whole


def test_too_few_numbers_have_no_interval() -> None:
    none, one = bootstrap_mean([]), bootstrap_mean([2.5])
    assert (none.mean, none.low, none.high, none.n) == (None, None, None, 0)
    assert (one.mean, one.low, one.high, one.n) == (2.5, None, None, 1)
