"""Exact nearest code on a GPU without N x K: a coarse pass on the tensor cores, then fp32 for the few codes that may win.

Scores are `|c|^2 / 2 - x.c` with the codebook's (sampled) mean taken off, from operands rounded to fp16. A row's codes fall into groups of
G; per slot (group number modulo S) the kernel keeps the least group minimum, where it was, and the second least. The error of a score is
known from what the rounding threw away, so every group whose minimum lies within twice that error of the row's best is rescored in fp32
from the codebook as given. A row whose candidates cannot all be named (two in one slot, or more than four) goes on a list and meets every
code. The tables that the kernels read are described in `prepare.py`.
"""

# mypy: disable-error-code="no-untyped-def"
# (the arguments of a kernel are Triton's values, which have no Python type)

import triton
import triton.language as tl

from tokkit.ops.codebook_lookup.prepare import FOLD

_NONE = tl.constexpr(0x7FFFFFFFFFFFFFFF)


@triton.jit
def _sortable(value):
    """fp32 -> int64 that sorts as the value does, in the upper half of the word."""
    bits = value.to(tl.int32, bitcast=True)
    return (bits ^ ((bits >> 31) & 0x7FFFFFFF)).to(tl.int64) << 32


@triton.jit
def _left(x, table, scale, rows, inside, stride, first, D: tl.constexpr, W: tl.constexpr, FOLDED: tl.constexpr):
    """Columns `first..first + W` of the left operand, and the squared norms of what they are and of what rounding lost."""
    columns = first + tl.arange(0, W)
    real = columns < D
    keep = inside[:, None] & real[None, :]
    value = tl.load(x + rows.to(tl.int64)[:, None] * stride + columns[None, :], mask=keep, other=0.0).to(tl.float32)
    value = tl.where(keep, (value - tl.load(table + columns, mask=real, other=0.0)[None, :]) * scale, 0.0)
    value = tl.where(tl.abs(value) < 65000.0, value, float("nan"))
    operand = value.to(tl.float16)
    lost = value - operand.to(tl.float32)
    if FOLDED:
        operand = tl.where(((columns >= D) & (columns < D + 3))[None, :], FOLD, operand.to(tl.float32)).to(tl.float16)
    return operand, tl.sum(value * value, axis=1), tl.sum(lost * lost, axis=1)


