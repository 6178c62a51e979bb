"""Percentile bootstrap of means. Deterministic: the same numbers and seed give the same interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 2000
_DRAWS_AT_ONCE = 2**22


@dataclass(frozen=True)
class Interval:
    """A mean and the interval that holds it with probability `level`.

    Attributes:
        mean: None when there are no numbers.
        low, high: None when there are fewer than two numbers.
        n: how many numbers.
        level: such as 0.95.
    """

    mean: float | None
    low: float | None
    high: float | None
    n: int
    level: float


def bootstrap_mean(values: Sequence[float], *, level: float = 0.95, seed: int = 0, resamples: int = RESAMPLES) -> Interval:
    """The mean of finite numbers and its percentile bootstrap interval.

    Args:
        values: one number a sample.
        level: of the interval.
        seed: of the resampling.
        resamples: how often the numbers are drawn again, with replacement.
    """
    numbers = np.asarray(values, dtype=np.float64)
    if not len(numbers):
        return Interval(None, None, None, 0, level)
    mean = float(numbers.mean())
    if len(numbers) < 2:
        return Interval(mean, None, None, len(numbers), level)
    generator = np.random.default_rng(seed)
    means = np.empty(resamples)
    step = max(1, _DRAWS_AT_ONCE // len(numbers))
    for start in range(0, resamples, step):
        count = min(step, resamples - start)
        drawn = generator.integers(len(numbers), size=(count, len(numbers)))
        means[start : start + count] = numbers[drawn].mean(axis=1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(mean, float(low), float(high), len(numbers), level)
