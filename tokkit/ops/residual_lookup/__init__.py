"""All levels of a residual quantizer in one call: nearest code, subtract, next level (https://arxiv.org/abs/2107.03312)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from tokkit.errors import InputError
from tokkit.ops.backends import Choice, Facts, facts_of, is_plain
from tokkit.ops.codebook_lookup import LARGEST_TRITON_WIDTH, select
from tokkit.ops.codebook_lookup.cpu import cpu_lookup
from tokkit.ops.residual_lookup.reference import residual_reference

__all__ = ["LARGEST_TRITON_WIDTH", "ResidualLookup", "residual_lookup", "select"]


class ResidualLookup(NamedTuple):
    """codes `[N, L]` int64, first level first; quantized `[N, d]` fp32, the sum of the codes added in level order."""

    codes: Tensor
    quantized: Tensor


def residual_lookup(x: Tensor, codebooks: Tensor, *, backend: str = "auto", precision: str = "exact") -> ResidualLookup:
    """Nearest code of x, then of what is left, and so on; every level exact as in `codebook_lookup`. Not differentiable.

    Args:
        x: `[N, d]` fp32, bf16 or fp16; residuals are fp32.
        codebooks: `[L, K, d]`, L and K >= 1.
        backend: "auto", "triton", "cpu" or "reference".
        precision: "exact" or "fast", as in `codebook_lookup`.

    Raises:
        InputError: shapes, devices or names that cannot work together.
    """
    if x.dim() != 2 or codebooks.dim() != 3 or x.shape[1] != codebooks.shape[2] or 0 in codebooks.shape:
        raise InputError(f"residual_lookup takes x [N, d] and codebooks [L, K, d], got {tuple(x.shape)} and {tuple(codebooks.shape)}")
    if x.device != codebooks.device:
        raise InputError(f"x is on {x.device} and the codebooks on {codebooks.device}: move one of them")
    if precision not in ("exact", "fast"):
        raise InputError(f"precision must be exact or fast, got {precision!r}")
    rows, codes = x.detach(), codebooks.detach()
    if is_plain(rows, codes):
        return ResidualLookup(*_residual(rows, codes, backend, precision))
    return ResidualLookup(*torch.ops.tokkit.residual_lookup(rows, codes, backend, precision))


def _choice(facts: Facts, backend: str) -> Choice:
    if backend == "faiss":
        raise InputError("residual_lookup: backend must be one of auto, triton, cpu, reference, got 'faiss'")
    return select(facts, backend)


def _residual(x: Tensor, codebooks: Tensor, backend: str, precision: str) -> tuple[Tensor, Tensor]:
    name = _choice(facts_of(x), backend).backend
    with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
        books = codebooks.float().contiguous()
        if x.shape[0] == 0:
            return x.new_empty(0, len(books), dtype=torch.int64), x.new_empty(x.shape, dtype=torch.float32)
        if name == "triton":
            from tokkit.ops.residual_lookup.triton import triton_residual

            return triton_residual(x if x.stride(1) == 1 else x.contiguous(), books, precision == "exact")
        if name == "reference":
            return residual_reference(x.float(), books)
        residual, quantized = x.float(), torch.zeros(x.shape, device=x.device)
        codes = torch.empty(x.shape[0], len(books), dtype=torch.int64, device=x.device)
        for level, book in enumerate(books):
            codes[:, level] = cpu_lookup(residual, book, "euclidean", precision == "exact")
            near = book[codes[:, level]]
            residual = residual - near
            quantized += near
        return codes, quantized


@torch.library.custom_op("tokkit::residual_lookup", mutates_args=())
def _op(x: Tensor, codebooks: Tensor, backend: str, precision: str) -> tuple[Tensor, Tensor]:
    return _residual(x, codebooks, backend, precision)


@_op.register_fake
def _(x: Tensor, codebooks: Tensor, backend: str, precision: str) -> tuple[Tensor, Tensor]:
    return x.new_empty(x.shape[0], codebooks.shape[0], dtype=torch.int64), x.new_empty(x.shape, dtype=torch.float32)
