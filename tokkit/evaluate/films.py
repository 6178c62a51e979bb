"""Video in a report: one small animation with all systems side by side, in step, and still frames of each."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from html import escape
from typing import ClassVar

import torch
from PIL import Image
from torch import Tensor

from tokkit.evaluate.exhibit import Exhibit, figure
from tokkit.evaluate.result import Case, Row

LARGEST_SIDE = 256
FRAMES = 33
STILLS = 5
AMPLIFIED = 4
"""Factor of the difference."""
QUALITY = 80
"""Of the animation, lossy WebP: the still frames are exact."""
MILLISECONDS = 80
_TIMES = "\u00d7"


class Films(Exhibit):
    """The first frames of each video, whole or where the largest error is."""

    title: ClassVar[str] = "Videos"
    hint: ClassVar[str] = "The animation is lossy (WebP), the still frames are exact. Click to zoom, and to switch in place."

    def keep(self, original: Tensor, reconstructions: dict[str, Tensor], system: str) -> tuple[Tensor, dict[str, Tensor]]:
        top, left = _place(original, reconstructions[system])
        return _cut(original, top, left), {name: _cut(values, top, left) for name, values in reconstructions.items()}

    def strip(self, case: Case, system: str, facts: Callable[[Row], str]) -> str:
        others = {name: values for name, values in case.reconstructions.items() if name != system}
        difference = (case.original.int() - case.reconstructions[system].int()).abs().mul(AMPLIFIED).clamp(max=255).byte()
        shown = {
            "original": case.original,
            system: case.reconstructions[system],
            f"|difference| {_TIMES} {AMPLIFIED}": difference,
            **others,
        }
        frames, height, width = case.original.shape[1:]
        about = {name: facts(case.rows[name]) if name in case.rows else f"{width} {_TIMES} {height}, frames of {frames}" for name in shown}
        stills = "".join(figure(_stills(values), name, about[name]) for name, values in shown.items())
        return animation(list(shown.values()), "left to right: " + ", ".join(shown)) + stills


def animation(videos: list[Tensor], caption: str) -> str:
    """uint8 videos [C, T, H, W] of one size side by side, as a figure that a click enlarges."""
    side_by_side = torch.cat([video.expand(3, -1, -1, -1) for video in videos], -1)
    pictures = [Image.fromarray(frame.permute(1, 2, 0).contiguous().numpy()) for frame in side_by_side.unbind(1)]
    file = io.BytesIO()
    pictures[0].save(file, "WEBP", save_all=True, append_images=pictures[1:], duration=MILLISECONDS, loop=0, quality=QUALITY, method=4)
    data = "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode()
    height, width = side_by_side.shape[2:]
    image = f'<img src="{data}" alt="{escape(caption)}" width="{width}" height="{height}">'
    return (
        f'<figure data-name="side by side" style="flex-basis:100%"><button class="open" aria-label="zoom the animation">{image}</button>'
        f"<figcaption>side by side<small>{escape(caption)}</small></figcaption></figure>"
    )


def _stills(video: Tensor) -> Tensor:
    """Up to `STILLS` frames, spread over the time, one beside the other: [C, H, n W]."""
    places = torch.linspace(0, video.shape[1] - 1, min(STILLS, video.shape[1])).round().long()
    return torch.cat(list(video[:, places].unbind(1)), -1)


def _cut(values: Tensor, top: int, left: int) -> Tensor:
    """8 bits, the first `FRAMES` frames, at most `LARGEST_SIDE` on a side."""
    part = values[:, :FRAMES, top : top + LARGEST_SIDE, left : left + LARGEST_SIDE]
    return part.clamp(0, 1).mul(255).round().byte().cpu()


def _place(original: Tensor, reconstruction: Tensor) -> tuple[int, int]:
    """The corner of a window around the largest error, for frames that are too large to be shown whole."""
    height, width = original.shape[2:]
    if max(height, width) <= LARGEST_SIDE:
        return 0, 0
    error = (original.cpu() - reconstruction.cpu())[:, :FRAMES].square().mean((0, 1))
    row, column = divmod(int(error.argmax()), width)
    return _start(row, height), _start(column, width)


def _start(at: int, size: int) -> int:
    return max(0, min(at - LARGEST_SIDE // 2, size - LARGEST_SIDE))
