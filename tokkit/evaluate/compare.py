"""Two evaluations of the same samples, against the noise of having looked at so few."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

from tokkit.errors import InputError
from tokkit.evaluate.bootstrap import Interval, bootstrap_mean
from tokkit.evaluate.result import Evaluation, Row

FEWEST = 5
"""Samples below which a bootstrap says nothing."""
FILE_BYTES = "file_bytes"


@dataclass(frozen=True)
class Difference:
    """One number of the second evaluation against the first, over the samples that both have.

    Attributes:
        name: of a metric, or "file_bytes".
        before, after: means over the samples where both are finite.
        interval: of the mean of the paired differences, after - before.
        higher_is_better: the direction.
        n_worse, n_better: samples where only one of both is perfect (infinite) or failed, by direction.
    """

    name: str
    unit: str
    before: float | None
    after: float | None
    interval: Interval
    higher_is_better: bool
    n_worse: int
    n_better: int

    @property
    def noticeable(self) -> bool:
        """Larger than its noise."""
        return self.better or self.worse

    @property
    def better(self) -> bool:
        return self._beyond_noise(1) or (self.n_better > self.n_worse and not self._beyond_noise(-1))

    @property
    def worse(self) -> bool:
        return self._beyond_noise(-1) or (self.n_worse > self.n_better and not self._beyond_noise(1))

    def _beyond_noise(self, direction: int) -> bool:
        """Whether the whole interval lies on the better (1) or worse (-1) side of zero."""
        if self.interval.low is None or self.interval.high is None:
            return False
        up = direction if self.higher_is_better else -direction
        return self.interval.low > 0 if up > 0 else self.interval.high < 0


@dataclass(frozen=True)
class Comparison:
    """What `compare` found.

    Attributes:
        n: samples that both have.
        only_before, only_after: samples that only one has.
        differences: one for each metric that both have, and the file bytes.
    """

    n: int
    only_before: int
    only_after: int
    differences: list[Difference]

    @property
    def regressions(self) -> list[Difference]:
        return [difference for difference in self.differences if difference.worse]


def compare(before: Evaluation, after: Evaluation, *, level: float = 0.99, seed: int = 0) -> Comparison:
    """The judged systems of two evaluations, sample by sample.

    A metric that failed for a sample in one evaluation only, or is infinite (perfect) in one only, has no difference to average; such
    samples are counted, and more of them for the worse than for the better is a regression where the averaged differences do not say
    the opposite.

    Args:
        before, after: of the same modality, with samples of the same names.
        level: of the bootstrap interval; a difference is larger than its noise when the interval leaves out zero.
        seed: of the bootstrap.

    Raises:
        InputError: different modalities, no metric in common, or too few samples in common.
    """
    if before.modality != after.modality:
        raise InputError(f"one evaluation is of {before.modality}, the other of {after.modality}")
    rows_before, rows_after = _own_rows(before), _own_rows(after)
    common = [key for key in rows_before if key in rows_after]
    if len(common) < FEWEST:
        raise InputError(f"{len(common)} samples have the same names in both evaluations; it takes {FEWEST} to tell a change from noise")
    shared = [metric for metric in before.metrics if metric in after.metrics]
    if not shared:
        raise InputError("the evaluations have no metric in common")
    pairs = [(rows_before[key], rows_after[key]) for key in common]
    differences = [_difference(metric.name, metric.unit, metric.higher_is_better, pairs, level, seed) for metric in shared]
    differences.append(_difference(FILE_BYTES, "B", False, pairs, level, seed))
    return Comparison(len(common), len(rows_before) - len(common), len(rows_after) - len(common), differences)


def _own_rows(evaluation: Evaluation) -> dict[tuple[str, int], Row]:
    """The rows of the judged system by name; of rows with the same name, the first, the second, ..."""
    seen: Counter[str] = Counter()
    rows = {}
    for row in evaluation.rows:
        if row.system == evaluation.model["name"]:
            rows[row.sample, seen[row.sample]] = row
            seen[row.sample] += 1
    return rows


def _difference(
    name: str, unit: str, higher_is_better: bool, pairs: list[tuple[Row, Row]], level: float, seed: int
) -> Difference:
    finite: list[tuple[float, float]] = []
    n_worse = n_better = 0
    for before, after in pairs:
        one, other = _value(before, name), _value(after, name)
        if one is not None and other is not None and math.isfinite(one) and math.isfinite(other):
            finite.append((one, other))
            continue
        rank_before, rank_after = _rank(one, higher_is_better), _rank(other, higher_is_better)
        n_worse += rank_after < rank_before
        n_better += rank_after > rank_before
    interval = bootstrap_mean([other - one for one, other in finite], level=level, seed=seed)
    means = [sum(column) / len(finite) for column in zip(*finite, strict=True)] if finite else [None, None]
    return Difference(name, unit, means[0], means[1], interval, higher_is_better, n_worse, n_better)


def _value(row: Row, name: str) -> float | None:
    return float(row.file_bytes) if name == FILE_BYTES else row.values.get(name)


def _rank(value: float | None, higher_is_better: bool) -> int:
    """Failed below finite, perfect above."""
    if value is None:
        return -1
    if math.isfinite(value):
        return 0
    return 1 if (value > 0) == higher_is_better else -1
