"""Launches: what starts the kernel compiled before, and what asks Triton for another. The kernels themselves: `kernel_cases.py`."""

from __future__ import annotations

from typing import Any

import torch

from tokkit.ops.launch import Launcher


class Recorder:
    """Stands for a `triton.jit` function: notes what it is launched with, and returns a compiled kernel that does the same."""

    def __init__(self) -> None:
        self.compilations: list[tuple[Any, ...]] = []
        self.launches: list[tuple[Any, ...]] = []

    def fn(self, x: Any, y: Any, n: int, D: int, R: int) -> None: ...

    def __getitem__(self, grid: tuple[int, ...]) -> Any:
        def launch(*arguments: Any, **keywords: Any) -> Any:
            self.compilations.append((grid, keywords))
            return Compiled(self)

        return launch


class Compiled:
    def __init__(self, owner: Recorder) -> None:
        self.owner = owner

    def __getitem__(self, grid: tuple[int, ...]) -> Any:
        return lambda *arguments: self.owner.launches.append((grid, arguments))


def test_alike_launches_start_the_kernel_that_is_there() -> None:
    kernel = Recorder()
    launcher = Launcher(kernel, R=4, D=8, options={"num_warps": 2})
    x, y = torch.zeros(32), torch.zeros(32, dtype=torch.int64)
    launcher((3, 1), x, y, 32)
    assert kernel.compilations == [((3, 1), {"R": 4, "D": 8, "num_warps": 2})]
    launcher((5, 2), x, y, 48)
    assert len(kernel.compilations) == 1
    assert kernel.launches == [((5, 2, 1), (x.data_ptr(), y.data_ptr(), 48, 8, 4))], "constants come in the kernel's order"


def test_other_specializations_ask_triton() -> None:
    kernel = Recorder()
    launcher = Launcher(kernel, D=8, R=4)
    x, y = torch.zeros(64), torch.zeros(64)
    calls = [(x, y, 32), (x, y, 33), (x, y, 1), (x, y, 2**31 + 16), (x.half(), y, 32), (x[1:], y, 32), (x, y, 0.5)]
    for call in calls:
        launcher((1, 1), *call)
    assert len(kernel.compilations) == len(calls)
    for call in calls:
        launcher((1, 1), *call)
    assert len(kernel.compilations) == len(calls)
