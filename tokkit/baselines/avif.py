"""AVIF."""

from __future__ import annotations

from typing import Any, ClassVar

from tokkit.baselines.pictures import PictureCodec
from tokkit.registry import register


@register("baseline", "avif")
class Avif(PictureCodec):
    """AVIF (AV1), 4:2:0, at speed 6 of 10."""

    name = "avif"
    format = "AVIF"
    feature = "avif"
    qualities = (0, 100)
    sweep = (5, 15, 25, 35, 45, 55, 65, 75, 85)
    options: ClassVar[dict[str, Any]] = {"speed": 6, "subsampling": "4:2:0"}
