"""Generated pictures, for tests and dry runs that should depend on no file."""

from __future__ import annotations

import torch
from torch import Tensor

from tokkit.data.base import Crop, Source, Split, mixed
from tokkit.errors import InputError
from tokkit.modalities.base import Modality, Sample
from tokkit.registry import register

_SHAPES = 6


@register("data", "synthetic")
class Synthetic(Source):
    """Colour gradients with rectangles, discs and stripes on them. Picture i of a seed is always the same one."""

    def __init__(
        self,
        *,
        count: int = 256,
        seed: int = 0,
        size: int = 64,
        crop: Crop = "random",
        flip: bool = False,
        cache: bool = False,
    ):
        """
        Args:
            count: of pictures in the split "train"; "val" has a quarter as many, other ones.
            seed: of the whole set.
            size, crop, flip, cache: see `Source`; the pictures are a quarter larger than `size`.

        Raises:
            InputError: `count` is not positive.
        """
        super().__init__(size=size, crop=crop, flip=flip, cache=cache)
        if count < 1:
            raise InputError(f"synthetic count must be at least 1, got {count}")
        self.count = count
        self.seed = seed

    def find(self, modality: Modality, split: Split) -> range:
        if modality.name != "image":
            raise InputError(f"the data source `synthetic` makes pictures, and the modality is {modality.name}")
        return range(self.count) if split == "train" else range(self.count, self.count + max(1, self.count // 4))

    def load(self, item: int, modality: Modality) -> Sample:
        generator = torch.Generator().manual_seed(mixed(self.seed, item))
        return Sample(picture(modality.channels, self.size + self.size // 4, generator), f"synthetic-{item:06d}")


def picture(channels: int, side: int, generator: torch.Generator) -> Tensor:
    """A drawing: float32 [channels, side, side] in [0, 1]."""

    def rand(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator)

    y, x = torch.meshgrid(torch.linspace(0, 1, side), torch.linspace(0, 1, side), indexing="ij")
    start, end, angle = rand(channels, 1, 1), rand(channels, 1, 1), rand(1) * 2 * torch.pi
    along = (torch.cos(angle) * (x - 0.5) + torch.sin(angle) * (y - 0.5)) / 2**0.5 + 0.5
    picture = start + (end - start) * along
    for number in range(_SHAPES):
        (cx, cy, radius, period), color = rand(4), rand(channels, 1, 1)
        radius = 0.05 + 0.25 * radius
        box = torch.maximum((x - cx).abs(), (y - cy).abs()) < radius
        disc = (x - cx) ** 2 + (y - cy) ** 2 < radius**2
        stripes = box & (torch.sin((x + y) * (20 + 180 * period)) > 0)
        picture = torch.where((box, disc, stripes)[number % 3], color, picture)
    return picture
