"""The Triton kernel that rounds a codebook for `triton.coarse`: one launch for all levels, its cost is part of every lookup."""

# mypy: disable-error-code="no-untyped-def, attr-defined"
# (the arguments of a kernel are Triton's values, which have no Python type)

import triton
import triton.language as tl

FOLD = tl.constexpr(2.0**-12)
"""Weight of the folded |c|^2 / 2, which keeps its pieces out of fp16's subnormals."""


@triton.jit
def _codes(codebook, codes, columns, K, D: tl.constexpr):
    mask = (codes < K)[:, None] & (columns < D)[None, :]
    return tl.load(codebook + codes.to(tl.int64)[:, None] * D + columns[None, :], mask=mask, other=0.0)


@triton.jit
def _inverse_norm(codebook, codes, K, D: tl.constexpr, DP: tl.constexpr, DC: tl.constexpr, COSINE: tl.constexpr, ROWS: tl.constexpr):
    """1 / |c| of some codes; 1 where the metric is not cosine."""
    total = tl.full([ROWS], 1.0, tl.float32)
    if COSINE:
        total = tl.zeros([ROWS], tl.float32)
        for first in range(0, DP, DC):
            value = _codes(codebook, codes, first + tl.arange(0, DC), K, D)
            total += tl.sum(value * value, axis=1)
        total = 1.0 / tl.maximum(tl.sqrt_rn(total), 1e-12)
    return total


@triton.jit
def prepare(
    codebook, operand, table, state, K, padded, table_size,
    D: tl.constexpr, DP: tl.constexpr, W: tl.constexpr, FOLDED: tl.constexpr, METRIC: tl.constexpr,
    BK: tl.constexpr, S: tl.constexpr, BC: tl.constexpr, SAMPLE: tl.constexpr,
):  # fmt: skip
    """Round one block of BC codes. Grid (padded / BC, levels); padded is K up to a multiple of BK.

    operand `[levels, padded, W]` fp16, row `t BK + j S + s` holding minus code `t BK + s G + j`, so that the codes of a group lie side by
    side in the codebook. table `[levels, table_size]` fp32: mean `[DP]`, scale `[16]`, half `[padded]` (|c|^2 / 2, inf for codes that do
    not exist), transposed `[D, padded]` (the codes as given) and inverse `[padded]` (1 / |c|, cosine only), one after the other. state
    `[levels, 8]` int32, zero before: the bits of the largest |c|, |c - rounded c| and |c|^2 / 2, then the count of listed rows.
    """
    G: tl.constexpr = BK // S
    DC: tl.constexpr = min(DP, 64)
    COSINE: tl.constexpr = METRIC == 1
    block = tl.program_id(0)
    level = tl.program_id(1).to(tl.int64)
    codebook += level * K * D
    operand += level * padded * W
    table += level * table_size
    state += level * 8
    half = table + (DP + 16)
    transposed = half + padded
    inverse_out = transposed + padded.to(tl.int64) * D

    sample = (tl.arange(0, SAMPLE).to(tl.int64) * K // SAMPLE).to(tl.int32)
    sample_inverse = _inverse_norm(codebook, sample, K, D, DP, DC, COSINE, SAMPLE)
    stored = block * BC + tl.arange(0, BC)
    within = stored % BK
    code = (stored // BK) * BK + (within % S) * G + within // S
    exists = code < K
    inverse = _inverse_norm(codebook, code, K, D, DP, DC, COSINE, BC)
    if COSINE:
        tl.store(inverse_out + code, inverse)

    largest = 0.0
    for first in range(0, DP, DC):
        near = _codes(codebook, sample, first + tl.arange(0, DC), K, D) * sample_inverse[:, None]
        near -= (tl.sum(near, axis=0) / SAMPLE)[None, :]
        largest = tl.maximum(largest, tl.max(tl.abs(near)))
    # A power of two that brings the sampled codes to 2^-8: fp16 then holds an x up to 2^23 times as large.
    exponent = (largest.to(tl.int32, bitcast=True) >> 23) - 127
    exponent = tl.where(largest > 0, tl.minimum(tl.maximum(exponent, -100), 100), -9)
    scale = ((118 - exponent) << 23).to(tl.float32, bitcast=True)
    if block == 0:
        tl.store(table + DP, scale)

    norm = tl.zeros([BC], tl.float32)
    lost = tl.zeros([BC], tl.float32)
    for first in range(0, DP, DC):
        columns = first + tl.arange(0, DC)
        keep = (columns < D)[None, :]
        mean = tl.sum(_codes(codebook, sample, columns, K, D) * sample_inverse[:, None], axis=0) / SAMPLE
        if block == 0:
            tl.store(table + columns, tl.where(METRIC == 0, mean, 0.0))
        value = _codes(codebook, code, columns, K, D)
        tl.store(transposed + columns.to(tl.int64)[None, :] * padded + code[:, None], value, mask=keep)
        value = tl.where(exists[:, None] & keep, (value * inverse[:, None] - mean[None, :]) * scale, 0.0)
        rounded = value.to(tl.float16)
        rest = value - rounded.to(tl.float32)
        norm += tl.sum(value * value, axis=1)
        lost += tl.sum(rest * rest, axis=1)
        at = operand + stored.to(tl.int64)[:, None] * W + columns[None, :]
        tl.store(at, (-rounded.to(tl.float32)).to(tl.float16), mask=(columns < (D if FOLDED else DP))[None, :])

    own_half = tl.where(METRIC == 0, norm * 0.5, norm * 0.0)
    shown = tl.where(exists, own_half, float("inf"))
    tl.store(half + stored, shown)
    if FOLDED:
        tail = D + tl.arange(0, W)
        one = (shown / FOLD).to(tl.float16).to(tl.float32)
        rest = tl.where(exists, own_half / FOLD - one, 0.0)
        two = rest.to(tl.float16).to(tl.float32)
        piece = (tail - D)[None, :]
        values = tl.where(piece == 2, (rest - two)[:, None], 0.0)
        values = tl.where(piece == 0, one[:, None], tl.where(piece == 1, two[:, None], values)).to(tl.float16)
        tl.store(operand + stored.to(tl.int64)[:, None] * W + tail[None, :], values, mask=(tail < W)[None, :])
    tl.atomic_max(state, tl.sqrt_rn(tl.max(norm)).to(tl.int32, bitcast=True), sem="relaxed")
    tl.atomic_max(state + 1, tl.sqrt_rn(tl.max(lost)).to(tl.int32, bitcast=True), sem="relaxed")
    tl.atomic_max(state + 2, tl.max(own_half).to(tl.int32, bitcast=True), sem="relaxed")
