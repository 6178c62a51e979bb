"""Two results of TokBench over the same pictures, against the noise of having looked at so few."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from tokkit.bench.tokbench.run import FORMAT
from tokkit.bench.tokbench.scores import resampled
from tokkit.errors import InputError
from tokkit.evaluate.bootstrap import Interval
from tokkit.evaluate.compare import FEWEST, Comparison, Difference


def is_tokbench(path: Path) -> bool:
    """Whether a file holds a result of TokBench."""
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(stored, dict) and stored.get("format") == FORMAT


def compare_results(before: Path, after: Path, *, level: float = 0.99, seed: int = 0) -> Comparison:
    """The scores that both files have: the noise of a difference is the bootstrap's, the same pictures being drawn for both.

    Args:
        before, after: files that `tokkit bench tokbench` wrote.
        level: of the intervals.
        seed: of the bootstrap.

    Raises:
        InputError: they are of other data or another setting, have no score in common, or too few pictures.
    """
    one, other = (_read(path) for path in (before, after))
    for key, what in (("setting", "setting"), ("data", "data")):
        if one["identity"][key] != other["identity"][key]:
            raise InputError(f"the results are of another {what}: {one['identity'][key]} and {other['identity'][key]}")
    names = [name for name in one["scores"] if name in other["scores"]]
    if not names:
        raise InputError("the results have no score in common")
    found = Comparison(0, 0, 0, [])
    counts = []
    for name in names:
        first, second = (stored["scores"][name]["pictures"] for stored in (one, other))
        common = [picture for picture in first if picture in second]
        counts.append((len(common), len(first) - len(common), len(second) - len(common)))
        difference = _difference(name, one["scores"][name], other["scores"][name], common, level, seed)
        if difference is None:
            found.notes.append(f"{name} is not compared: {len(common)} pictures in common, or a bucket without any")
        else:
            found.differences.append(difference)
    n, only_before, only_after = max(counts)
    return Comparison(n, only_before, only_after, found.differences, found.notes)


def _difference(name: str, before: dict[str, Any], after: dict[str, Any], common: list[str], level: float, seed: int) -> Difference | None:
    if len(common) < FEWEST:
        return None
    tables = [np.array([score["pictures"][picture] for picture in common], dtype=float) for score in (before, after)]
    with np.errstate(invalid="ignore"):
        means = [float((table[..., 0].sum(0) / table[..., 1].sum(0)).mean()) for table in tables]
    if not np.isfinite(means).all():
        return None
    drawn = resampled(tables[1].tolist(), seed=seed) - resampled(tables[0].tolist(), seed=seed)
    low, high = np.nanquantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    interval = Interval(means[1] - means[0], float(low), float(high), len(common), level)
    return Difference(name, "", means[0], means[1], interval, True, 0, 0)


def _read(path: Path) -> dict[str, Any]:
    try:
        stored: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if stored["format"] != FORMAT or any("pictures" not in score for score in stored["scores"].values()):
            raise ValueError("without the scores of its pictures")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: not a result of `tokkit bench tokbench`: {error}") from error
    return stored
