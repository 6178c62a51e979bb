"""WebP."""

from __future__ import annotations

from typing import Any, ClassVar

from tokkit.baselines.pictures import PictureCodec
from tokkit.registry import register


@register("baseline", "webp")
class WebP(PictureCodec):
    """WebP, lossy, at its slowest and best setting (method 6)."""

    name = "webp"
    format = "WEBP"
    feature = "webp"
    qualities = (0, 100)
    sweep = (0, 5, 10, 20, 35, 50, 65, 80, 90)
    options: ClassVar[dict[str, Any]] = {"method": 6}
