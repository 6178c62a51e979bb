"""JPEG."""

from __future__ import annotations

from typing import Any, ClassVar

from tokkit.baselines.pictures import PictureCodec
from tokkit.registry import register


@register("baseline", "jpeg")
class Jpeg(PictureCodec):
    """JPEG, progressive, with optimized Huffman tables and colour at half the resolution (4:2:0)."""

    name = "jpeg"
    format = "JPEG"
    feature = "jpg"
    qualities = (1, 100)
    sweep = (5, 10, 20, 30, 45, 60, 75, 85, 92)
    options: ClassVar[dict[str, Any]] = {"optimize": True, "progressive": True, "subsampling": "4:2:0"}
