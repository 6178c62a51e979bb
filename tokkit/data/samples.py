"""Pictures that come with a pip package: real ones for the demo, tests and smoke runs, with nothing to download."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from torch import Tensor

from tokkit.data.base import Crop, Source, Split
from tokkit.errors import InputError
from tokkit.modalities.base import Modality, Sample
from tokkit.registry import register

FILES: dict[Split, tuple[str, ...]] = {
    "train": (
        "astronaut.png",
        "brick.png",
        "camera.png",
        "cell.png",
        "clock_motion.png",
        "coins.png",
        "grass.png",
        "gravel.png",
        "hubble_deep_field.jpg",
        "ihc.png",
        "motorcycle_left.png",
        "retina.jpg",
        "text.png",
    ),
    "val": ("chelsea.png", "coffee.png", "rocket.jpg"),
}
"""scikit-image's pictures that its wheel holds and that its documentation says are free (CC0, public domain, no known restrictions)."""


@register("data", "samples")
class Samples(Source):
    """Sixteen free photographs out of the scikit-image package: 13 to train on, 3 held out (a cat, a cup, a rocket)."""

    def __init__(
        self,
        *,
        size: int = 64,
        crop: Crop = "random",
        resize: bool = False,
        flip: bool = True,
        cache: bool = True,
    ):
        """
        Args:
            size, crop, resize, flip, cache: see `Source`.
        """
        super().__init__(size=size, crop=crop, resize=resize, flip=flip, cache=cache)

    def find(self, modality: Modality, split: Split) -> list[Path]:
        if modality.name != "image":
            raise InputError(f"the data source `samples` holds pictures, and the modality is {modality.name}")
        folder = Path(str(resources.files("skimage").joinpath("data")))
        return [folder / name for name in FILES[split]]

    def load(self, item: Path, modality: Modality) -> Sample:
        return modality.read(item)

    def load_example(self, item: Path, modality: Modality) -> Tensor:
        return modality.read_example(item, smallest=self.smallest())
