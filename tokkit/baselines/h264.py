"""H.264 (AVC), by x264."""

from __future__ import annotations

from typing import ClassVar

from tokkit.baselines.video import VideoCodec, without_notes
from tokkit.registry import register


@register("baseline", "h264")
class H264(VideoCodec):
    """H.264 by libx264, preset slow; quality q is the rate factor 51 - q."""

    name = "h264"
    encoder = "libx264"
    form = "h264"
    worst = 51
    qualities = (0, 50)
    sweep = (6, 11, 16, 21, 26, 31, 36)
    options: ClassVar[dict[str, str]] = {"preset": "slow"}

    def stripped(self, data: bytes) -> bytes:
        return without_notes(data, frozenset({6}), 0)
