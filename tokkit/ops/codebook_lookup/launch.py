"""From tensors to the kernels of `prepare.py` and `triton.py`: which block shapes for which width, and the launches of one lookup.

Few allocations and few arguments on purpose: the kernels of a small lookup take less time than Python needs to launch them carelessly.
"""

import os
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import torch
import triton
from torch import Tensor

from tokkit.ops.codebook_lookup import prepare as preparation
from tokkit.ops.codebook_lookup import triton as kernels
from tokkit.ops.launch import Launcher

METRICS = {"euclidean": 0, "cosine": 1, "dot": 2}
_BLOCK_CODES = 64


@dataclass(frozen=True)
class Config:
    """Block shapes of one lookup. They depend on the width alone, so that a row's result cannot depend on the rows beside it.

    Args:
        inner: padded inner dimension of the product.
        rows, codes, slots: BN, BK and S of `coarse`.
        warps, stages, registers: of `coarse`; registers is the most a thread may hold, None leaves it to the compiler.
        candidates: groups that a row may name before it has to meet every code.
        rescore_rows, rescore_columns, rescore_warps: R, DC and warps of `rescore`.
        scan_rows, scan_codes, scan_blocks, scan_unroll: R, B, BLOCKS and UNROLL of `scan`.
    """

    inner: int
    rows: int = 128
    codes: int = 128
    slots: int = 16
    warps: int = 4
    stages: int = 3
    registers: int | None = None
    candidates: int = 4
    rescore_rows: int = 4
    rescore_columns: int = 64
    rescore_warps: int = 2
    scan_rows: int = 16
    scan_codes: int = 128
    scan_blocks: int = 1
    scan_unroll: int = 8


class Prepared(NamedTuple):
    """What `prepare` writes for L levels (its docstring has the layout), and the sizes that the kernels need to read it."""

    operand: Tensor
    table: Tensor
    state: Tensor
    padded: int
    table_size: int


@lru_cache
def default_config(width: int) -> Config:
    """The measured choice for a width (README.md)."""
    padded = max(16, triton.next_power_of_2(width))
    columns = max(4, triton.next_power_of_2(width))
    if padded == 16:
        return Config(16, rows=64, registers=128, rescore_rows=32, rescore_columns=columns, scan_rows=8, scan_codes=256, scan_blocks=4)
    if padded == 32:
        return Config(32, rescore_rows=8, rescore_columns=32, scan_rows=4, scan_blocks=2, scan_unroll=16)
    if padded == 64:
        return Config(64, scan_rows=8, scan_codes=512)
    if padded == 128:
        return Config(128, rows=64, codes=64, slots=32, stages=2, rescore_rows=2, rescore_warps=1, scan_rows=8, scan_unroll=32)
    if padded == 256:
        return Config(256, rows=256, codes=64, warps=8, scan_rows=4, scan_unroll=32)
    return Config(512, rows=64, codes=64, stages=2)


@lru_cache
def _launchers(config: Config, width: int, metric: str, exact: bool, update: bool) -> tuple[Launcher, Launcher, Launcher, Launcher]:
    """`coarse`, `rescore`, `scan` and `settle`; `update` where they also write the residual."""
    candidates = config.candidates if exact else 1
    shape = {"D": width, "DP": config.inner}
    coarse = Launcher(
        kernels.coarse, **shape, W=config.inner, FOLDED=width + 3 <= config.inner, EXACT=exact, BN=config.rows, BK=config.codes,
        S=config.slots, CANDIDATES=candidates, STAGES=config.stages,
        options={"num_warps": config.warps, "maxnreg": config.registers},
    )  # fmt: skip
    rescore = Launcher(
        kernels.rescore, **shape, DC=config.rescore_columns, METRIC=METRICS[metric], R=config.rescore_rows, G=config.codes // config.slots,
        CANDIDATES=candidates, UPDATE=update, options={"num_warps": config.rescore_warps},
    )  # fmt: skip
    scan = Launcher(
        kernels.scan, **shape, METRIC=METRICS[metric], R=config.scan_rows, B=config.scan_codes, BLOCKS=config.scan_blocks,
        CANDIDATES=candidates, UNROLL=config.scan_unroll, options={"num_warps": 4},
    )  # fmt: skip
    settle = Launcher(
        kernels.settle, D=width, DC=config.rescore_columns, CANDIDATES=candidates, UPDATE=update, R=16, options={"num_warps": 4}
    )
    return coarse, rescore, scan, settle


