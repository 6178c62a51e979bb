"""Bit packing on a GPU, one pass: a thread makes one byte from the values whose bits it holds, or one value from its bytes."""

# mypy: disable-error-code="no-untyped-def"
# (the arguments of a kernel are Triton's values, which have no Python type)

from functools import lru_cache

import numpy as np
import torch
import triton
import triton.language as tl
from torch import Tensor

from tokkit.ops.bitpack.codec import expand_widths

_BYTES = 256


@triton.jit
def _pack(codes, owners, starts, out, rows, count, size, MOST: tl.constexpr, B: tl.constexpr):
    """Grid (R * size / B,). owners `[size]`: the first value in each byte; starts `[M + 1]`: the first bit of each value."""
    cell = tl.program_id(0).to(tl.int64) * B + tl.arange(0, B)
    inside = cell < rows * size
    row, byte = cell // size, cell % size
    value = tl.load(owners + byte, mask=inside, other=0)
    total = tl.zeros([B], tl.int64)
    for _ in tl.static_range(MOST):
        here = inside & (value < count)
        start = tl.load(starts + value, mask=here, other=0)
        shift = start - byte * 8
        here = here & (shift < 8)
        code = tl.load(codes + row * count + value, mask=here, other=0)
        total |= tl.where(shift >= 0, code << tl.maximum(shift, 0), code >> tl.maximum(-shift, 0)) & 255
        value += 1
    tl.store(out + cell, total.to(tl.uint8), mask=inside)


@triton.jit
def _unpack(packed, starts, out, rows, count, size, MOST: tl.constexpr, B: tl.constexpr):
    """Grid (R * M / B,)."""
    cell = tl.program_id(0).to(tl.int64) * B + tl.arange(0, B)
    inside = cell < rows * count
    row, value = cell // count, cell % count
    start = tl.load(starts + value, mask=inside, other=0)
    width = tl.load(starts + value + 1, mask=inside, other=0) - start
    byte = start // 8
    shift = start % 8
    total = tl.zeros([B], tl.int64)
    for step in tl.static_range(MOST):
        part = tl.load(packed + row * size + byte + step, mask=inside & (byte + step < size), other=0).to(tl.int64)
        place = step * 8 - shift
        total |= tl.where(
            place >= 0,
            tl.where(place < 64, part << tl.minimum(tl.maximum(place, 0), 63), 0),
            part >> tl.maximum(-place, 0),
        )
    one = tl.full([B], 1, tl.int64)
    tl.store(out + cell, total & ((one << width) - 1), mask=inside)


@triton.jit
def _pack_signs(x, out, rows, d, size, stride, BN: tl.constexpr, B: tl.constexpr):
    """Grid (N / BN, size / B)."""
    row = (tl.program_id(0) * BN + tl.arange(0, BN)).to(tl.int64)
    byte = tl.program_id(1) * B + tl.arange(0, B)
    bit = tl.arange(0, 8)
    column = byte[:, None] * 8 + bit[None, :]
    inside = (row < rows)[:, None, None] & (column < d)[None, :, :]
    value = tl.load(x + row[:, None, None] * stride + column[None, :, :], mask=inside, other=0.0)
    total = tl.sum((value > 0).to(tl.int32) << bit[None, None, :], axis=2)
    tl.store(
        out + row[:, None] * size + byte[None, :],
        total.to(tl.uint8),
        mask=(row < rows)[:, None] & (byte < size)[None, :],
    )


@triton.jit
def _unpack_signs(packed, out, rows, d, size, BN: tl.constexpr, B: tl.constexpr):
    """Grid (N / BN, d / B)."""
    row = (tl.program_id(0) * BN + tl.arange(0, BN)).to(tl.int64)
    column = tl.program_id(1) * B + tl.arange(0, B)
    inside = (row < rows)[:, None] & (column < d)[None, :]
    part = tl.load(packed + row[:, None] * size + (column // 8)[None, :], mask=inside, other=0).to(tl.int32)
    sign = ((part >> (column % 8)[None, :]) & 1) * 2 - 1
    tl.store(out + row[:, None] * d + column[None, :], sign.to(tl.float32), mask=inside)


@lru_cache(maxsize=64)
def _tables(widths: tuple[int, ...], count: int, device: torch.device) -> tuple[Tensor, Tensor, int, int, int]:
    """Starts of the values, first value of each byte, bytes, most values in a byte, most bytes of a value."""
    width = expand_widths(np.asarray(widths), count)
    starts = np.concatenate([[0], np.cumsum(width)])
    size = -(-int(starts[-1]) // 8)
    first = np.searchsorted(starts[1:], np.arange(size) * 8, side="right")
    last = np.searchsorted(starts[:-1], np.minimum(np.arange(size) * 8 + 7, starts[-1] - 1), side="right") - 1
    most = int((last - first).max()) + 1 if size else 0
    longest = int(((starts[:-1] % 8 + width + 7) // 8).max()) if count else 0
    return torch.from_numpy(starts).to(device), torch.from_numpy(first).to(device), size, most, longest


def pack_triton(codes: Tensor, widths: tuple[int, ...]) -> Tensor:
    """`[R, M]` contiguous int64 -> `[R, ceil(bits / 8)]` uint8."""
    rows, count = codes.shape
    starts, owners, size, most, _ = _tables(widths, count, codes.device)
    out = torch.empty(rows, size, dtype=torch.uint8, device=codes.device)
    if out.numel():
        grid = (triton.cdiv(out.numel(), _BYTES),)
        _pack[grid](codes, owners, starts, out, rows, count, size, MOST=most, B=_BYTES, num_warps=4)
    return out


def unpack_triton(packed: Tensor, widths: tuple[int, ...], count: int) -> Tensor:
    """`[R, bytes]` contiguous uint8 -> `[R, M]` int64."""
    rows = packed.shape[0]
    starts, _, size, _, longest = _tables(widths, count, packed.device)
    out = torch.empty(rows, count, dtype=torch.int64, device=packed.device)
    if out.numel():
        grid = (triton.cdiv(out.numel(), _BYTES),)
        _unpack[grid](packed, starts, out, rows, count, size, MOST=longest, B=_BYTES, num_warps=4)
    return out


def pack_signs_triton(x: Tensor) -> Tensor:
    """`[N, d]` with unit stride along d -> `[N, ceil(d / 8)]` uint8."""
    rows, width = x.shape
    size = triton.cdiv(width, 8)
    out = torch.empty(rows, size, dtype=torch.uint8, device=x.device)
    if out.numel():
        block = min(16, triton.next_power_of_2(size))
        height = max(1, 128 // block)
        _pack_signs[(triton.cdiv(rows, height), triton.cdiv(size, block))](
            x, out, rows, width, size, x.stride(0), BN=height, B=block, num_warps=4
        )
    return out


def unpack_signs_triton(packed: Tensor, width: int) -> Tensor:
    """`[N, bytes]` contiguous uint8 -> `[N, d]` fp32 of +1 and -1."""
    rows, size = packed.shape
    out = torch.empty(rows, width, device=packed.device)
    if out.numel():
        block = min(128, triton.next_power_of_2(width))
        height = max(1, 1024 // block)
        _unpack_signs[(triton.cdiv(rows, height), triton.cdiv(width, block))](
            packed, out, rows, width, size, BN=height, B=block, num_warps=4
        )
    return out
