"""What training does to a codebook without a one-hot N x K: sums of the vectors of each code, the EMA step, usage counts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from tokkit.errors import InputError
from tokkit.ops.backends import Choice, Facts, choose, is_plain
from tokkit.ops.codebook_update.reference import segment_sums_reference


class SegmentSums(NamedTuple):
    """sums `[K, d]` fp32 of the vectors of each code, counts `[K]` int64."""

    sums: Tensor
    counts: Tensor


def segment_sums(x: Tensor, indices: Tensor, size: int, *, deterministic: bool = False, backend: str = "auto") -> SegmentSums:
    """Sum and count the vectors assigned to each code.

    Args:
        x: `[N, d]`, summed in fp32.
        indices: `[N]` int64 in [0, size).
        size: K.
        deterministic: the same bits on every run, by sorting; without it a GPU adds in whatever order its threads come.
        backend: "auto", "scatter" (index_add), "sorted" (deterministic) or "reference" (one-hot product).

    Raises:
        InputError: shapes that do not belong together, or an unknown backend.
    """
    if x.dim() != 2 or indices.shape != x.shape[:1] or size < 1:
        raise InputError(f"segment_sums takes x [N, d], indices [N] and K >= 1, got {tuple(x.shape)}, {tuple(indices.shape)} and {size}")
    if backend == "auto":
        backend = "sorted" if deterministic else "scatter"
    choose("segment_sums", _ABLE, backend)
    if deterministic and backend == "scatter" and x.device.type != "cpu":
        raise InputError("segment_sums: backend 'scatter' is not deterministic on a GPU; use 'sorted' or 'auto'")
    if is_plain(x, indices):
        return SegmentSums(*_segment_sums(x.detach(), indices, size, backend))
    return SegmentSums(*torch.ops.tokkit.segment_sums(x.detach(), indices, size, backend))


def ema_update(
    codebook: Tensor,
    running_counts: Tensor,
    running_sums: Tensor,
    counts: Tensor,
    sums: Tensor,
    *,
    decay: float,
    epsilon: float = 1e-5,
) -> None:
    """One exponential-moving-average step of a VQ codebook, in place (https://arxiv.org/abs/1711.00937, appendix A.1).

    running <- decay * running + (1 - decay) * batch, then code_k <- running_sums_k / smoothed count_k, where Laplace smoothing by
    `epsilon` keeps the counts of unused codes off zero. Add up counts and sums over ranks before the call.

    Args:
        codebook: `[K, d]` fp32, overwritten.
        running_counts: `[K]` fp32, updated.
        running_sums: `[K, d]` fp32, updated.
        counts: `[K]` of this batch.
        sums: `[K, d]` of this batch.
        decay: in [0, 1].
        epsilon: of the smoothing.

    Raises:
        InputError: shapes that do not belong together, or a decay outside [0, 1].
    """
    size, width = codebook.shape
    wanted = {
        "running_counts": (running_counts, (size,)),
        "running_sums": (running_sums, (size, width)),
        "counts": (counts, (size,)),
        "sums": (sums, (size, width)),
    }
    for name, (tensor, shape) in wanted.items():
        if tensor.shape != shape:
            raise InputError(f"ema_update: {name} must be {shape} for a codebook {(size, width)}, got {tuple(tensor.shape)}")
    if not 0 <= decay <= 1:
        raise InputError(f"ema_update: decay lies in [0, 1], got {decay}")
    with torch.no_grad(), torch.autocast(codebook.device.type, enabled=False):
        running_counts.lerp_(counts.to(running_counts.dtype), 1 - decay)
        running_sums.lerp_(sums.to(running_sums.dtype), 1 - decay)
        total = running_counts.sum()
        smoothed = (running_counts + epsilon) / (total + size * epsilon) * total
        codebook.copy_(running_sums / smoothed.clamp_min(torch.finfo(torch.float32).tiny)[:, None])


def usage_histogram(codes: Tensor, codebook_sizes: Sequence[int]) -> tuple[Tensor, ...]:
    """How often each code of each codebook was used.

    Args:
        codes: `[..., Q]` int64.
        codebook_sizes: K_q of the Q codebooks.

    Returns:
        Q tensors `[K_q]` int64.

    Raises:
        InputError: another number of codebooks than codes have.
    """
    if codes.dim() < 1 or codes.shape[-1] != len(codebook_sizes):
        raise InputError(f"{len(codebook_sizes)} codebook sizes need codes [..., {len(codebook_sizes)}], got {tuple(codes.shape)}")
    flat = codes.detach().reshape(-1, codes.shape[-1])
    one = torch.ones(1, dtype=torch.int64, device=codes.device).expand(flat.shape[0])
    return tuple(
        torch.zeros(size, dtype=torch.int64, device=codes.device).scatter_add_(0, flat[:, level], one)
        for level, size in enumerate(codebook_sizes)
    )


_ABLE: dict[str, str | None] = {"scatter": None, "sorted": None, "reference": None}


def select(facts: Facts, backend: str) -> Choice:
    """The backend that runs where `deterministic` is not asked for, and why."""
    if backend == "auto":
        return Choice("scatter", "one pass; deterministic=True takes 'sorted'")
    return choose("segment_sums", _ABLE, backend)


def _segment_sums(x: Tensor, indices: Tensor, size: int, backend: str) -> tuple[Tensor, Tensor]:
    with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
        if backend == "reference":
            return segment_sums_reference(x, indices, size)
        value = x.float()
        counts = torch.zeros(size, dtype=torch.int64, device=x.device)
        counts.scatter_add_(0, indices, torch.ones(1, dtype=torch.int64, device=x.device).expand(indices.shape[0]))
        if backend == "scatter":
            return torch.zeros(size, x.shape[1], device=x.device).index_add_(0, indices, value), counts
        order = torch.argsort(indices, stable=True)
        return torch.segment_reduce(value[order], "sum", lengths=counts, axis=0, unsafe=True, initial=0), counts


@torch.library.custom_op("tokkit::segment_sums", mutates_args=())
def _op(x: Tensor, indices: Tensor, size: int, backend: str) -> tuple[Tensor, Tensor]:
    return _segment_sums(x, indices, size, backend)


@_op.register_fake
def _(x: Tensor, indices: Tensor, size: int, backend: str) -> tuple[Tensor, Tensor]:
    return x.new_empty(size, x.shape[1], dtype=torch.float32), indices.new_empty(size)
