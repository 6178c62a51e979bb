"""Rate against quality: sums over samples, at every setting of every system."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, field

from tokkit.evaluate.result import Curve, Point, Row


@dataclass
class _Sums:
    n: int = 0
    payload_rate: float = 0.0
    file_bytes: int = 0
    values: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))


class CurveBuilder:
    """Collects the rows of a sweep; keeps one number a metric, sample and setting."""

    def __init__(self) -> None:
        self._sums: dict[tuple[str, str], dict[int, _Sums]] = defaultdict(lambda: defaultdict(_Sums))

    def add(self, axis: str, setting: int, row: Row) -> None:
        """One sample of `row.system` at one setting."""
        sums = self._sums[row.system, axis][setting]
        sums.n += 1
        sums.payload_rate += row.payload_rate
        sums.file_bytes += row.file_bytes
        for name, value in row.values.items():
            if math.isfinite(value):
                sums.values[name].append(value)

    def curves(self) -> list[Curve]:
        """Every system, with a point for each setting, rising."""
        return [
            Curve(system, axis, [_point(setting, sums) for setting, sums in sorted(settings.items())])
            for (system, axis), settings in self._sums.items()
        ]


def _point(setting: int, sums: _Sums) -> Point:
    means = {name: sum(values) / len(values) for name, values in sums.values.items()}
    return Point(setting, sums.payload_rate / sums.n, sums.file_bytes / sums.n, sums.n, means)
