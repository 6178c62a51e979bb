"""How much of its codebooks a quantizer uses."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean
from typing import Any

import torch
import torch.distributed as dist
from numpy.typing import NDArray
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


DENSE = 1 << 20
"""Codebooks of at most this size are counted code by code; of larger ones, only the codes that occurred are kept."""


class CodebookUsage:
    """Counts codes, batch after batch, on the device that they are on. Codebooks may have any size."""

    def __init__(self, codebook_sizes: tuple[int, ...]):
        self.codebook_sizes = codebook_sizes
        self.reset()

    def reset(self) -> None:
        self._dense: dict[int, Tensor] = {}
        self._seen: dict[int, tuple[Tensor, Tensor]] = {}

    def update(self, codes: Tensor) -> None:
        """Count [..., Q] int64; Q may be smaller than the number of codebooks, where levels were left out."""
        flat = codes.detach().reshape(-1, codes.shape[-1])
        small = [level for level, size in enumerate(self.codebook_sizes[: codes.shape[-1]]) if size <= DENSE]
        counts = usage_histogram(flat[:, small], [self.codebook_sizes[level] for level in small]) if small else ()
        for level, new in zip(small, counts, strict=True):
            self._dense[level] = self._dense[level] + new if level in self._dense else new
        for level in sorted(set(range(codes.shape[-1])) - set(small)):
            values, new = flat[:, level].unique(return_counts=True)
            self._seen[level] = _joined([*([self._seen[level]] if level in self._seen else []), (values, new)])

    def state(self) -> dict[str, NDArray[Any]]:
        """Everything that was counted, as arrays."""
        found = {f"dense/{level}": counts.cpu().numpy() for level, counts in self._dense.items()}
        for level, pair in self._seen.items():
            found |= {f"{name}/{level}": part.cpu().numpy() for name, part in zip(("values", "counts"), pair, strict=True)}
        return found

    def join(self, state: dict[str, NDArray[Any]]) -> None:
        """Count what another one has counted."""
        for name, array in state.items():
            kind, _, number = name.partition("/")
            level = int(number)
            if kind == "dense":
                counts = torch.from_numpy(array)
                self._dense[level] = self._dense[level] + counts.to(self._dense[level].device) if level in self._dense else counts
            elif kind == "values":
                added = torch.from_numpy(array), torch.from_numpy(state[f"counts/{level}"])
                own = [(self._seen[level][0].cpu(), self._seen[level][1].cpu())] if level in self._seen else []
                self._seen[level] = _joined([*own, added])

    def compute(self, *, everyone: bool = True) -> Usage:
        """The usage of all codes since `reset`.

        Args:
            everyone: of all processes together; each of them has to call it then.
        """
        levels = []
        for level in sorted([*self._dense, *self._seen]):
            counts = self._dense[level].clone() if level in self._dense else self._seen[level][1]
            if everyone and dist.is_initialized():
                if level in self._dense:
                    dist.all_reduce(counts)
                else:
                    counts = _joined(_gathered(self._seen[level]))[1]
            levels.append(_usage(self.codebook_sizes[level], counts))
        return Usage(tuple(levels))


def _usage(size: int, counts: Tensor) -> LevelUsage:
    total = int(counts.sum())
    share = counts[counts > 0].double() / max(total, 1)
    entropy = abs(float(-(share * share.log2()).sum()))
    return LevelUsage(size, total, len(share) / size, entropy, 2**entropy)


def _joined(parts: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """(values, counts) of several batches together."""
    values, place = torch.cat([values for values, _ in parts]).unique(return_inverse=True)
    counts = torch.cat([counts for _, counts in parts])
    return values, torch.zeros_like(values).scatter_add_(0, place, counts)


def _gathered(part: tuple[Tensor, Tensor]) -> list[tuple[Tensor, Tensor]]:
    """The parts of all processes, on this process's device."""
    everyone: list[tuple[Tensor, Tensor]] = [part] * dist.get_world_size()
    dist.all_gather_object(everyone, (part[0].cpu(), part[1].cpu()))
    return [(values.to(part[0].device), counts.to(part[0].device)) for values, counts in everyone]
