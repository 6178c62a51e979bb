"""Residual lookup on a GPU: the lookup kernels level after level, the residual written by the pass that names the code."""

# mypy: disable-error-code="no-untyped-def"
# (the arguments of a kernel are Triton's values, which have no Python type)

from functools import lru_cache

import torch
import triton
import triton.language as tl
from torch import Tensor

from tokkit.ops.codebook_lookup.launch import default_config, prepare, scratch, search
from tokkit.ops.launch import Launcher


@triton.jit
def _sum_codes(codebooks, codes, out, N, K, LEVELS: tl.constexpr, D: tl.constexpr, DP: tl.constexpr, R: tl.constexpr):
    """Grid (N / R,): out = codebooks[0][codes[:, 0]] + codebooks[1][codes[:, 1]] + ..., in that order."""
    rows = (tl.program_id(0) * R + tl.arange(0, R)).to(tl.int64)
    columns = tl.arange(0, DP)
    mask = (rows < N)[:, None] & (columns < D)[None, :]
    total = tl.zeros([R, DP], tl.float32)
    for level in tl.static_range(LEVELS):
        code = tl.load(codes + rows * LEVELS + level, mask=rows < N, other=0)
        total += tl.load(codebooks + (code + tl.full([R], level, tl.int64) * K)[:, None] * D + columns[None, :], mask=mask, other=0.0)
    tl.store(out + rows[:, None] * D + columns[None, :], total, mask=mask)


@lru_cache
def _sum(levels: int, width: int) -> Launcher:
    return Launcher(_sum_codes, LEVELS=levels, D=width, DP=triton.next_power_of_2(width), R=16, options={"num_warps": 4})


def triton_residual(x: Tensor, codebooks: Tensor, exact: bool) -> tuple[Tensor, Tensor]:
    """See `residual_lookup`. `[N, d]` with unit stride along d, `[L, K, d]` contiguous fp32 -> `[N, L]` int64, `[N, d]` fp32."""
    rows, width = x.shape
    levels, size, _ = codebooks.shape
    config = default_config(width)
    made = prepare(codebooks, "euclidean", config)
    work = scratch(rows, exact, config, x.device)
    codes = torch.empty(rows, levels, dtype=torch.int64, device=x.device)
    quantized = torch.empty(rows, width, device=x.device)  # holds the residuals until the last level is done
    for level in range(levels):
        source, left = (quantized if level else x), (quantized if level + 1 < levels else None)
        search(source, codebooks, made, level, work, codes, left, "euclidean", exact, config)
    _sum(levels, width)((triton.cdiv(rows, 16), 1), codebooks, codes, quantized, rows, size)
    return codes, quantized
