"""The preparation of video (TokBench's video_scripts/resize_rec.py): the shorter side to R, black to multiples of 32, and both undone.

Reconstructions are written as imageio's FFmpeg writer does by default, which is part of the score: H.264 at CRF 25, yuv420p, both sides
scaled up to multiples of 16; here by PyAV.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tokkit.errors import InputError
from tokkit.ffmpeg import pyav, reason
from tokkit.files import replacing
from tokkit.modalities.video import Video

Frame = NDArray[np.uint8]
MULTIPLE = 32
_BLOCK = 16
_CRF = "25"


@dataclass(frozen=True)
class VideoPlacement:
    """Where a frame lies on the padded one: its own size, its size there, the padded size, and its upper left corner, each (x, y)."""

    original: tuple[int, int]
    scaled: tuple[int, int]
    padded: tuple[int, int]
    corner: tuple[int, int]


def video_placement(width: int, height: int, size: int) -> VideoPlacement:
    """Where a frame of width x height lies when its shorter side is `size`."""
    shorter = min(width, height)
    scaled = (size if width == shorter else round(width * size / shorter), size if height == shorter else round(height * size / shorter))
    padded = (-(-scaled[0] // MULTIPLE) * MULTIPLE, -(-scaled[1] // MULTIPLE) * MULTIPLE)
    return VideoPlacement((width, height), scaled, padded, ((padded[0] - scaled[0]) // 2, (padded[1] - scaled[1]) // 2))


def fit_frame(frame: Frame, placed: VideoPlacement) -> Frame:
    """A frame [H, W, 3] scaled (bilinear), in the middle of black."""
    padded = Image.new("RGB", placed.padded, (0, 0, 0))
    padded.paste(Image.fromarray(frame).resize(placed.scaled, Image.Resampling.BILINEAR), placed.corner)
    return np.asarray(padded)


def restore_frame(padded: Frame, placed: VideoPlacement) -> Frame:
    """The frame cut out, at its original size (bilinear)."""
    left, top = placed.corner
    cut = Image.fromarray(padded).crop((left, top, left + placed.scaled[0], top + placed.scaled[1]))
    return np.asarray(cut.resize(placed.original, Image.Resampling.BILINEAR))


def open_clip(path: Path) -> tuple[Iterator[Frame], Fraction]:
    """The frames [H, W, 3] of a file, one by one, and its frame rate.

    Raises:
        InputError: it cannot be read; also while frames are drawn.
    """
    video = Video()
    rate = video.about(path).rate
    pieces, _ = video.blocks(path)
    return (frame for piece in pieces for frame in piece.mul(255).round().byte().permute(1, 2, 3, 0).numpy()), rate


def at_size(frame: Frame, size: tuple[int, int]) -> Frame:
    """A frame of a reconstruction at (width, height) of the annotation: the writer's multiples of 16 are undone."""
    if (frame.shape[1], frame.shape[0]) == size:
        return frame
    return np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.BILINEAR))


@contextmanager
def clip_writer(path: Path, rate: Fraction) -> Iterator[Callable[[Frame], None]]:
    """Write a file frame by frame; it appears, whole, when the block ends well.

    Raises:
        InputError: FFmpeg cannot encode it.
    """
    av = pyav()
    try:
        with replacing(path) as part, av.open(str(part), "w", format="mp4") as container:
            stream: Any = None

            def put(frame: Frame) -> None:
                nonlocal stream
                if stream is None:
                    stream = container.add_stream("libx264", rate=rate, options={"crf": _CRF})
                    stream.width, stream.height = (-(-side // _BLOCK) * _BLOCK for side in (frame.shape[1], frame.shape[0]))
                    stream.pix_fmt = "yuv420p"
                given = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
                container.mux(stream.encode(given.reformat(stream.width, stream.height, "yuv420p", interpolation="BICUBIC")))

            yield put
            if stream is not None:
                container.mux(stream.encode())
    except InputError:
        raise
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise InputError(f"{path}: cannot write the video: {reason(error)}") from error
