"""Generated video: a camera moves over a picture, and things move in front of it. For tests and runs that should depend on no file."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from tokkit.data.base import Crop, Source, Split, mixed
from tokkit.data.samples import FILES
from tokkit.data.synthetic import picture
from tokkit.errors import InputError
from tokkit.modalities.base import Modality, Sample
from tokkit.modalities.video import Video
from tokkit.registry import register

CANVAS = 320
"""Shorter side, in pixels, of the pictures that the camera moves over."""


@register("data", "moving")
class Moving(Source):
    """A camera pans, turns and zooms over a drawing or a photograph; cut-outs move before it. Video i of a seed is always the same."""

    def __init__(
        self,
        *,
        count: Annotated[int, Field(ge=1)] = 256,
        frames: Annotated[int, Field(ge=1)] = 33,
        scene: Literal["drawings", "photographs"] = "drawings",
        objects: Annotated[int, Field(ge=0)] = 3,
        speed: Annotated[float, Field(ge=0)] = 1.0,
        seed: int = 0,
        size: int = 64,
        crop: Crop = "random",
        flip: bool = False,
        cache: bool = False,
    ):
        """
        Args:
            count: of videos in the split "train"; "val" has a quarter as many, other ones.
            frames: of each.
            scene: drawings, as the source `synthetic` makes them, or the photographs of `samples`, those of "val" held out.
            objects: cut-outs of another picture that move by themselves.
            speed: 1: most things move 1 to 2 percent of the height a frame.
            seed: of the whole set.
            size, crop, flip, cache: see `Source`; the videos are a quarter larger than `size`.
        """
        super().__init__(size=size, crop=crop, flip=flip, cache=cache)
        self.count, self.frames, self.scene, self.objects, self.speed, self.seed = count, frames, scene, objects, speed, seed
        self._photographs: list[Tensor] = []

    def find(self, modality: Modality, split: Split) -> range:
        if not isinstance(modality, Video):
            raise InputError(f"the data source `moving` makes video, and the modality is {modality.name}")
        return range(self.count) if split == "train" else range(self.count, self.count + max(1, self.count // 4))

    def load(self, item: int, modality: Modality) -> Sample:
        assert isinstance(modality, Video)
        generator = torch.Generator().manual_seed(mixed(self.seed, item))
        side = self.size + self.size // 4
        values = self._canvas(item, modality, generator)
        view = _seen(values, _path(self.frames, self.speed, generator, zoom=(0.35, 0.6)), side)
        for number in range(self.objects):
            other = self._canvas(item, modality, generator)
            inside = _path(self.frames, 1.5 * self.speed, generator, zoom=(0.1, 0.25))
            view = _before(view, other, number % 2 == 0, inside, side, generator)
        extras = (float(modality.frame_rate or 25),)
        steps = view.clamp(0, 1).mul(255).round().div(255)  # as files have them; the cache then takes a byte each
        return Sample(steps.transpose(0, 1).contiguous(), f"moving-{item:06d}", extras)

    def _canvas(self, item: int, modality: Video, generator: torch.Generator) -> Tensor:
        """[C, H, W], the shorter side `CANVAS`."""
        if self.scene == "drawings":
            return picture(modality.channels, CANVAS, generator)
        names = FILES["train" if item < self.count else "val"]
        name = names[int(torch.randint(len(names), (), generator=generator))]
        values = modality.picture.read(Path(str(resources.files("skimage").joinpath("data"))) / name).values
        scale = CANVAS / min(values.shape[1:])
        size = (max(CANVAS, round(values.shape[1] * scale)), max(CANVAS, round(values.shape[2] * scale)))
        return F.interpolate(values[None], size, mode="bilinear", antialias=True)[0]


def _path(frames: int, speed: float, generator: torch.Generator, *, zoom: tuple[float, float]) -> Tensor:
    """Smooth motion from a random start: [T, 4], the centre x and y in [-1, 1], the angle, and the half side of what is seen."""
    x, y, vx, vy, phase, turn, size, grow = torch.rand(8, generator=generator)
    time = torch.arange(frames) * 0.03 * speed
    angle = (phase - 0.5) * 0.5 + (turn - 0.5) * time * 2
    half = (zoom[0] + (zoom[1] - zoom[0]) * size) * (1 + (grow - 0.5) * time).clamp(0.6, 1.6)
    room = 1 - half
    return torch.stack([_bounced(x, vx, time) * room, _bounced(y, vy, time) * room, angle, half], 1)


def _bounced(start: Tensor, velocity: Tensor, time: Tensor) -> Tensor:
    """A line between -1 and 1 that turns round at the walls."""
    place = start + (velocity - 0.5) * 2 * time
    return 1 - 2 * (place % 2 - 1).abs()


def _seen(canvas: Tensor, path: Tensor, side: int) -> Tensor:
    """What a camera on a path sees: [C, H, W] -> [T, C, side, side]."""
    x, y, angle, half = path.unbind(1)
    cosine, sine = half * angle.cos(), half * angle.sin()
    matrix = torch.stack([torch.stack([cosine, -sine, x], 1), torch.stack([sine, cosine, y], 1)], 1)
    grid = F.affine_grid(matrix, [len(path), len(canvas), side, side], align_corners=False)
    return F.grid_sample(canvas.expand(len(path), -1, -1, -1), grid, mode="bilinear", padding_mode="reflection", align_corners=False)


def _before(view: Tensor, canvas: Tensor, disc: bool, path: Tensor, side: int, generator: torch.Generator) -> Tensor:
    """Put a cut-out of another picture, which moves along a path, before what is seen."""
    x, y, angle, half = (part[:, None, None] for part in path.unbind(1))
    rows, columns = torch.meshgrid(torch.linspace(-1, 1, side), torch.linspace(-1, 1, side), indexing="ij")
    dx, dy = columns - x, rows - y
    u, v = angle.cos() * dx + angle.sin() * dy, -angle.sin() * dx + angle.cos() * dy
    distance = (u.square() + v.square()).sqrt() if disc else torch.maximum(u.abs(), v.abs())
    mask = ((half - distance) * side / 2 + 0.5).clamp(0, 1).unsqueeze(1)
    patch = torch.rand(2, generator=generator) - 0.5
    grid = torch.stack([u, v], -1) * 0.7 + patch
    inside = F.grid_sample(canvas.expand(len(path), -1, -1, -1), grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    return view * (1 - mask) + inside * mask
