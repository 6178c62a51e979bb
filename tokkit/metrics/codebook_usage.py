"""How much of its codebooks a quantizer uses."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean

import torch.distributed as dist
from torch import Tensor

from tokkit.ops import usage_histogram


@dataclass(frozen=True)
class LevelUsage:
    """One codebook: a residual level, a group, or the only one.

    Attributes:
        size: K.
        tokens: codes counted.
        used: fraction of the K codes that occurred.
        entropy: of the histogram, in bits; log2 K at most. With few tokens it is biased low: log2(tokens) bounds it too.
        perplexity: 2^entropy, the number of equally used codes of the same entropy.
    """

    size: int
    tokens: int
    used: float
    entropy: float
    perplexity: float


@dataclass(frozen=True)
class Usage:
    """Every codebook of a quantizer."""

    levels: tuple[LevelUsage, ...]

    def summary(self) -> dict[str, float]:
        """Means over the codebooks, and the worst usage, which a mean can hide."""
        if not self.levels:
            return {}
        return {
            "usage": fmean(level.used for level in self.levels),
            "usage_lowest": min(level.used for level in self.levels),
            "perplexity": fmean(level.perplexity for level in self.levels),
            "entropy_bits": fmean(level.entropy for level in self.levels),
        }


class CodebookUsage:
    """Counts codes, batch after batch, on the device that they are on."""

    def __init__(self, codebook_sizes: tuple[int, ...]):
        self.codebook_sizes = codebook_sizes
        self._counts: list[Tensor] | None = None

    def update(self, codes: Tensor) -> None:
        """Count [..., Q] int64; Q may be smaller than the number of codebooks, where levels were left out."""
        counts = usage_histogram(codes, self.codebook_sizes[: codes.shape[-1]])
        if self._counts is None:
            self._counts = list(counts)
            return
        self._counts = [before + new for before, new in zip(self._counts, counts, strict=True)]

    def reset(self) -> None:
        self._counts = None

    def compute(self) -> Usage:
        """The usage of all codes since `reset`, of all processes together."""
        levels = []
        for counts in self._counts or []:
            if dist.is_initialized():
                counts = counts.clone()
                dist.all_reduce(counts)
            total = int(counts.sum())
            share = counts[counts > 0].double() / max(total, 1)
            entropy = float(-(share * share.log2()).sum())
            levels.append(LevelUsage(len(counts), total, len(share) / len(counts), abs(entropy), 2 ** abs(entropy)))
        return Usage(tuple(levels))
