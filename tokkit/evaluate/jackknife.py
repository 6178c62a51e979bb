"""The noise of a number that only a whole set of samples has, from that number without each block of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tokkit.evaluate.bootstrap import Interval
from tokkit.metrics.base import Fold

FEWEST = 5
"""Blocks below which a jackknife says nothing."""


def jackknife(value: float, folds: Sequence[Fold], n: int, *, level: float = 0.95) -> Interval:
    """An interval by the delete-a-group jackknife for groups of unequal sizes (https://doi.org/10.1023/A:1008800423698).

    The bias that grows as samples become fewer (of a Fréchet distance, about proportional to 1/n) cancels in its pseudo-values, so they
    spread by noise alone; the interval is Student's around the value itself, with one degree of freedom less than blocks.

    Args:
        value: with all samples.
        folds: without each block.
        n: samples, for the record; blocks may count parts of them (clips of a video).
        level: of the interval.

    Returns:
        Without ends where there are fewer than `FEWEST` blocks.
    """
    blocks = len(folds)
    if blocks < FEWEST:
        return Interval(value, None, None, n, level)
    from scipy.stats import t

    sizes = np.array([fold.n for fold in folds], dtype=float)
    factor = sizes.sum() / sizes
    without = np.array([fold.value for fold in folds])
    pseudo = factor * value - (factor - 1) * without
    estimate = blocks * value - ((1 - 1 / factor) * without).sum()
    variance = ((pseudo - estimate) ** 2 / (factor - 1)).mean()
    reach = float(t.ppf((1 + level) / 2, blocks - 1) * np.sqrt(variance))
    return Interval(value, value - reach, value + reach, n, level)


def paired(before: Sequence[Fold], after: Sequence[Fold]) -> list[Fold]:
    """The differences, after - before, of the blocks that both have with the same number of samples."""
    own = {fold.block: fold for fold in before}
    return [
        Fold(fold.block, fold.n, fold.value - own[fold.block].value) for fold in after if fold.block in own and own[fold.block].n == fold.n
    ]
