"""Mean and covariance of vectors that come batch after batch, and the Fréchet distance between two such Gaussians."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class Moments:
    """Number, mean and scatter of vectors, in float64; sets can be joined and taken out again (Chan, Golub and LeVeque's formulas).

    Attributes:
        count: vectors so far.
        mean: [D].
        scatter: [D, D], the sum of (x - mean)(x - mean)^T.
    """

    def __init__(self, dim: int):
        self.count = 0
        self.mean: Floats = np.zeros(dim)
        self.scatter: Floats = np.zeros((dim, dim))

    def update(self, vectors: Floats) -> None:
        """Count [B, D]."""
        added = Moments(len(self.mean))
        added.count, added.mean = len(vectors), vectors.mean(0)
        centred = vectors - added.mean
        added.scatter = centred.T @ centred
        self.join(added)

    def join(self, other: Moments) -> None:
        """Count everything that the other has counted."""
        total = self.count + other.count
        if not other.count:
            return
        shift = other.mean - self.mean
        self.scatter += other.scatter
        self.scatter += np.outer(shift, shift) * (self.count * other.count / total)
        self.mean = self.mean + shift * (other.count / total)
        self.count = total

    def without(self, part: Moments) -> Moments:
        """What is left when a part of what was joined is taken out; at least one vector must be left."""
        left = Moments(len(self.mean))
        left.count = self.count - part.count
        left.mean = self.mean + (self.mean - part.mean) * (part.count / left.count)
        shift = part.mean - left.mean
        left.scatter = self.scatter - part.scatter
        left.scatter -= np.outer(shift, shift) * (left.count * part.count / self.count)
        return left

    def covariance(self) -> Floats:
        """Unbiased, divided by n - 1, as numpy.cov gives it."""
        return self.scatter / (self.count - 1)

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Everything, to be kept in a file."""
        return {"count": np.array([self.count]), "mean": self.mean, "scatter": self.scatter}

    @classmethod
    def from_arrays(cls, arrays: dict[str, NDArray[Any]]) -> Moments:
        """What `to_arrays` gave."""
        found = cls(0)
        found.count, found.mean, found.scatter = int(arrays["count"][0]), arrays["mean"].astype(float), arrays["scatter"].astype(float)
        return found


def joined(parts: Iterable[Moments]) -> Moments | None:
    """All of them together; None for none."""
    whole: Moments | None = None
    for part in parts:
        whole = whole or Moments(len(part.mean))
        whole.join(part)
    return whole


def frechet_distance(mean: Floats, covariance: Floats, other_mean: Floats, other_covariance: Floats) -> float:
    """|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)) (https://arxiv.org/abs/1706.08500).

    The trace of the root is the sum of the roots of the eigenvalues of C1^(1/2) C2 C1^(1/2), which is symmetric, so no imaginary part has
    to be thrown away and covariances of less than full rank do no harm.
    """
    values, vectors = np.linalg.eigh(covariance)
    root = (vectors * np.sqrt(values.clip(min=0))) @ vectors.T
    product = root @ other_covariance @ root
    trace = np.sqrt(np.linalg.eigvalsh((product + product.T) / 2).clip(min=0)).sum()
    difference = mean - other_mean
    return float(difference @ difference + np.trace(covariance) + np.trace(other_covariance) - 2 * trace)
