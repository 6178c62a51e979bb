"""The truth that every lookup is compared with: direct distances in float64, a few rows at a time."""

import torch
from torch import Tensor

_CELLS_A_CHUNK = 1 << 22


def directions(codebook: Tensor) -> Tensor:
    """Codes at unit length; a zero code stays zero and has cosine 0 with everything. `[K, d]` -> `[K, d]`."""
    return codebook / codebook.norm(dim=-1, keepdim=True).clamp_min(1e-12)


def distances(x: Tensor, codebook: Tensor, metric: str) -> Tensor:
    """`[n, d]`, `[K, d]` -> `[n, K]` in the inputs' dtype; smaller is nearer. Squared distances, or minus the dot product.

    Equal codes get equal distances, which a matrix product does not promise.
    """
    if metric == "euclidean":
        return (x[:, None] - codebook).square().sum(dim=-1)
    return -(x[:, None] * (directions(codebook) if metric == "cosine" else codebook)).sum(dim=-1)


def reference_lookup(x: Tensor, codebook: Tensor, metric: str) -> Tensor:
    """Index of the nearest code in float64, the lowest on ties.

    Args:
        x: `[N, d]` of any float dtype.
        codebook: `[K, d]`.
        metric: "euclidean", "cosine" or "dot".

    Returns:
        `[N]` int64.
    """
    codes = codebook.double()
    out = torch.zeros(x.shape[0], dtype=torch.int64, device=x.device)
    rows = max(1, _CELLS_A_CHUNK // codebook.numel())
    for start in range(0, x.shape[0], rows):
        part = slice(start, start + rows)
        out[part] = distances(x[part].double(), codes, metric).argmin(dim=1)
    return out
