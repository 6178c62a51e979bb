"""The Snake activation of sound networks (https://arxiv.org/abs/2006.08195): one pass over the sound each way, and x alone kept for the
gradient, a third of what autograd would keep."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tokkit.errors import InputError
from tokkit.ops.backends import Choice, Facts, choose, fp32_backend, is_plain
from tokkit.ops.snake import cpu
from tokkit.ops.snake.reference import snake_reference

LONGEST_TRITON = 65535 * 1024
"""Blocks of a launch along time, and steps of a block: 46 minutes at 24 kHz, in one piece."""


def snake(x: Tensor, alpha: Tensor, *, backend: str = "auto") -> Tensor:
    """x + sin^2(alpha x) / alpha, with an alpha for each channel. Differentiable once; twice by "reference".

    Args:
        x: `[B, C, T]`.
        alpha: `[C]`.
        backend: "auto", "triton", "cpu" (any device, in torch; what the compiler sees, which makes one kernel of it) or "reference"
            (autograd of the plain formula).

    Returns:
        The shape and dtype of x.

    Raises:
        InputError: wrong shapes or dtypes, or a backend that cannot run.
    """
    if x.dim() != 3 or alpha.shape != x.shape[1:2] or not (x.is_floating_point() and alpha.is_floating_point()):
        raise InputError(f"snake takes x [B, C, T] and alpha [C] of numbers, got {x.dtype} {tuple(x.shape)} and {tuple(alpha.shape)}")
    if backend == "reference":
        return snake_reference(x, alpha)
    name = _backend(x, backend) if is_plain(x, alpha) else "cpu"
    if torch.is_grad_enabled():
        output: Tensor = _Snake.apply(x, alpha, name)
        return output
    return _forward(x, alpha, name)


def select(facts: Facts, backend: str) -> Choice:
    """The backend that runs, and why."""
    too_long = f"T is {facts.width}, its kernels go to {LONGEST_TRITON}" if (facts.width or 0) > LONGEST_TRITON else None
    return choose("snake", {"triton": facts.without_triton or too_long, "cpu": None, "reference": None}, backend)


def _backend(x: Tensor, backend: str) -> str:
    return fp32_backend("snake", x, backend, select)


def _forward(x: Tensor, alpha: Tensor, name: str) -> Tensor:
    if name == "triton":
        from tokkit.ops.snake import triton

        return triton.snake_forward(x, alpha)
    return cpu.snake_forward(x, alpha)


class _Snake(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, x: Tensor, alpha: Tensor, name: str) -> Tensor:
        context.save_for_backward(x, alpha)
        context.name = name
        return _forward(x, alpha, name)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        x, alpha = context.saved_tensors
        if context.name == "triton":
            from tokkit.ops.snake import triton

            return *triton.snake_backward(x, alpha, gradient), None
        return *cpu.snake_backward(x, alpha, gradient), None
