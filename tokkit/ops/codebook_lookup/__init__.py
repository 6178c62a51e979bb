"""Nearest code of every vector: exact, and never N x K in memory. Chooses between `triton.py`, `cpu.py` and `reference.py` by facts."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from tokkit.errors import InputError
from tokkit.ops.backends import Choice, Facts, choose, facts_of, is_plain
from tokkit.ops.codebook_lookup import cpu, native
from tokkit.ops.codebook_lookup.reference import directions, reference_lookup

METRICS = ("euclidean", "cosine", "dot")
PRECISIONS = ("exact", "fast")
LARGEST_TRITON_WIDTH = 512


class Lookup(NamedTuple):
    """Nearest codes. indices `[...]` int64; distances `[...]` fp32, smaller is nearer (see `codebook_lookup_with_distance`)."""

    indices: Tensor
    distances: Tensor


def codebook_lookup(x: Tensor, codebook: Tensor, *, metric: str = "euclidean", backend: str = "auto", precision: str = "exact") -> Tensor:
    """Index of the code nearest to each vector, the lowest index on ties.

    Exact means: equal to the argmin in float64 wherever the two best distances differ by more than fp32 rounding. A row's result does
    not depend on the other rows. Not differentiable; works under autocast (always fp32 inside) and `torch.compile`.

    Args:
        x: `[..., d]` fp32, bf16 or fp16.
        codebook: `[K, d]`, K >= 1.
        metric: "euclidean", "cosine" (codes compared at unit length) or "dot" (largest product wins).
        backend: "auto", or one of "triton", "cpu", "faiss", "reference", which raises where it cannot run.
        precision: "fast" skips the recheck of close calls; README.md states how many indices it gets wrong.

    Returns:
        `[...]` int64.

    Raises:
        InputError: shapes, dtypes, devices or names that cannot work together.
    """
    _check(x, codebook, metric, precision)
    rows = x.detach().reshape(-1, x.shape[-1])
    codes = codebook.detach()
    if is_plain(rows, codes):
        return _lookup(rows, codes, metric, backend, precision).reshape(x.shape[:-1])
    return torch.ops.tokkit.codebook_lookup(rows, codes, metric, backend, precision).reshape(x.shape[:-1])


def codebook_lookup_with_distance(
    x: Tensor, codebook: Tensor, *, metric: str = "euclidean", backend: str = "auto", precision: str = "exact"
) -> Lookup:
    """`codebook_lookup`, and how near the code is: fp32 ||x - c||, 1 - cos(x, c), or -x.c. Arguments and errors are the same."""
    indices = codebook_lookup(x, codebook, metric=metric, backend=backend, precision=precision)
    with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
        value, codes = x.detach().float(), codebook.detach().float()
        if metric == "cosine":
            value, codes = directions(value), directions(codes)
        near = codes[indices]
        if metric == "euclidean":
            return Lookup(indices, (value - near).norm(dim=-1))
        product = (value * near).sum(dim=-1)
        return Lookup(indices, 1 - product if metric == "cosine" else -product)


def options(facts: Facts) -> dict[str, str | None]:
    """Each backend that this op has, best first, with the reason why it cannot run on tensors like these (None: it can)."""
    width = facts.width
    return {
        "triton": facts.without_triton
        or (f"d is {width}, its kernels go to {LARGEST_TRITON_WIDTH}" if width and width > LARGEST_TRITON_WIDTH else None),
        "cpu": None if facts.device == "cpu" else f"the tensors are on {facts.device}",
        "faiss": (None if cpu.faiss_installed() else "faiss is not installed (pip install tokkit[cpu])")
        if facts.device == "cpu"
        else f"the tensors are on {facts.device}",
        "reference": None,
    }


def select(facts: Facts, backend: str, precision: str = "exact") -> Choice:
    """The backend that runs, and why."""
    able = options(facts)
    if backend != "auto":
        return choose("codebook_lookup", able, backend)
    if facts.device == "cpu":
        how = f"nearest.c with {native.KINDS[kind]}" if (kind := native.best_kind()) else "chunked products"
        return Choice("cpu", f"CPU tensors: {how}" + (", float64 for close calls" if precision == "exact" else ""))
    return choose("codebook_lookup", able, backend)


def _lookup(x: Tensor, codebook: Tensor, metric: str, backend: str, precision: str) -> Tensor:
    name = select(facts_of(x), backend, precision).backend
    if x.shape[0] == 0:
        return torch.empty(0, dtype=torch.int64, device=x.device)
    with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
        codes = codebook.float().contiguous()
        if name == "triton":
            from tokkit.ops.codebook_lookup.launch import triton_lookup

            return triton_lookup(x if x.stride(1) == 1 else x.contiguous(), codes, metric, precision == "exact")
        if name == "cpu":
            return cpu.cpu_lookup(x.float(), codes, metric, precision == "exact")
        if name == "faiss":
            return cpu.faiss_lookup(x.float(), codes, metric)
        return reference_lookup(x, codes, metric)


@torch.library.custom_op("tokkit::codebook_lookup", mutates_args=())
def _op(x: Tensor, codebook: Tensor, metric: str, backend: str, precision: str) -> Tensor:
    return _lookup(x, codebook, metric, backend, precision)


@_op.register_fake
def _(x: Tensor, codebook: Tensor, metric: str, backend: str, precision: str) -> Tensor:
    return x.new_empty(x.shape[0], dtype=torch.int64)


def _check(x: Tensor, codebook: Tensor, metric: str, precision: str) -> None:
    if metric not in METRICS:
        raise InputError(f"metric must be one of {', '.join(METRICS)}, got {metric!r}")
    if precision not in PRECISIONS:
        raise InputError(f"precision must be one of {', '.join(PRECISIONS)}, got {precision!r}")
    if codebook.dim() != 2 or x.dim() < 1 or x.shape[-1] != codebook.shape[-1] or codebook.shape[0] < 1 or codebook.shape[1] < 1:
        raise InputError(f"a lookup takes x [..., d] and a codebook [K, d] with K >= 1, got {tuple(x.shape)} and {tuple(codebook.shape)}")
    if not (x.is_floating_point() and codebook.is_floating_point()):
        raise InputError(f"a lookup takes floating-point tensors, got {x.dtype} and {codebook.dtype}")
    if x.device != codebook.device:
        raise InputError(f"x is on {x.device} and the codebook on {codebook.device}: move one of them")
