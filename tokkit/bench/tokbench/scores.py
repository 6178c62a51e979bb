"""T-ACC, T-NED and F-Sim: what a word or face scores, the size buckets, and the mean that is reported.

Every instance falls by its `ratio` into one of three half-open buckets, lo <= ratio < hi; others are ignored. All sets are pooled, each
bucket is averaged, and the score is the unweighted mean of the three averages.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

BUCKETS = ("small", "medium", "large")
RESAMPLES = 2000

TEXT_EDGES = {256: (0.02, 0.03, 0.04, 1.0), 512: (0.01, 0.02, 0.03, 1.0), 1024: (0.005, 0.01, 0.02, 1.0)}
FACE_EDGES = {256: (0.1, 0.2, 0.3, 1.0), 512: (0.05, 0.1, 0.2, 1.0), 1024: (0.02, 0.05, 0.1, 1.0)}
"""Setting -> edges of small, medium and large, for pictures; the table of June 2025, which the published leaderboard follows (that of May
had other edges for faces)."""

VIDEO_TEXT_EDGES = {256: (0.01, 0.02, 0.03, 1.0), 480: (0.005, 0.01, 0.02, 1.0)}
VIDEO_FACE_EDGES = {256: (0.05, 0.1, 0.2, 1.0), 480: (0.02, 0.05, 0.1, 1.0)}
"""The same for videos, whose settings are the shorter side."""


@dataclass(frozen=True)
class BucketScores:
    """One score.

    Attributes:
        mean: of the three buckets, unweighted; None where a bucket is empty.
        buckets: bucket -> its mean; None where it is empty.
        counts: bucket -> instances in it.
        interval: of the mean, 95 %, by the bootstrap over pictures; None where there are fewer than two, or no mean.
        pictures: picture -> for each bucket the sum of its values and how many there are.
    """

    mean: float | None
    buckets: dict[str, float | None]
    counts: dict[str, int]
    interval: tuple[float, float] | None = None
    pictures: dict[str, list[list[float]]] = field(default_factory=dict, repr=False)


def bucket_of(ratio: float, edges: Sequence[float]) -> str | None:
    """The bucket of an instance; None for one that is ignored."""
    for name, low, high in zip(BUCKETS, edges[:-1], edges[1:], strict=True):
        if low <= ratio < high:
            return name
    return None


def bucket_scores(scored: Iterable[tuple[float, float] | tuple[float, float, str]], edges: Sequence[float]) -> BucketScores:
    """The score of (ratio, value) pairs, pooled over all sets; with a third entry, the picture that an instance is in."""
    values: dict[str, list[float]] = {name: [] for name in BUCKETS}
    pictures: dict[str, list[list[float]]] = {}
    for number, (ratio, value, *picture) in enumerate(scored):
        bucket = bucket_of(ratio, edges)
        if bucket is not None:
            values[bucket].append(value)
            sums = pictures.setdefault(picture[0] if picture else str(number), [[0.0, 0] for _ in BUCKETS])[BUCKETS.index(bucket)]
            sums[0] += value
            sums[1] += 1
    means = {name: fmean(found) if found else None for name, found in values.items()}
    filled = [mean for mean in means.values() if mean is not None]
    whole = len(filled) == len(BUCKETS)
    interval = None
    if whole and len(pictures) > 1:
        low, high = np.nanquantile(resampled(list(pictures.values())), [0.025, 0.975])
        interval = float(low), float(high)
    return BucketScores(fmean(filled) if whole else None, means, {name: len(found) for name, found in values.items()}, interval, pictures)


def resampled(pictures: Sequence[list[list[float]]], *, seed: int = 0) -> NDArray[np.float64]:
    """The score of `RESAMPLES` drawings of as many pictures, with replacement; the same seed draws the same pictures.

    Words of a picture stand and fall together, so pictures are drawn, not words. A drawing without any word of a bucket is not a number.
    """
    table = np.array(pictures, dtype=np.float64)
    drawn = np.random.default_rng(seed).multinomial(len(table), np.full(len(table), 1 / len(table)), RESAMPLES).astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        found: NDArray[np.float64] = (drawn @ table[..., 0] / (drawn @ table[..., 1])).mean(1)
    return found


def accuracy(text: str, read: str) -> float:
    """1 where a word was read exactly, with case and punctuation; else 0."""
    return float(text == read)


def similarity(text: str, read: str) -> float:
    """1 - edit distance / length of the longer string (1 - NED): higher is better."""
    longer = max(len(text), len(read))
    return 1 - edit_distance(text, read) / longer if longer else 1.0


def edit_distance(first: str, second: str) -> int:
    """Levenshtein's distance: insertions, deletions and substitutions cost 1."""
    row = list(range(len(second) + 1))
    for i, a in enumerate(first, 1):
        diagonal, row[0] = row[0], i
        for j, b in enumerate(second, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (a != b))
    return row[-1]