@triton.jit(do_not_specialize=["level"])
def coarse(
    x, operand, table, state, scratch, level, N, stride, padded, table_size,
    D: tl.constexpr, DP: tl.constexpr, W: tl.constexpr, FOLDED: tl.constexpr, EXACT: tl.constexpr,
    BN: tl.constexpr, BK: tl.constexpr, S: tl.constexpr, CANDIDATES: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """Name the groups that may hold each row's nearest code. Grid (N / BN,).

    scratch int32: groups `[N, CANDIDATES]`, the numbers of a row's groups, best first, -1 where there is none, with `groups[:, 0] = -2`
    where the row must meet every code; then the list `[N]` of those rows.
    """
    G: tl.constexpr = BK // S
    WC: tl.constexpr = W // 4 if W > 256 else min(W, 64)
    CHUNKS: tl.constexpr = W // WC
    operand += level.to(tl.int64) * padded * W
    table += level.to(tl.int64) * table_size
    state += level * 8
    rows = tl.program_id(0) * BN + tl.arange(0, BN)
    inside = rows < N
    scale = tl.load(table + DP)
    a0, norm, lost = _left(x, table, scale, rows, inside, stride, 0, D, WC, FOLDED)
    if CHUNKS > 1:  # the norms of wide rows in a loop of their own: no thread has registers for all of it at once
        norm = tl.zeros([BN], tl.float32)
        lost = tl.zeros([BN], tl.float32)
        for first in range(0, W, 16):
            _, norm_part, lost_part = _left(x, table, scale, rows, inside, stride, first, D, 16, FOLDED)
            norm += norm_part
            lost += lost_part
        a1, _, _ = _left(x, table, scale, rows, inside, stride, WC, D, WC, FOLDED)
    if CHUNKS > 2:
        a2, _, _ = _left(x, table, scale, rows, inside, stride, 2 * WC, D, WC, FOLDED)
        a3, _, _ = _left(x, table, scale, rows, inside, stride, 3 * WC, D, WC, FOLDED)
    norm = tl.sqrt_rn(norm)
    lost = tl.sqrt_rn(lost)
    code_norm = tl.load(state).to(tl.float32, bitcast=True)
    error = (lost * code_norm + (norm + lost) * tl.load(state + 1).to(tl.float32, bitcast=True)) * 1.001
    # What the tensor cores and fp32 lose while they add: W / 16 steps, each at most 2^-22 of the largest sum, with room.
    error += (W // 16 + 4) * 2.0**-22 * ((norm + lost) * code_norm + tl.load(state + 2).to(tl.float32, bitcast=True))

    best = tl.full([BN, S], float("inf"), tl.float32)
    second = tl.full([BN, S], float("inf"), tl.float32)
    where = tl.zeros([BN, S], tl.int32)
    inner = tl.arange(0, WC)
    columns = tl.arange(0, BK)
    half = table + (DP + 16)
    for tile in tl.range(0, padded // BK, num_stages=STAGES):
        at = operand + (tile * BK + columns).to(tl.int64)[None, :] * W + inner[:, None]
        score = tl.dot(a0, tl.load(at))
        if CHUNKS > 1:
            score = tl.dot(a1, tl.load(at + WC), score)
        if CHUNKS > 2:
            score = tl.dot(a2, tl.load(at + 2 * WC), score)
            score = tl.dot(a3, tl.load(at + 3 * WC), score)
        if not FOLDED:
            score += tl.load(half + tile * BK + columns)[None, :]
        least = tl.min(tl.reshape(score, [BN, G, S]), axis=1)
        where = tl.where(least < best, tile, where)
        second = tl.minimum(second, tl.maximum(best, least))
        best = tl.minimum(best, least)

    least = tl.min(best, axis=1)
    limit = least
    if EXACT:
        limit = least + 2 * error
        limit = tl.where(limit < float("inf"), limit, float("inf"))
        unclear = tl.sum((second <= limit[:, None]).to(tl.int32), axis=1) > 0
        unclear = unclear | (least == float("inf")) | (error != error) | (error == float("inf"))
    slots = tl.arange(0, S)[None, :]
    numbers = where * S + slots
    first = tl.zeros([BN], tl.int32)
    groups = scratch + rows.to(tl.int64) * CANDIDATES
    for candidate in tl.static_range(CANDIDATES):
        near = tl.min(best, axis=1)
        slot = tl.min(tl.where(best == near[:, None], slots, S), axis=1)
        taken = slots == slot[:, None]
        number = tl.sum(tl.where(taken, numbers, 0), axis=1)
        number = tl.where(near <= limit, number, -1)
        best = tl.where(taken, float("inf"), best)
        if candidate == 0:
            first = tl.maximum(number, 0)
        else:
            tl.store(groups + candidate, number, mask=inside)
    if EXACT:
        unclear = (unclear | (tl.min(best, axis=1) <= limit)) & inside
        place = tl.atomic_add(state + 3 + rows * 0, 1, mask=unclear, sem="relaxed")
        tl.store(scratch + tl.cast(N, tl.int64) * CANDIDATES + place, rows, mask=unclear)
        first = tl.where(unclear, -2, first)
    tl.store(groups, first, mask=inside)


@triton.jit(do_not_specialize=["level"])
def rescore(
    x, codebook, table, scratch, out, residual, level, N, K, padded, table_size, stride, residual_stride, out_stride,
    D: tl.constexpr, DP: tl.constexpr, DC: tl.constexpr, METRIC: tl.constexpr, R: tl.constexpr, G: tl.constexpr,
    CANDIDATES: tl.constexpr, UPDATE: tl.constexpr,
):  # fmt: skip
    """The nearest code of R rows among their candidate groups, in fp32 from the codebook as given. Grid (N / R,).

    out `[N, levels]` int64: the index, or the largest int64 where the row is on the list. UPDATE also writes `x - code` to residual.
    """
    codebook += level.to(tl.int64) * K * D
    inverse = table + level.to(tl.int64) * table_size + (DP + 16) + padded.to(tl.int64) * (D + 1)
    rows = (tl.program_id(0) * R + tl.arange(0, R)).to(tl.int64)
    inside = rows < N
    first = tl.load(scratch + rows * CANDIDATES, mask=inside, other=-1)
    nearest = tl.full([R], _NONE, tl.int64)
    for candidate in range(CANDIDATES):
        number = tl.load(scratch + rows * CANDIDATES + candidate, mask=inside & (first >= 0), other=-1)
        if tl.max(number) >= 0:
            code = number[:, None] * G + tl.arange(0, G)[None, :]
            exists = (number >= 0)[:, None] & (code < K)
            total = tl.zeros([R, G, DC], tl.float32)
            for start in range(0, D, DC):
                column = start + tl.arange(0, DC)
                real = column < D
                value = tl.load(x + rows[:, None] * stride + column[None, :], mask=inside[:, None] & real[None, :], other=0.0)
                near = tl.load(
                    codebook + code.to(tl.int64)[:, :, None] * D + column[None, None, :],
                    mask=exists[:, :, None] & real[None, None, :], other=0.0,
                )  # fmt: skip
                if METRIC == 0:
                    near = value.to(tl.float32)[:, None, :] - near
                    total += near * near
                else:
                    total -= value.to(tl.float32)[:, None, :] * near
            distance = tl.sum(total, axis=2)
            if METRIC == 1:
                distance *= tl.load(inverse + code, mask=exists, other=0.0)
            key = tl.where(exists, _sortable(distance) | code.to(tl.int64), _NONE)
            nearest = tl.minimum(nearest, tl.min(key, axis=1))
    index = tl.where(first >= 0, nearest & 0xFFFFFFFF, _NONE)
    tl.store(out + rows * out_stride + level, index, mask=inside)
    if UPDATE:
        _subtract(x, codebook, residual, rows, index, inside & (first >= 0), stride, residual_stride, D, DC)


@triton.jit
def _subtract(x, codebook, residual, rows, index, keep, stride, residual_stride, D: tl.constexpr, DC: tl.constexpr):
    for start in range(0, D, DC):
        column = start + tl.arange(0, DC)
        mask = keep[:, None] & (column < D)[None, :]
        value = tl.load(x + rows[:, None] * stride + column[None, :], mask=mask, other=0.0).to(tl.float32)
        near = tl.load(codebook + index[:, None] * D + column[None, :], mask=mask, other=0.0)
        tl.store(residual + rows[:, None] * residual_stride + column[None, :], value - near, mask=mask)


@triton.jit(do_not_specialize=["level"])
def scan(
    x, table, state, scratch, out, level, N, K, padded, table_size, stride, out_stride,
    D: tl.constexpr, DP: tl.constexpr, METRIC: tl.constexpr, R: tl.constexpr, B: tl.constexpr, BLOCKS: tl.constexpr,
    CANDIDATES: tl.constexpr, UNROLL: tl.constexpr,
):  # fmt: skip
    """Every listed row against every code, in fp32. Grid: any number of programs; they share units of R rows by BLOCKS times B codes."""
    transposed = table + level.to(tl.int64) * table_size + (DP + 16) + padded
    inverse = transposed + padded.to(tl.int64) * D
    total = tl.load(state + level * 8 + 3)
    spans = tl.cdiv(K, B * BLOCKS)
    units = tl.cdiv(total, R) * spans
    for unit in range(tl.program_id(0), units, tl.num_programs(0)):
        place = (unit // spans) * R + tl.arange(0, R)
        inside = place < total
        rows = tl.load(scratch + tl.cast(N, tl.int64) * CANDIDATES + place, mask=inside, other=0).to(tl.int64)
        nearest = tl.full([R], _NONE, tl.int64)
        for block in range(BLOCKS):
            code = ((unit % spans) * BLOCKS + block) * B + tl.arange(0, B)
            distance = tl.zeros([R, B], tl.float32)
            for first in range(0, D, UNROLL):
                for step in tl.static_range(UNROLL):
                    column = first + step
                    value = tl.load(x + rows * stride + column, mask=inside & (column < D), other=0.0).to(tl.float32)
                    at = transposed + tl.cast(column, tl.int64) * padded + code
                    near = tl.load(at, mask=(code < padded) & (column < D), other=0.0)
                    if METRIC == 0:
                        gap = value[:, None] - near[None, :]
                        distance += gap * gap
                    else:
                        distance -= value[:, None] * near[None, :]
            if METRIC == 1:
                distance *= tl.load(inverse + code, mask=code < padded, other=0.0)[None, :]
            key = tl.where((code < K)[None, :], _sortable(distance) | code.to(tl.int64)[None, :], _NONE)
            nearest = tl.minimum(nearest, tl.min(key, axis=1))
        tl.atomic_min(out + rows * out_stride + level, nearest, mask=inside, sem="relaxed")


@triton.jit(do_not_specialize=["level"])
def settle(
    x, codebook, state, scratch, out, residual, level, N, K, stride, residual_stride, out_stride,
    D: tl.constexpr, DC: tl.constexpr, CANDIDATES: tl.constexpr, UPDATE: tl.constexpr, R: tl.constexpr,
):  # fmt: skip
    """Strip the distance that `scan` packed above the indices of the listed rows, and write their residuals. Grid: any number."""
    codebook += level.to(tl.int64) * K * D
    total = tl.load(state + level * 8 + 3)
    for start in range(tl.program_id(0) * R, total, tl.num_programs(0) * R):
        place = start + tl.arange(0, R)
        inside = place < total
        rows = tl.load(scratch + tl.cast(N, tl.int64) * CANDIDATES + place, mask=inside, other=0).to(tl.int64)
        index = tl.load(out + rows * out_stride + level, mask=inside, other=0) & 0xFFFFFFFF
        tl.store(out + rows * out_stride + level, index, mask=inside)
        if UPDATE:
            _subtract(x, codebook, residual, rows, index, inside, stride, residual_stride, D, DC)
