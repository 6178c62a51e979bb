"""Soft bits on a GPU: one read of x forwards, one read and one write backwards, and no atomics, so the same bits on every run."""

# mypy: disable-error-code="no-untyped-def"
# (the arguments of a kernel are Triton's values, which have no Python type)

from functools import lru_cache

import torch
import triton
import triton.language as tl
from torch import Tensor

from tokkit.ops.launch import Launcher

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
def _finish(sums, out, pull, d, rows, D: tl.constexpr):
    """One program: sums `[3, d]` to out `[2]`, the sample and batch entropy, and pull `[d]`, the batch entropy's slope in mean p."""
    sample = 0.0
    batch = 0.0
    for first in range(0, d, D):
        columns = first + tl.arange(0, D)
        mask = columns < d
        up = tl.maximum(tl.load(sums + d + columns, mask=mask, other=0.0) / rows, 1.2e-38)
        down = tl.maximum(tl.load(sums + 2 * d + columns, mask=mask, other=0.0) / rows, 1.2e-38)
        log_up = tl.log(up)
        log_down = tl.log(down)
        sample += tl.sum(tl.load(sums + columns, mask=mask, other=0.0))
        batch -= tl.sum(tl.where(mask, up * log_up + down * log_down, 0.0))
        tl.store(pull + columns, log_down - log_up, mask=mask)
    tl.store(out, sample / rows)
    tl.store(out + 1, batch)


@triton.jit
def _backward(x, out, sample, batch, pull, N, d, stride, slope, share, D: tl.constexpr, BN: tl.constexpr):
    """Grid (N / BN, d / D)."""
    rows = tl.program_id(0) * BN + tl.arange(0, BN)
    columns = tl.program_id(1) * D + tl.arange(0, D)
    mask = (rows < N)[:, None] & (columns < d)[None, :]
    at = x + rows.to(tl.int64)[:, None] * stride + columns[None, :]
    logits = tl.load(at, mask=mask, other=0.0).to(tl.float32) * slope
    small = tl.exp(-tl.abs(logits))
    steep = small / ((1 + small) * (1 + small)) * share
    force = tl.load(batch) * tl.load(pull + columns, mask=columns < d, other=0.0)
    value = steep * (force[None, :] - tl.load(sample) * logits)
    tl.store(out + rows.to(tl.int64)[:, None] * d + columns[None, :], value.to(out.dtype.element_ty), mask=mask)


@lru_cache
def _launchers(width: int) -> tuple[Launcher, Launcher, Launcher]:
    """`_forward`, `_finish` and `_backward` for blocks of `width` columns."""
    options = {"num_warps": 4}
    return (
        Launcher(_forward, D=width, BN=_ROWS, options=options),
        Launcher(_finish, D=width, options=options),
        Launcher(_backward, D=width, BN=_ROWS, options=options),
    )


def _shape(x: Tensor) -> tuple[Tensor, int, int, int]:
    rows = x if x.stride(-1) == 1 else x.contiguous()
    width = min(128, max(16, triton.next_power_of_2(x.shape[1])))
    return rows, width, triton.cdiv(x.shape[1], width), triton.cdiv(x.shape[0], _ROWS)


def soft_bits_forward(x: Tensor, temperature: float) -> tuple[Tensor, Tensor, Tensor]:
    """See `cpu.soft_bits_forward`; fp32, bf16 or fp16 on a GPU."""
    rows, width, blocks, steps = _shape(x)
    per_program = triton.cdiv(steps, _PROGRAMS)
    programs = max(1, triton.cdiv(steps, max(per_program, 1)))
    partial = torch.empty(3, programs, x.shape[1], dtype=torch.float32, device=x.device)
    forward, finish, _ = _launchers(width)
    forward((programs, blocks), rows, partial, x.shape[0], x.shape[1], rows.stride(0), 4 / temperature, per_program)
    out = torch.empty(2, dtype=torch.float32, device=x.device)
    pull = torch.empty(x.shape[1], dtype=torch.float32, device=x.device)
    finish((1, 1), partial.sum(dim=1), out, pull, x.shape[1], max(x.shape[0], 1))
    sample, batch = out.unbind()
    return sample.clone(), batch.clone(), pull


def soft_bits_backward(x: Tensor, temperature: float, sample: Tensor, batch: Tensor, pull: Tensor) -> Tensor:
    """See `cpu.soft_bits_backward`."""
    rows, width, blocks, steps = _shape(x)
    out = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    if x.numel():
        slope = 4 / temperature
        backward = _launchers(width)[2]
        sizes = (x.shape[0], x.shape[1], rows.stride(0))
        backward((steps, blocks), rows, out, sample, batch, pull, *sizes, slope, slope / x.shape[0])
    return out
