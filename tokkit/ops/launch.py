"""Launching Triton kernels with little Python: a small lookup's kernels take less time than Triton needs to find out which one to start."""

from __future__ import annotations

from collections.abc import Iterable
from inspect import signature
from typing import Any

import torch
from torch import Tensor

_LARGEST_INT32 = 2**31 - 1


class Launcher:
    """A Triton kernel with its constants chosen.

    Triton compiles a kernel anew for other dtypes, for pointers that are (not) multiples of 16 bytes, and for integers that are 1,
    multiples of 16, or beyond 32 bits. Launches that are alike in that start the same compiled kernel, which is kept here and called
    directly, with addresses in place of tensors.
    """

    def __init__(self, kernel: Any, *, options: dict[str, Any] | None = None, **constants: Any):
        """
        Args:
            kernel: what `triton.jit` returned; its constants are its last parameters.
            options: Triton's, such as num_warps.
            constants: values of all its `tl.constexpr` parameters.
        """
        self.kernel = kernel
        self.keywords = {**constants, **(options or {})}
        names = list(signature(kernel.fn).parameters)
        self.constants = [constants[name] for name in names[len(names) - len(constants) :]]
        self.compiled: dict[tuple[Any, ...], Any] = {}

    def __call__(self, grid: tuple[int, int], *arguments: Tensor | float) -> None:
        """Launch on the current stream of the device that the first argument, a tensor, is on."""
        first: Any = arguments[0]
        if first.is_cuda and (index := first.get_device()) != torch.cuda.current_device():
            with torch.cuda.device(index):
                return self(grid, *arguments)
        key, values = facts_and_values(arguments)
        found = self.compiled.get(key)
        if found is None:
            found = self.kernel[grid](*arguments, **self.keywords)
            if found is not None:  # the interpreter compiles nothing
                self.compiled[key] = found
        else:
            found[(*grid, 1)](*values, *self.constants)


def facts_and_values(arguments: Iterable[Tensor | float]) -> tuple[tuple[Any, ...], list[float]]:
    """What Triton specializes a kernel for, and the arguments with addresses in place of tensors."""
    facts: list[Any] = []
    values: list[float] = []
    for argument in arguments:
        if isinstance(argument, int):
            facts.append((argument == 1, argument & 15 == 0, argument > _LARGEST_INT32))
            values.append(argument)
        elif isinstance(argument, float):
            facts.append(float)
            values.append(argument)
        else:
            address = argument.data_ptr()
            facts.append((argument.dtype, address & 15 == 0, argument.get_device()))
            values.append(address)
    return tuple(facts), values
