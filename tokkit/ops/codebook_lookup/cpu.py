"""Lookup on a CPU: the nearest code in fp32 and how near the second is, and float64 for the rows where the two are too close to call.

`nearest.c` finds both in one pass. Where it was not compiled, or the processor has no vectors for it, one small matrix product at a time
does, which stays in cache, where numpy's argmin costs a tenth of torch's. faiss, when it is named, answers with the nearest code alone, so
nothing tells which of its rows were close: it is the inexact option here.
"""

import functools
import importlib.util

import torch
from torch import Tensor

from tokkit.ops.codebook_lookup import native
from tokkit.ops.codebook_lookup.reference import directions

_CELLS_A_CHUNK = 1 << 18
_SETTLE_CELLS = 1 << 21


@functools.cache
def faiss_installed() -> bool:
    """Whether `import faiss` would find something; nothing is imported."""
    return importlib.util.find_spec("faiss") is not None


def centred(x: Tensor, codebook: Tensor, metric: str) -> tuple[Tensor, Tensor, Tensor]:
    """x, codes and half squared norms such that `half - x @ codes.T` has the argmin of the distance and little cancellation."""
    codes = directions(codebook) if metric == "cosine" else codebook
    mean = codes.mean(dim=0)
    codes = codes - mean
    if metric == "euclidean":
        return x - mean, codes, codes.square().sum(dim=1) / 2
    return x, codes, codes.new_zeros(codes.shape[0])


def cpu_lookup(x: Tensor, codebook: Tensor, metric: str, exact: bool) -> Tensor:
    """Index of the nearest code, the lowest on ties.

    Args:
        x: `[N, d]` fp32 on the CPU.
        codebook: `[K, d]` fp32.
        metric: "euclidean", "cosine" or "dot".
        exact: settle in float64 every row whose second-best score lies within the rounding of fp32.

    Returns:
        `[N]` int64.
    """
    moved, codes, half = centred(x, codebook, metric)
    if native.best_kind():
        indices, best, second = native.nearest(moved, codes, half)
        gap = best - second
    else:
        indices, gap = _by_products(moved, codes, half, exact)
    if exact and codebook.shape[0] > 1:
        # A score is a sum of width + 1 products: each rounding is at most 2^-24 of |x| |c|, and two scores are compared.
        slack = 2 * (x.shape[1] + 8) * 2.0**-24 * (moved.norm(dim=1) * codes.norm(dim=1).max() + half.max())
        doubtful = (~(gap > slack)).nonzero()[:, 0]
        if doubtful.numel():
            indices[doubtful] = _settle(x[doubtful].double(), codebook.double(), metric)
    return indices


def _by_products(x: Tensor, codes: Tensor, half: Tensor, exact: bool) -> tuple[Tensor, Tensor]:
    """Where `x @ codes.T - half` is largest, `[N]` int64, and, where `exact` asks, by how much it exceeds the second, `[N]`."""
    count, size = x.shape[0], codes.shape[0]
    indices, gap = torch.empty(count, dtype=torch.int64), torch.empty(count)
    columns = codes.T.contiguous()
    rows = min(max(128, _CELLS_A_CHUNK // size), max(count, 1))
    scores = torch.empty(rows, size)
    for start in range(0, count, rows):
        part = x[start : start + rows]
        score = torch.addmm(half, part, columns, alpha=-1, out=scores[: part.shape[0]])
        at = torch.from_numpy(score.numpy().argmin(axis=1))
        indices[start : start + rows] = at
        if exact:
            best = score.gather(1, at[:, None])
            gap[start : start + rows] = (score.scatter_(1, at[:, None], torch.inf).amin(dim=1, keepdim=True) - best)[:, 0]
    return indices, gap


def _settle(x: Tensor, codebook: Tensor, metric: str) -> Tensor:
    """The lowest of the codes that float64 cannot tell from the nearest. `[n, d]`, `[K, d]` float64 -> `[n]`."""
    moved, codes, half = centred(x, codebook, metric)
    slack = 2 * (x.shape[1] + 8) * 2.0**-53 * (moved.norm(dim=1, keepdim=True) * codes.norm(dim=1).max() + half.max())
    rows = max(1, _SETTLE_CELLS // codebook.shape[0])
    found = []
    for part, room in zip(moved.split(rows), slack.split(rows), strict=True):
        score = torch.addmm(half, part, codes.T, alpha=-1)
        found.append((score <= score.amin(dim=1, keepdim=True) + room).to(torch.uint8).argmax(dim=1))
    return torch.cat(found)


def faiss_lookup(x: Tensor, codebook: Tensor, metric: str) -> Tensor:
    """`cpu_lookup` by faiss's flat index: fp32, ties in no stated order. `[N, d]`, `[K, d]` -> `[N]` int64."""
    import faiss

    moved, codes, _ = centred(x, codebook, metric)
    index = faiss.IndexFlatL2(x.shape[1]) if metric == "euclidean" else faiss.IndexFlatIP(x.shape[1])
    index.add(codes.contiguous().numpy())
    _, nearest = index.search(moved.contiguous().numpy(), 1)
    return torch.from_numpy(nearest[:, 0].copy()).clamp_min_(0)
