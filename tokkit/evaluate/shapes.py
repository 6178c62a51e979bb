"""Shapes in a report: drawn from one side, and to be turned."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from tokkit.evaluate.exhibit import Exhibit, figure
from tokkit.evaluate.result import Case, Row
from tokkit.evaluate.turntable import BUTTON, PAGE, packed
from tokkit.geometry.frame import Frame
from tokkit.geometry.raster import draw
from tokkit.geometry.triangles import Array
from tokkit.modalities.mesh import triangles_of

SIZE = 320
_BACK = 24
"""Grey level behind the shapes."""
_DOT = 0.012


class Shapes(Exhibit):
    """Each mesh from the same side, in the original's frame; a button opens all of a case in a viewer."""

    title: ClassVar[str] = "Shapes"
    hint: ClassVar[str] = "All in the frame of the original, whose longest side is 2. Click to zoom, and to switch in place; or turn them."
    page: ClassVar[str] = PAGE

    def keep(self, original: Tensor, reconstructions: dict[str, Tensor], system: str) -> tuple[Tensor, dict[str, Tensor]]:
        return original.cpu(), {name: values.cpu() for name, values in reconstructions.items()}

    def strip(self, case: Case, system: str, facts: Callable[[Row], str]) -> str:
        corners = triangles_of(case.original) if len(case.original) == 9 else case.original[:3].T[:, None].double().numpy()
        frame = Frame.of(corners.reshape(-1, 3))

        def shown(values: Tensor, name: str, told: str) -> str:
            triangles = frame.enter(triangles_of(values) if len(values) == 9 else _dots(values, frame))
            button = BUTTON.format(mesh=packed(triangles)) if len(triangles) else ""
            return figure(picture(triangles), name, told, button)

        count = case.original.shape[1]
        kind = "triangles" if len(case.original) == 9 else "points"
        figures = [shown(case.original, "original", f"{count} {kind}")]
        for name in sorted(case.reconstructions, key=lambda other: other != system):
            figures.append(shown(case.reconstructions[name], name, facts(case.rows[name])))
        return "".join(figures)


def picture(triangles: Array, size: int = SIZE) -> Tensor:
    """Triangles [F, 3, 3] in [-1, 1] as a uint8 picture [3, size, size]."""
    drawn = draw(triangles, size).astype(np.float64)
    opacity = drawn[..., 3:] / 255
    return torch.from_numpy(np.rint(drawn[..., :3] * opacity + _BACK * (1 - opacity)).astype(np.uint8).transpose(2, 0, 1).copy())


def _dots(cloud: Tensor, frame: Frame) -> Array:
    """A point cloud [3 or 6, P] as small triangles, in the numbers of its file."""
    size = _DOT * max(frame.half)
    points = cloud[:3].T.double().numpy()[:, None]
    return points + size * np.array([[1, 0, -0.5], [-0.5, 0.87, 0.5], [-0.5, -0.87, 0]])
