"""Which samples a report shows: the worst ones, and some taken at random. Keeps only those in memory."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from tokkit.evaluate.exhibit import Exhibit
from tokkit.evaluate.result import Case, MetricInfo, Row


class Gallery:
    """Keeps the worst samples by one metric, and a uniform random choice of the others, in one pass."""

    def __init__(self, worst: int, others: int, metric: MetricInfo | None, seed: int, exhibit: Exhibit | None = None):
        """
        Args:
            worst: how many of the worst to keep.
            others: how many to keep of the rest.
            metric: that says which are worst; without it none are.
            seed: of the random choice.
            exhibit: that says what of a sample is kept; without it nothing is.
        """
        self._exhibit = exhibit
        self._room_worst = worst if metric is not None and exhibit is not None else 0
        self._room_others = others if exhibit is not None else 0
        self._metric = metric
        self._random = random.Random(seed)
        self._worst: list[tuple[float, Case]] = []
        self._others: dict[int, Case] = {}
        self._passed = 0

    def offer(self, original: Tensor, reconstructions: dict[str, Tensor], rows: dict[str, Row], system: str) -> None:
        """Take or leave one sample.

        Args:
            original: [C, *spatial] in the public range.
            reconstructions: of every system that could make one.
            rows: of the same systems.
            system: the judged one, whose values decide.
        """
        score = self._score(rows[system])
        if score is None or (len(self._worst) == self._room_worst and not (self._worst and score < self._worst[-1][0])):
            place = self._reserve()
            if place is not None:
                self._others[place] = self._case(original, reconstructions, rows, system, worst=False)
            return
        self._worst.append((score, self._case(original, reconstructions, rows, system, worst=True)))
        self._worst.sort(key=lambda item: item[0])
        if len(self._worst) > self._room_worst:
            _, dropped = self._worst.pop()
            place = self._reserve()
            if place is not None:
                self._others[place] = replace(dropped, worst=False)

    def pick(self, rows: Sequence[Row]) -> list[int]:
        """The places of the rows, one a sample, of those that it has room for: the worst ones and some others at random."""
        scores = {place: score for place, row in enumerate(rows) if (score := self._score(row)) is not None}
        worst = sorted(scores, key=lambda place: scores[place])[: self._room_worst]
        rest = sorted(set(range(len(rows))) - set(worst))
        return sorted([*worst, *self._random.sample(rest, min(self._room_others, len(rest)))])

    def cases(self) -> list[Case]:
        """The worst first, then the others in the order of their names."""
        others = sorted(self._others.values(), key=lambda case: case.sample)
        return [case for _, case in self._worst] + others

    def _score(self, row: Row) -> float | None:
        """Lower is worse."""
        if self._metric is None or self._metric.name not in row.values:
            return None
        value = row.values[self._metric.name]
        return value if self._metric.higher_is_better else -value

    def _reserve(self) -> int | None:
        """The place that one more of the others gets, by reservoir sampling; None when it gets none."""
        self._passed += 1
        place = self._passed - 1 if self._passed <= self._room_others else self._random.randrange(self._passed)
        return place if place < self._room_others else None

    def _case(self, original: Tensor, reconstructions: dict[str, Tensor], rows: dict[str, Row], system: str, *, worst: bool) -> Case:
        assert self._exhibit is not None  # or there would be no room
        kept = self._exhibit.keep(original, reconstructions, system)
        return Case(rows[system].sample, *kept, rows, worst)
