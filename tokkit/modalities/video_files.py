"""Video files by PyAV (FFmpeg): frames with their times one after the other, and back. Knows no tokenizer and no folders of pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from torch import Tensor

from tokkit.errors import InputError
from tokkit.ffmpeg import pyav, reason, set_colours, to_frame, to_pixels
from tokkit.files import refuse_overwrite, replacing
from tokkit.modalities.cut_off import missing_bytes
from tokkit.modalities.inputs import opened

FORMATS = "mov,mp4,matroska,webm,avi,gif,mpeg,mpegts,ogg,flv"
"""FFmpeg's names of the containers that are read. Playlists, which open other files and addresses, are not among them."""
MOST_RATE = 1000
"""A container that says more frames a second than this says nothing useful (Matroska's milliseconds, say)."""
DEFAULT_RATE = Fraction(25)


class Timed(NamedTuple):
    """One picture of a video.

    Attributes:
        time: seconds from the first frame, an exact fraction.
        pixels: uint8 [3, H, W]; [4, H, W] where there is transparency.
    """

    time: Fraction
    pixels: Tensor


class About(NamedTuple):
    """What the header of a video says.

    Attributes:
        rate: frames a second, on average.
        frames: how many; None where the header does not say.
        size: (height, width) as stored.
    """

    rate: Fraction
    frames: int | None
    size: tuple[int, int]


class Codec(NamedTuple):
    """How a suffix is written.

    Attributes:
        name: FFmpeg's name of the encoder.
        pixels: its pixel format for sizes that are even, and for others.
        options: of the encoder.
    """

    name: str
    pixels: tuple[str, str]
    options: dict[str, str]


H264 = Codec("libx264", ("yuv420p", "yuv444p"), {"preset": "medium"})
H264_LOSSLESS = Codec("libx264rgb", ("rgb24", "rgb24"), {"preset": "medium"})
VP9 = Codec("libvpx-vp9", ("yuv420p", "yuv444p"), {"b": "0", "deadline": "good", "cpu-used": "4"})
FFV1 = Codec("ffv1", ("bgr0", "bgr0"), {})
WRITERS = {".mp4": H264, ".m4v": H264, ".mov": H264, ".webm": VP9, ".mkv": FFV1, ".avi": FFV1}


@contextmanager
def open_video(file: str | Path | BinaryIO, name: str = "") -> Iterator[tuple[Any, Any, About, str]]:
    """The container, its first video stream, what the header says, and what messages call it.

    Raises:
        InputError: no video that can be read; also for what FFmpeg raises inside the block.
    """
    av = pyav()
    with opened(file, name) as (stream, label):
        if missing := missing_bytes(stream):
            raise InputError(f"{label}: cut off: the file says that it is {missing} bytes longer")
        try:
            with av.open(stream, "r", options={"format_whitelist": FORMATS}) as container:
                if not container.streams.video:
                    raise InputError(f"{label}: no video in it, {len(container.streams)} other streams")
                video = container.streams.video[0]
                if not (video.width and video.height):
                    raise InputError(f"{label}: no frames in it, or damaged: its video has no size")
                video.thread_type = "AUTO"
                yield container, video, _about(container, video), label
        except InputError:
            raise
        except (av.error.FFmpegError, ValueError, EOFError, MemoryError, NotImplementedError) as error:
            raise InputError(f"{label}: not a video that can be read ({FORMATS}), or damaged: {reason(error)}") from error


def frames_of(container: Any, video: Any, about: About, *, start: Fraction = Fraction(0), shorter: int | None = None) -> Iterator[Timed]:
    """Frames in the order in which they are shown.

    Args:
        container, video, about: of `open_video`.
        start: seconds; the first frame given is the last one that begins at or before it, or an earlier one.
        shorter: frames are scaled down, where they are larger, so that the shorter side is this.
    """
    origin = video.start_time or 0
    if start > 0 and video.time_base:
        container.seek(origin + int(start / video.time_base), stream=video, backward=True)
    for index, frame in enumerate(container.decode(video)):
        time = Fraction(index) / about.rate if frame.pts is None else (frame.pts - origin) * Fraction(frame.time_base)
        yield Timed(time, _pixels(frame, shorter))


