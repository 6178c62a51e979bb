"""From tensors to the kernels of `prepare.py` and `triton.py`: which block shapes for which width, and the launches of one lookup."""

import os
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import torch
import triton
from torch import Tensor

from tokkit.ops.codebook_lookup import prepare as preparation
from tokkit.ops.codebook_lookup import triton as kernels

LARGEST_WIDTH = 512
METRICS = {"euclidean": 0, "cosine": 1, "dot": 2}
_BLOCK_CODES = 64


@dataclass(frozen=True)
class Config:
    """Block shapes of one lookup. They depend on the width alone, so that a row's result cannot depend on the rows beside it.

    Args:
        split: bf16 in two halves and three products, else one fp16 product.
        inner: padded inner dimension of the products.
        rows, codes, slots: BN, BK and S of `coarse`.
        warps, stages, registers: of `coarse`; registers is the most a thread may hold, None leaves it to the compiler.
        candidates: groups that a row may name before it has to meet every code.
        rescore_rows, rescore_columns, rescore_warps: R, DC and warps of `rescore`.
    """

    split: bool
    inner: int
    rows: int = 128
    codes: int = 128
    slots: int = 16
    warps: int = 4
    stages: int = 3
    registers: int | None = None
    candidates: int = 4
    rescore_rows: int = 16
    rescore_columns: int = 32
    rescore_warps: int = 2

    def folded(self, width: int) -> bool:
        """Whether the inner dimension has three columns left for |c|^2 / 2."""
        return self.split or width + 3 <= self.inner


class Prepared(NamedTuple):
    """What `prepare` writes, for L levels; shapes in its docstring."""

    operand: Tensor
    half: Tensor
    transposed: Tensor
    inverse: Tensor
    mean: Tensor
    state: Tensor
    tiles: int


@lru_cache
def default_config(width: int) -> Config:
    """The measured choice for a width (README.md)."""
    padded = max(16, triton.next_power_of_2(width))
    if width <= 9:
        inner = max(16, triton.next_power_of_2(3 * width + 3))
        columns = max(4, triton.next_power_of_2(width))
        return Config(
            True, inner, slots=8, warps=8, registers=128, candidates=2, rescore_rows=32, rescore_columns=columns, rescore_warps=2
        )
    if padded <= 32:
        return Config(False, padded, rescore_rows=8, rescore_columns=padded)
    if padded == 64:
        return Config(False, 64, rescore_rows=4, rescore_columns=64)
    if padded == 128:
        return Config(False, 128, codes=64, rescore_rows=4, rescore_columns=64)
    if padded == 256:
        return Config(False, 256, rows=256, codes=64, warps=8, rescore_rows=4, rescore_columns=64)
    return Config(False, 512, rows=64, codes=64, stages=2, rescore_rows=4, rescore_columns=64)


def interpreted() -> bool:
    """Whether Triton runs its kernels in the interpreter, on the CPU."""
    return os.environ.get("TRITON_INTERPRET", "0") == "1"


def prepare(codebooks: Tensor, metric: str, config: Config) -> Prepared:
    """Round `[L, K, d]` fp32 codebooks for the coarse pass."""
    levels, size, width = codebooks.shape
    device = codebooks.device
    tiles = triton.cdiv(size, config.codes)
    padded = tiles * config.codes
    block = min(_BLOCK_CODES, config.codes)
    columns = max(16, triton.next_power_of_2(width))
    dtype = torch.bfloat16 if config.split else torch.float16
    made = Prepared(
        operand=torch.empty(levels, padded, config.inner, dtype=dtype, device=device),
        half=torch.empty(levels, padded, device=device),
        transposed=torch.empty(levels, width, padded, device=device),
        inverse=torch.empty((levels, padded) if metric == "cosine" else (levels, 1), device=device),
        mean=torch.empty(levels, columns + 1, device=device),
        state=torch.zeros(levels, 8, dtype=torch.int32, device=device),
        tiles=tiles,
    )
    preparation.prepare[(padded // block, levels)](
        codebooks, made.operand, made.half, made.transposed, made.inverse, made.mean, made.state, size, tiles,
        D=width, DP=columns, W=config.inner, SPLIT=config.split, FOLDED=config.folded(width), METRIC=METRICS[metric],
        BK=config.codes, S=config.slots, BC=block, SAMPLE=64, num_warps=4,
    )  # fmt: skip
    return made


class Scratch(NamedTuple):
    """Per-row memory of one lookup, reused by every level: `[N, candidates]` and `[N]` int32."""

    groups: Tensor
    listed: Tensor

    @classmethod
    def empty(cls, rows: int, candidates: int, device: torch.device) -> "Scratch":
        """For exact results 4 bytes for each of a row's candidates and 4 for the list; `candidates` 1 is enough for others."""
        return cls(
            torch.empty(rows, candidates, dtype=torch.int32, device=device),
            torch.empty(rows if candidates > 1 else 1, dtype=torch.int32, device=device),
        )


def search(
    x: Tensor, codebook: Tensor, made: Prepared, level: int, scratch: Scratch, out: Tensor, residual: Tensor | None,
    metric: str, exact: bool, config: Config,
) -> None:  # fmt: skip
    """One level: writes `[N]` indices to `out` and, where asked, `x - codebook[out]` to `residual` (which may be x itself)."""
    rows, width = x.shape
    size = codebook.shape[0]
    padded = made.half.shape[1]
    columns = made.mean.shape[1] - 1
    update = residual is not None
    left = residual if residual is not None else x
    state = made.state[level]
    kernels.coarse[(triton.cdiv(rows, config.rows),)](
        x, made.operand[level], made.half[level], made.mean[level], state, scratch.groups, scratch.listed, rows,
        x.stride(0), made.tiles,
        D=width, DP=columns, W=config.inner, SPLIT=config.split, FOLDED=config.folded(width), EXACT=exact,
        BN=config.rows, BK=config.codes, S=config.slots, CANDIDATES=scratch.groups.shape[1], EMULATE=interpreted(),
        STAGES=config.stages, num_warps=config.warps, maxnreg=config.registers,
    )  # fmt: skip
    kernels.rescore[(triton.cdiv(rows, config.rescore_rows),)](
        x, codebook, made.inverse[level], scratch.groups, out, left, rows, size, x.stride(0), left.stride(0), out.stride(0),
        D=width, DC=config.rescore_columns, METRIC=METRICS[metric], R=config.rescore_rows, G=config.codes // config.slots,
        CANDIDATES=scratch.groups.shape[1], UPDATE=update, num_warps=config.rescore_warps,
    )  # fmt: skip
    if not exact:
        return
    programs = 4 if interpreted() else 4 * torch.cuda.get_device_properties(x.device).multi_processor_count
    kernels.scan[(programs,)](
        x, made.transposed[level], made.inverse[level], scratch.listed, state, out, size, padded, x.stride(0),
        out.stride(0), D=width, METRIC=METRICS[metric], R=16, B=128, UNROLL=8, num_warps=4,
    )  # fmt: skip
    kernels.settle[(min(programs, 64),)](
        x, codebook, scratch.listed, state, out, left, x.stride(0), left.stride(0), out.stride(0),
        D=width, DC=config.rescore_columns, UPDATE=update, R=16, num_warps=4,
    )  # fmt: skip


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
    made = prepare(codebook[None], metric, config)
    search(x, codebook, made, 0, Scratch.empty(x.shape[0], config.candidates if exact else 1, x.device), out, None, metric, exact, config)
    return out
