"""The activation on a GPU: one read and one write of x forwards; two reads and one write backwards, and no atomics, so the same bits on
every run. The arithmetic is fp32 whatever the dtype."""

# mypy: disable-error-code="no-untyped-def"
# (the arguments of a kernel are Triton's values, which have no Python type)

from functools import lru_cache

import torch
import triton
import triton.language as tl
from torch import Tensor

from tokkit.ops.launch import Launcher
from tokkit.ops.snake.reference import EPSILON

_CELLS = 2048
_WIDEST = 1024


@triton.jit
def _forward(x, alpha, out, rows, channels, steps, epsilon, R: tl.constexpr, W: tl.constexpr):
    """Grid (rows / R, steps / W) over x as [rows, steps], a row for each channel of each sound."""
    row = tl.program_id(0) * R + tl.arange(0, R)
    step = tl.program_id(1) * W + tl.arange(0, W)
    slope = tl.load(alpha + row % channels, mask=row < rows, other=1.0).to(tl.float32)[:, None]
    at = row.to(tl.int64)[:, None] * steps + step[None, :]
    mask = (row < rows)[:, None] & (step < steps)[None, :]
    value = tl.load(x + at, mask=mask, other=0.0).to(tl.float32)
    wave = tl.sin(value * slope)
    tl.store(out + at, (value + wave * wave / (slope + epsilon)).to(out.dtype.element_ty), mask=mask)


@triton.jit
def _backward(x, alpha, gradient, out, sums, rows, channels, steps, epsilon, R: tl.constexpr, W: tl.constexpr):
    """The same grid; sums `[steps / W, rows]` are alpha's gradient from each row of each program."""
    row = tl.program_id(0) * R + tl.arange(0, R)
    step = tl.program_id(1) * W + tl.arange(0, W)
    slope = tl.load(alpha + row % channels, mask=row < rows, other=1.0).to(tl.float32)
    at = row.to(tl.int64)[:, None] * steps + step[None, :]
    mask = (row < rows)[:, None] & (step < steps)[None, :]
    value = tl.load(x + at, mask=mask, other=0.0).to(tl.float32)
    force = tl.load(gradient + at, mask=mask, other=0.0).to(tl.float32)
    angle = value * slope[:, None]
    wave = tl.sin(angle)
    doubled = 2 * wave * tl.cos(angle)
    tl.store(out + at, (force + force * doubled).to(out.dtype.element_ty), mask=mask)
    divisor = slope + epsilon
    of_alpha = tl.sum(force * (value * doubled - wave * wave / divisor[:, None]), axis=1) / divisor
    tl.store(sums + tl.program_id(1).to(tl.int64) * rows + row, of_alpha, mask=row < rows)


@lru_cache
def _launchers(width: int) -> tuple[Launcher, Launcher]:
    """`_forward` and `_backward` for blocks of `width` steps."""
    options = {"num_warps": 4}
    return tuple(Launcher(kernel, R=_CELLS // width, W=width, options=options) for kernel in (_forward, _backward))  # type: ignore[return-value]


def _shape(x: Tensor) -> tuple[int, int, tuple[int, int]]:
    """Rows, the width of a block, and the grid."""
    rows = x.shape[0] * x.shape[1]
    width = min(_WIDEST, max(16, triton.next_power_of_2(x.shape[2])))
    return rows, width, (triton.cdiv(rows, _CELLS // width), triton.cdiv(x.shape[2], width))


def snake_forward(x: Tensor, alpha: Tensor) -> Tensor:
    """See `cpu.snake_forward`; fp32, bf16 or fp16 on a GPU."""
    x = x.contiguous()
    out = torch.empty_like(x)
    if x.numel():
        rows, width, grid = _shape(x)
        _launchers(width)[0](grid, x, alpha, out, rows, x.shape[1], x.shape[2], EPSILON)
    return out


def snake_backward(x: Tensor, alpha: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
    """See `cpu.snake_backward`."""
    x, gradient = x.contiguous(), gradient.contiguous()
    out = torch.empty_like(x)
    if not x.numel():
        return out, torch.zeros_like(alpha)
    rows, width, grid = _shape(x)
    sums = torch.empty(grid[1], x.shape[0], x.shape[1], dtype=torch.float32, device=x.device)
    _launchers(width)[1](grid, x, alpha, gradient, out, sums, rows, x.shape[1], x.shape[2], EPSILON)
    return out, sums.sum((0, 1)).to(alpha.dtype)
