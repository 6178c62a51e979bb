"""Pictures in a report: whole, or where the largest error is."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from torch import Tensor

from tokkit.evaluate.exhibit import Exhibit, figure
from tokkit.evaluate.result import Case, Row

LARGEST_SIDE = 768
AMPLIFIED = 4
"""Factor of the difference pictures."""
_TIMES = "\u00d7"


class Pictures(Exhibit):
    """Each picture as it is, and the amplified difference of the judged one."""

    title: ClassVar[str] = "Pictures"
    hint: ClassVar[str] = "Click to zoom, and to switch in place."

    def keep(self, original: Tensor, reconstructions: dict[str, Tensor], system: str) -> tuple[Tensor, dict[str, Tensor]]:
        top, left = _window(original, reconstructions[system])
        return _cut(original, top, left), {name: _cut(values, top, left) for name, values in reconstructions.items()}

    def strip(self, case: Case, system: str, facts: Callable[[Row], str]) -> str:
        difference = (case.original.int() - case.reconstructions[system].int()).abs().mul(AMPLIFIED).clamp(max=255).byte()
        height, width = case.original.shape[1:]
        figures = [
            figure(case.original, "original", f"{width} {_TIMES} {height}"),
            figure(case.reconstructions[system], system, facts(case.rows[system])),
            figure(difference, f"|difference| {_TIMES} {AMPLIFIED}", "of the reconstruction"),
        ]
        others = {name: values for name, values in case.reconstructions.items() if name != system}
        return "".join([*figures, *(figure(values, name, facts(case.rows[name])) for name, values in others.items())])


def _cut(values: Tensor, top: int, left: int) -> Tensor:
    """8 bits, at most `LARGEST_SIDE` on a side."""
    window = values[:, top : top + LARGEST_SIDE, left : left + LARGEST_SIDE]
    return window.clamp(0, 1).mul(255).round().byte().cpu()


def _window(original: Tensor, reconstruction: Tensor) -> tuple[int, int]:
    """Where the largest error is, for pictures that are too large to be shown whole."""
    height, width = original.shape[1:]
    if max(height, width) <= LARGEST_SIDE:
        return 0, 0
    error = (original.cpu() - reconstruction.cpu()).square().mean(0)
    row, column = divmod(int(error.argmax()), width)
    return _start(row, height), _start(column, width)


def _start(at: int, size: int) -> int:
    """Of a window around `at` that stays inside."""
    return max(0, min(at - LARGEST_SIDE // 2, size - LARGEST_SIDE))