def at_rate(frames: Iterator[Timed], own: Fraction, rate: Fraction, *, first: int = 0) -> Iterator[Tensor]:
    """The pictures that are shown at times first / rate, (first + 1) / rate, ...: each repeated or left out as that needs.

    Args:
        frames: by rising time.
        own: their rate, for how long the last one is shown.
        rate: wanted.
        first: index of the first picture wanted.
    """
    slack = min(Fraction(1, 1000), 1 / (4 * max(own, rate)))  # Matroska rounds times to milliseconds
    shown: Tensor | None = None
    last = Fraction(0)
    count = first
    for time, pixels in frames:
        while shown is not None and Fraction(count) / rate + slack < time:
            yield shown
            count += 1
        shown, last = pixels, time
    while shown is not None and Fraction(count) / rate + slack < last + 1 / own:
        yield shown
        count += 1


@contextmanager
def writer(path: Path, rate: Fraction, *, crf: int, force: bool = False) -> Iterator[Callable[[Tensor], None]]:
    """Write a file piece by piece: a function that appends uint8 [C, n, H, W], C 3 or 1. The file appears, whole, when the block ends well.

    Args:
        path: its suffix is one of `WRITERS`.
        rate: frames a second.
        crf: constant rate factor of H.264 and VP9; 0 for no loss (H.264 in RGB).
        force: replace the file.

    Raises:
        InputError: the file exists and `force` is not set, another suffix, or FFmpeg cannot encode it.
    """
    av = pyav()
    codec = WRITERS.get(path.suffix.lower())
    if codec is None:
        raise InputError(f"{path}: cannot write {path.suffix!r}; use {', '.join(WRITERS)}, or a path without a suffix for a folder of PNG")
    codec = H264_LOSSLESS if codec is H264 and crf == 0 else codec
    options = {**codec.options, **({"crf": str(crf)} if codec is not FFV1 else {})}
    if codec is VP9 and crf == 0:
        options["lossless"] = "1"
    refuse_overwrite(path, force=force)
    try:
        with replacing(path) as part, av.open(str(part), "w") as container:
            stream: Any = None
            count = 0

            def put(values: Tensor) -> None:
                nonlocal stream, count
                for picture in values.unbind(1):
                    height, width = picture.shape[1:]
                    if stream is None:
                        stream = container.add_stream(codec.name, rate=rate, width=width, height=height, options=options)
                        stream.pix_fmt = codec.pixels[(height % 2) | (width % 2)]
                        if stream.pix_fmt.startswith("yuv"):
                            set_colours(stream.codec_context)
                    frame = to_frame(picture, stream.pix_fmt)
                    frame.pts, frame.time_base = count, 1 / rate
                    container.mux(stream.encode(frame))
                    count += 1

            yield put
            if stream is not None:
                container.mux(stream.encode())
    except InputError:
        raise
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise InputError(f"{path}: cannot write the video: {reason(error)}") from error


def _about(container: Any, video: Any) -> About:
    rate = next((Fraction(r) for r in (video.average_rate, video.guessed_rate, video.base_rate) if r and 0 < r <= MOST_RATE), DEFAULT_RATE)
    frames = video.frames or None
    if frames is None and video.duration and video.time_base:
        frames = round(video.duration * video.time_base * rate)
    elif frames is None and container.duration:
        frames = round(Fraction(container.duration, 1_000_000) * rate)
    return About(rate, frames, (video.height, video.width))


def _pixels(frame: Any, shorter: int | None) -> Tensor:
    transparent = any(component.is_alpha for component in frame.format.components)
    size = {}
    if shorter is not None and min(frame.width, frame.height) > shorter:
        scale = shorter / min(frame.width, frame.height)
        size = {"width": max(shorter, round(frame.width * scale)), "height": max(shorter, round(frame.height * scale))}
    return to_pixels(frame, alpha=transparent, **size)
