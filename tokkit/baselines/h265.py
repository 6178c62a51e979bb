"""H.265 (HEVC), by x265."""

from __future__ import annotations

from typing import ClassVar

from tokkit.baselines.video import VideoCodec, without_notes
from tokkit.registry import register


@register("baseline", "h265")
class H265(VideoCodec):
    """H.265 by libx265, preset slow; quality q is the rate factor 51 - q.

    Its AVX code writes behind the end of its look-ahead's memory where a frame is narrower than 64 pixels (x265 of av 18: the process
    aborts), so SSE 4.1 is all that it may use. The bytes are the same, and so is the time to a few percent.
    """

    name = "h265"
    encoder = "libx265"
    form = "hevc"
    worst = 51
    qualities = (0, 50)
    sweep = (6, 11, 16, 21, 26, 31, 36)
    options: ClassVar[dict[str, str]] = {"preset": "slow", "x265-params": "log-level=none:info=0:asm=sse4.1"}

    def stripped(self, data: bytes) -> bytes:
        return without_notes(data, frozenset({39, 40}), 1)
