"""AV1, by SVT-AV1."""

from __future__ import annotations

import os
from typing import ClassVar

from torch import Tensor

from tokkit.baselines.video import VideoCodec
from tokkit.errors import InputError
from tokkit.registry import register


@register("baseline", "av1")
class Av1(VideoCodec):
    """AV1 by SVT-AV1, preset 4, even sizes alone; quality q is the rate factor 63 - q."""

    name = "av1"
    encoder = "libsvtav1"
    form = "obu"
    worst = 63
    qualities = (0, 62)
    sweep = (3, 8, 13, 23, 33, 43)
    options: ClassVar[dict[str, str]] = {"preset": "4"}

    def __init__(self) -> None:
        """
        Raises:
            InputError: av is not installed, or its FFmpeg has no SVT-AV1.
        """
        super().__init__()
        os.environ.setdefault("SVT_LOG", "1")  # it writes to stderr what nobody asked for; 1: errors only

    def encode(self, values: Tensor, quality: int) -> bytes:
        """
        Raises:
            InputError: height or width is odd.
        """
        if values.shape[2] % 2 or values.shape[3] % 2:
            raise InputError(f"av1: SVT-AV1 takes even sizes alone, got {tuple(values.shape[2:])}")
        return super().encode(values, quality)
