"""Soft bits on a GPU: one read of x forwards, one read and one write backwards, and no atomics, so the same bits on every run."""

import torch
import triton
import triton.language as tl
from torch import Tensor

_ROWS = 32
_PROGRAMS = 1024


@triton.jit
def _forward(x, partial, N, d, stride, slope, per_program, D: tl.constexpr, BN: tl.constexpr):
    """Grid (programs, d / D): sums over the rows of one program into partial `[3, programs, d]`: entropy, p, 1 - p."""
    program = tl.program_id(0)
    columns = tl.program_id(1) * D + tl.arange(0, D)
    entropy = tl.zeros([BN, D], tl.float32)
    up = tl.zeros([BN, D], tl.float32)
    down = tl.zeros([BN, D], tl.float32)
    for step in range(per_program):
        rows = (program * per_program + step) * BN + tl.arange(0, BN)
        mask = (rows < N)[:, None] & (columns < d)[None, :]
        logits = tl.load(x + rows.to(tl.int64)[:, None] * stride + columns[None, :], mask=mask, other=0.0).to(tl.float32) * slope
        size = tl.abs(logits)
        small = tl.exp(-size)
        rare = small / (1 + small)
        entropy += tl.where(mask, tl.log(1 + small) + size * rare, 0.0)
        up += tl.where(mask, tl.where(logits > 0, 1 - rare, rare), 0.0)
        down += tl.where(mask, tl.where(logits > 0, rare, 1 - rare), 0.0)
    at = partial + program.to(tl.int64) * d + columns
    plane = tl.num_programs(0).to(tl.int64) * d
    tl.store(at, tl.sum(entropy, axis=0), mask=columns < d)
    tl.store(at + plane, tl.sum(up, axis=0), mask=columns < d)
    tl.store(at + 2 * plane, tl.sum(down, axis=0), mask=columns < d)


@triton.jit
def _backward(x, out, sample, up, down, N, d, stride, slope, share, D: tl.constexpr, BN: tl.constexpr):
    """Grid (N / BN, d / D)."""
    rows = tl.program_id(0) * BN + tl.arange(0, BN)
    columns = tl.program_id(1) * D + tl.arange(0, D)
    mask = (rows < N)[:, None] & (columns < d)[None, :]
    logits = tl.load(x + rows.to(tl.int64)[:, None] * stride + columns[None, :], mask=mask, other=0.0).to(tl.float32) * slope
    small = tl.exp(-tl.abs(logits))
    steep = small / ((1 + small) * (1 + small)) * share
    pull = tl.load(up + columns, mask=columns < d, other=0.0) - tl.load(down + columns, mask=columns < d, other=0.0)
    value = steep * (pull[None, :] - tl.load(sample) * logits)
    tl.store(out + rows.to(tl.int64)[:, None] * d + columns[None, :], value.to(out.dtype.element_ty), mask=mask)


def _shape(x: Tensor) -> tuple[Tensor, int, int, int]:
    rows = x if x.stride(-1) == 1 else x.contiguous()
    width = min(128, max(16, triton.next_power_of_2(x.shape[1])))
    return rows, width, triton.cdiv(x.shape[1], width), triton.cdiv(x.shape[0], _ROWS)


def soft_bits_forward(x: Tensor, temperature: float) -> tuple[Tensor, Tensor, Tensor]:
    """See `cpu.soft_bits_forward`; fp32, bf16 or fp16 on a GPU."""
    rows, width, blocks, steps = _shape(x)
    per_program = triton.cdiv(steps, _PROGRAMS)
    programs = max(1, triton.cdiv(steps, max(per_program, 1)))
    partial = torch.empty(3, programs, x.shape[1], device=x.device)
    _forward[(programs, blocks)](
        rows,
        partial,
        x.shape[0],
        x.shape[1],
        rows.stride(0),
        4 / temperature,
        per_program,
        D=width,
        BN=_ROWS,
        num_warps=4,
    )
    mean = partial.sum(dim=1) / max(x.shape[0], 1)
    return mean[0].sum(), mean[1].clone(), mean[2].clone()


def soft_bits_backward(x: Tensor, temperature: float, sample: Tensor, up: Tensor, down: Tensor) -> Tensor:
    """See `cpu.soft_bits_backward`."""
    rows, width, blocks, steps = _shape(x)
    out = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    if x.numel():
        slope = 4 / temperature
        _backward[(steps, blocks)](
            rows, out, sample.contiguous(), up.contiguous(), down.contiguous(), x.shape[0], x.shape[1], rows.stride(0), slope,
            slope / x.shape[0], D=width, BN=_ROWS, num_warps=4,
        )  # fmt: skip
    return out
