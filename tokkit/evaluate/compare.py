"""Two evaluations of the same samples, against the noise of having looked at so few.

The noise of a mean is the bootstrap's, over the paired differences of the samples. That of a metric of all samples together (a Fréchet
distance) is the jackknife's, over the paired differences without each of ten blocks of samples; a sample's name says which block it is in.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field

from tokkit.errors import InputError
from tokkit.evaluate.bootstrap import Interval, bootstrap_mean
from tokkit.evaluate.jackknife import jackknife, paired
from tokkit.evaluate.result import Evaluation, MetricInfo, Row

FEWEST = 5
"""Samples below which a bootstrap says nothing."""
FILE_BYTES = "file_bytes"


@dataclass(frozen=True)
class Difference:
    """One number of the second evaluation against the first, over the samples that both have.

    Attributes:
        name: of a metric, or "file_bytes".
        before, after: means over the samples where both are finite.
        interval: of the mean of the paired differences, after - before; of a metric of all samples together, of its difference.
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
        differences: one for each metric that both have, and the file bytes where both know them.
        notes: what could not be compared, and why.
    """

    n: int
    only_before: int
    only_after: int
    differences: list[Difference]
    notes: list[str] = field(default_factory=list)

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
        level: of the intervals; a difference is larger than its noise when its interval leaves out zero.
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
    sets = [metric for metric in before.set_metrics if metric in after.set_metrics]
    if not shared and not sets:
        raise InputError("the evaluations have no metric in common")
    pairs = [(rows_before[key], rows_after[key]) for key in common]
    differences = [_difference(metric.name, metric.unit, metric.higher_is_better, pairs, level, seed) for metric in shared]
    found = Comparison(len(common), len(rows_before) - len(common), len(rows_after) - len(common), differences)
    for metric in sets:
        if found.only_before or found.only_after:
            found.notes.append(f"{metric.name} is not compared: it is of all samples together, and they are not the same")
        else:
            _compare_sets(metric, before, after, level, found)
    sized = [all(pair[side].file_bytes for pair in pairs) for side in (0, 1)]
    if all(sized):
        differences.append(_difference(FILE_BYTES, "B", False, pairs, level, seed))
    elif any(sized):
        found.notes.append(
            f"{FILE_BYTES} is not compared: the {'first' if sized[1] else 'second'} evaluation does not know the size of its code"
        )
    return found


def _compare_sets(metric: MetricInfo, before: Evaluation, after: Evaluation, level: float, found: Comparison) -> None:
    """A metric of all samples together, the same ones in both evaluations."""
    systems = [(evaluation, evaluation.model["name"]) for evaluation in (before, after)]
    one, other = (evaluation.sets.get(system, {}).get(metric.name) for evaluation, system in systems)
    folds = [evaluation.folds.get(system, {}).get(metric.name, []) for evaluation, system in systems]
    interval = Interval(None, None, None, found.n, level)
    if one is not None and other is not None:
        interval = jackknife(other - one, paired(*folds), found.n, level=level)
        if interval.low is None:
            found.notes.append(f"{metric.name} went from {one:.4g} to {other:.4g}, not judged: too few samples to tell its noise")
    lost, gained = one is not None and other is None, one is None and other is not None
    found.differences.append(Difference(metric.name, metric.unit, one, other, interval, metric.higher_is_better, int(lost), int(gained)))


def _own_rows(evaluation: Evaluation) -> dict[tuple[str, int], Row]:
    """The rows of the judged system by name; of rows with the same name, the first, the second, ..."""
    seen: Counter[str] = Counter()
    rows = {}
    for row in evaluation.rows:
        if row.system == evaluation.model["name"]:
            rows[row.sample, seen[row.sample]] = row
            seen[row.sample] += 1
    return rows


def _difference(name: str, unit: str, higher_is_better: bool, pairs: list[tuple[Row, Row]], level: float, seed: int) -> Difference:
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
