"""The Triton kernel that rounds a codebook for `triton.coarse`: one launch for all levels, its cost is part of every lookup."""

import triton
import triton.language as tl

FOLD = tl.constexpr(
    2.0**-12
)  # weight of the folded |c|^2 / 2 in the fp16 form, which keeps its pieces out of fp16's subnormals


@triton.jit
def _codes(codebook, codes, columns, K, D: tl.constexpr, COSINE: tl.constexpr, inverse):
    mask = (codes < K)[:, None] & (columns < D)[None, :]
    value = tl.load(codebook + codes.to(tl.int64)[:, None] * D + columns[None, :], mask=mask, other=0.0)
    if COSINE:
        value *= inverse[:, None]
    return value


@triton.jit
def _inverse_norm(codebook, codes, K, D: tl.constexpr, DP: tl.constexpr, COSINE: tl.constexpr, ROWS: tl.constexpr):
    DC: tl.constexpr = min(DP, 64)
    total = tl.zeros([ROWS], tl.float32)
    if COSINE:
        for first in range(0, DP, DC):
            value = _codes(codebook, codes, first + tl.arange(0, DC), K, D, False, total)
            total += tl.sum(value * value, axis=1)
        total = 1.0 / tl.maximum(tl.sqrt_rn(total), 1e-12)
    return total


@triton.jit
def prepare(
    codebook, operand, half, transposed, inverse_out, mean_out, state, K, tiles,
    D: tl.constexpr, DP: tl.constexpr, W: tl.constexpr, SPLIT: tl.constexpr, FOLDED: tl.constexpr, METRIC: tl.constexpr,
    BK: tl.constexpr, S: tl.constexpr, BC: tl.constexpr, SAMPLE: tl.constexpr,
):  # fmt: skip
    """Round one block of BC codes. Grid (tiles * BK / BC, levels).

    operand `[tiles * BK, W]`, row `t BK + j S + s` holding code `t BK + s G + j` so that the codes of a group lie side by side in the
    codebook; half `[tiles * BK]` fp32, inf for codes that do not exist; transposed `[D, tiles * BK]` fp32 as given; state
    `[8]` int32, zero before: the bits of the largest |c|, |c - rounded c|, |low half of c| and |c|^2 / 2, then the count of listed rows.
    """
    G: tl.constexpr = BK // S
    DC: tl.constexpr = min(DP, 64)
    COSINE: tl.constexpr = METRIC == 1
    block = tl.program_id(0)
    level = tl.program_id(1).to(tl.int64)
    padded = tiles * BK
    codebook += level * K * D
    operand += level * padded * W
    half += level * padded
    transposed += level * padded * D
    inverse_out += level * padded
    mean_out += level * (DP + 1)
    state += level * 8

    sample = (tl.arange(0, SAMPLE).to(tl.int64) * K // SAMPLE).to(tl.int32)
    sample_inverse = _inverse_norm(codebook, sample, K, D, DP, COSINE, SAMPLE)
    stored = block * BC + tl.arange(0, BC)
    within = stored % BK
    code = (stored // BK) * BK + (within % S) * G + within // S
    inverse = _inverse_norm(codebook, code, K, D, DP, COSINE, BC)
    if COSINE:
        tl.store(inverse_out + code, inverse)

    scale = 1.0
    if not SPLIT:  # a power of two that brings the sampled codes to 2^-8: fp16 then holds x up to 2^23 times as large
        largest = 0.0
        for first in range(0, DP, DC):
            near = _codes(codebook, sample, first + tl.arange(0, DC), K, D, COSINE, sample_inverse)
            near -= (tl.sum(near, axis=0) / SAMPLE)[None, :]
            largest = tl.maximum(largest, tl.max(tl.abs(near)))
        exponent = (largest.to(tl.int32, bitcast=True) >> 23) - 127
        exponent = tl.where(largest > 0, tl.minimum(tl.maximum(exponent, -100), 100), -9)
        scale = ((127 - 9 - exponent) << 23).to(tl.float32, bitcast=True)
    if block == 0:
        tl.store(mean_out + DP, scale)

    exists = code < K
    norm = tl.zeros([BC], tl.float32)
    lost = tl.zeros([BC], tl.float32)
    second = tl.zeros([BC], tl.float32)
    for first in range(0, DP, DC):
        columns = first + tl.arange(0, DC)
        keep = (columns < D)[None, :]
        near = _codes(codebook, sample, columns, K, D, COSINE, sample_inverse)
        mean = tl.sum(near, axis=0) / SAMPLE
        if block == 0:
            tl.store(mean_out + columns, tl.where(METRIC == 0, mean, 0.0))
        value = _codes(codebook, code, columns, K, D, False, inverse)
        tl.store(transposed + columns.to(tl.int64)[None, :] * padded + code[:, None], value, mask=keep)
        if COSINE:
            value *= inverse[:, None]
        value = tl.where(exists[:, None] & keep, (value - mean[None, :]) * scale, 0.0)
        norm += tl.sum(value * value, axis=1)
        at = operand + stored.to(tl.int64)[:, None] * W + columns[None, :]
        if SPLIT:
            high = value.to(tl.bfloat16).to(tl.float32)
            low = (value - high).to(tl.bfloat16).to(tl.float32)
            rest = value - high - low
            second += tl.sum(low * low, axis=1)
            tl.store(at, (-high).to(tl.bfloat16), mask=keep)
            tl.store(at + D, (-low).to(tl.bfloat16), mask=keep)
            tl.store(at + 2 * D, (-high).to(tl.bfloat16), mask=keep)
        else:
            high = value.to(tl.float16).to(tl.float32)
            rest = value - high
            tl.store(at, (-high).to(tl.float16), mask=(columns < D if FOLDED else columns < DP)[None, :])
        lost += tl.sum(rest * rest, axis=1)

    own_half = tl.where(METRIC == 0, norm * 0.5, norm * 0.0)
    shown = tl.where(exists, own_half, float("inf"))
    tl.store(half + stored, shown)
    if FOLDED:
        FIRST: tl.constexpr = 3 * D if SPLIT else D
        tail = FIRST + tl.arange(0, W)
        TYPE: tl.constexpr = tl.bfloat16 if SPLIT else tl.float16
        weight = 1.0 if SPLIT else FOLD
        one = (shown / weight).to(TYPE).to(tl.float32)
        rest = tl.where(exists, own_half / weight - one, 0.0)
        two = rest.to(TYPE).to(tl.float32)
        three = rest - two
        piece = (tail - FIRST)[None, :]
        values = tl.where(
            piece == 0, one[:, None], tl.where(piece == 1, two[:, None], tl.where(piece == 2, three[:, None], 0.0))
        )
        values = values.to(TYPE)
        tl.store(operand + stored.to(tl.int64)[:, None] * W + tail[None, :], values, mask=(tail < W)[None, :])
    tl.atomic_max(state, tl.sqrt_rn(tl.max(norm)).to(tl.int32, bitcast=True), sem="relaxed")
    tl.atomic_max(state + 1, tl.sqrt_rn(tl.max(lost)).to(tl.int32, bitcast=True), sem="relaxed")
    tl.atomic_max(state + 2, tl.sqrt_rn(tl.max(second)).to(tl.int32, bitcast=True), sem="relaxed")
    tl.atomic_max(state + 3, tl.max(own_half).to(tl.int32, bitcast=True), sem="relaxed")