@lru_cache
def _prepare(config: Config, width: int, metric: str) -> Launcher:
    return Launcher(
        preparation.prepare, D=width, DP=config.inner, W=config.inner, FOLDED=width + 3 <= config.inner, METRIC=METRICS[metric],
        BK=config.codes, S=config.slots, BC=min(_BLOCK_CODES, config.codes), SAMPLE=64, options={"num_warps": 4},
    )  # fmt: skip


@lru_cache
def _programs(index: int | None) -> int:
    """Programs that fill a GPU; a few in the interpreter."""
    if os.environ.get("TRITON_INTERPRET", "0") == "1":
        return 4
    return 4 * torch.cuda.get_device_properties(index).multi_processor_count


def prepare(codebooks: Tensor, metric: str, config: Config) -> Prepared:
    """Round contiguous `[K, d]` or `[L, K, d]` fp32 codebooks for the coarse pass."""
    size, width = codebooks.shape[-2:]
    levels = codebooks.numel() // (size * width)
    device = codebooks.device
    padded = triton.cdiv(size, config.codes) * config.codes
    table_size = config.inner + 16 + padded * (width + (2 if metric == "cosine" else 1))
    made = Prepared(
        torch.empty(levels * padded * config.inner, dtype=torch.float16, device=device),
        torch.empty(levels * table_size, dtype=torch.float32, device=device),
        torch.zeros(levels * 8, dtype=torch.int32, device=device),
        padded,
        table_size,
    )
    grid = (padded // min(_BLOCK_CODES, config.codes), levels)
    _prepare(config, width, metric)(grid, codebooks, made.operand, made.table, made.state, size, padded, table_size)
    return made


def scratch(rows: int, exact: bool, config: Config, device: torch.device) -> Tensor:
    """Memory that `search` needs for the rows, reused by every level: 20 bytes a row where the result must be exact, else 4."""
    return torch.empty(rows * (config.candidates + 1 if exact else 1), dtype=torch.int32, device=device)


def search(
    x: Tensor, codebooks: Tensor, made: Prepared, level: int, work: Tensor, out: Tensor, residual: Tensor | None,
    metric: str, exact: bool, config: Config,
) -> None:  # fmt: skip
    """One level.

    Args:
        x: `[N, d]` with unit stride along d.
        codebooks: `[K, d]` or `[L, K, d]`, contiguous fp32.
        made, work: from `prepare` and `scratch`.
        level: which codebook, and which column of `out` to write.
        out: `[N]` or `[N, L]` int64.
        residual: `[N, d]`, gets `x - code`; may be x itself. None: not wanted.
        metric, exact, config: as in `triton_lookup`.
    """
    rows, width = x.shape
    size = codebooks.shape[-2]
    left = x if residual is None else residual
    padded, table_size = made.padded, made.table_size
    stride, left_stride, out_stride = x.stride(0), left.stride(0), out.stride(0)
    coarse, rescore, scan, settle = _launchers(config, width, metric, exact, residual is not None)
    coarse((triton.cdiv(rows, config.rows), 1), x, made.operand, made.table, made.state, work, level, rows, stride, padded, table_size)
    rescore(
        (triton.cdiv(rows, config.rescore_rows), 1),
        x, codebooks, made.table, work, out, left, level, rows, size, padded, table_size, stride, left_stride, out_stride,
    )  # fmt: skip
    if not exact:
        return
    programs = _programs(x.device.index)
    scan((programs, 1), x, made.table, made.state, work, out, level, rows, size, padded, table_size, stride, out_stride)
    settle((min(programs, 64), 1), x, codebooks, made.state, work, out, left, level, rows, size, stride, left_stride, out_stride)


def triton_lookup(x: Tensor, codebook: Tensor, metric: str, exact: bool, config: Config | None = None) -> Tensor:
    """Index of the nearest code, the lowest on ties.

    Args:
        x: `[N, d]` fp32, bf16 or fp16, unit stride along d.
        codebook: `[K, d]` contiguous fp32.
        metric: "euclidean", "cosine" or "dot".
        exact: False trusts the coarse pass about the winning group (mismatch rates in README.md).
        config: block shapes, for benchmarks.

    Returns:
        `[N]` int64.
    """
    config = config or default_config(x.shape[1])
    out = torch.empty(x.shape[0], dtype=torch.int64, device=x.device)
    made = prepare(codebook, metric, config)
    search(x, codebook, made, 0, scratch(x.shape[0], exact, config, x.device), out, None, metric, exact, config)
    return out
