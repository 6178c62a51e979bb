"""Video: files, folders of frames and tensors to [C, T, H, W] in [0, 1], and back."""

from __future__ import annotations

import math
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, BinaryIO, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from tokkit.errors import InputError
from tokkit.files import refuse_overwrite
from tokkit.modalities import video_files
from tokkit.modalities.base import Modality, Sample, window
from tokkit.modalities.image import Image, as_tensor, check_range
from tokkit.modalities.video_files import DEFAULT_RATE, About, at_rate, frames_of, open_video
from tokkit.registry import register

PIECE_VALUES = 1 << 24
"""Numbers in a piece of `blocks`, about: 64 MiB as float32."""
FRAME_NAME = "frame-{:06d}.png"
_FRAME = re.compile(r"frame-\d{6,}\.png")
_ACCEPTED = (
    "a path of a file or of a folder of frames, a tensor [C, T, H, W] or [B, C, T, H, W] (float in [0, 1], or uint8), "
    "an array [T, H, W, C] (float in [0, 1], or uint8), or a list of these"
)


@register("modality", "video")
class Video(Modality):
    """Moving pictures, float32 [channels, T, H, W] in [0, 1]; the frame rate of each goes along and into its token file.

    Read: what FFmpeg decodes of MP4, MOV, MKV, WebM, AVI, GIF and MPEG (by the package av), and folders of pictures of one size, in the
    order of the numbers in their names. The rotation that phones write is applied, alpha is composited on `background`, grey fills all
    channels, deeper pixels are rounded to 8 bits; sound, and shapes of pixels other than squares, are left out. Frames of no constant rate
    keep their order and get the average rate, unless `frame_rate` asks for one.

    A video takes 12 bytes a pixel of each frame as a sample; `blocks` reads files of any length piece by piece.
    """

    name: ClassVar[str] = "video"
    rank: ClassVar[int] = 3
    suffixes: ClassVar[tuple[str, ...]] = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".gif", ".mpg", ".mpeg")
    output_suffix: ClassVar[str] = ".mp4"
    extra_fields: ClassVar[tuple[str, ...]] = ("frame_rate",)

    def __init__(
        self,
        *,
        channels: Literal[1, 3] = 3,
        frame_rate: Annotated[float, Field(gt=0, le=video_files.MOST_RATE)] | None = None,
        clip: Annotated[int, Field(ge=1)] | None = None,
        background: str = "white",
        crf: Annotated[int, Field(ge=0, le=51)] = 17,
    ):
        """
        Args:
            channels: 3 for RGB, 1 for grey.
            frame_rate: frames a second that every file is brought to, by repeating frames and leaving frames out; None keeps each file's
                own. Folders and tensors have this rate, or 25.
            clip: frames of a training example, whose sides are the data source's `size`; as many as `size` when not given. Causal networks
                want 1 + a multiple of their stride in time.
            background: the colour behind transparent pixels: a name or "#rrggbb".
            crf: of the H.264 and VP9 files that `write` makes: less is better and larger; 0 loses nothing (H.264 in RGB, which few players
                show). `.mkv` and `.avi` (FFV1) lose nothing anyway.

        Raises:
            InputError: no such colour.
        """
        self.channels = channels
        self.frame_rate = None if frame_rate is None else _rate(frame_rate)
        self.clip = clip
        self.crf = crf
        self.picture = Image(channels=channels, background=background)

    def read(self, file: str | Path | BinaryIO, *, name: str = "") -> Sample:
        blocks, extras = self.blocks(file, name=name)
        return Sample(torch.cat(list(blocks), 1), name or (Path(file).stem if isinstance(file, str | Path) else ""), extras)

    def read_example(self, file: str | Path | BinaryIO, *, name: str = "", smallest: int | None = None) -> Tensor:
        """As `read`, at 8 bits; with `smallest` the shorter side of larger videos is scaled to it while they are decoded."""
        if is_frames(file):
            return torch.cat([_bytes(block) for block in self.blocks(file)[0]], 1)
        with open_video(file, name) as (container, video, about, label):
            frames = [self._eight_bits(pixels) for pixels in self._at_rate(container, video, about, shorter=smallest)]
        return torch.stack(_not_empty(frames, label), 1)

    def read_clip(self, file: str | Path, start: int, count: int, *, smallest: int | None = None) -> Tensor:
        """Frames `start` to `start + count` of a file, at `frame_rate` or the file's average rate; fewer where it ends. Seeks first.

        Returns:
            uint8 [channels, n, H, W].

        Raises:
            InputError: the file cannot be read, or ends before `start`.
        """
        if is_frames(file):
            files = _frame_files(Path(file))[start : start + count]
            return torch.stack([_bytes(frame) for frame in _not_empty(list(self._pictures(files)), str(file))], 1)
        with open_video(file) as (container, video, about, label):
            frames = []
            for pixels in self._at_rate(container, video, about, shorter=smallest, first=start, constant=True):
                frames.append(self._eight_bits(pixels))
                if len(frames) == count:
                    break
        return torch.stack(_not_empty(frames, f"{label} from frame {start} on"), 1)

    def about(self, path: str | Path) -> About:
        """What the header of a file, or a folder, says; the number of frames is that at `frame_rate`.

        Raises:
            InputError: it cannot be read.
        """
        if is_frames(path):
            files = _frame_files(Path(path))
            height, width = self.picture.read(files[0]).values.shape[1:]
            return About(self.frame_rate or DEFAULT_RATE, len(files), (height, width))
        with open_video(path) as (_, _, about, _):
            rate = self.frame_rate or about.rate
            frames = None if about.frames is None else max(1, math.ceil(about.frames * rate / about.rate - Fraction(1, 100)))
            return About(rate, frames, about.size)

    def blocks(self, file: str | Path | BinaryIO, *, name: str = "") -> tuple[Iterator[Tensor], tuple[float, ...]]:
        """A video piece by piece, in memory for one piece: [channels, n, H, W] each, any n, together the very values that `read` gives.

        Returns:
            The pieces, and the extras of the sample: its frame rate.

        Raises:
            InputError: it cannot be read; also while the pieces are drawn.
        """
        if is_frames(file):
            assert isinstance(file, str | Path)
            files = _frame_files(Path(file))
            return _grouped(self._pictures(files)), (float(self.frame_rate or DEFAULT_RATE),)
        if isinstance(file, str | Path) and Path(file).is_dir():
            raise InputError(f"{file}: a folder, but not of frames, which has pictures at its top and no video")
        pieces = self._open_blocks(file, name)
        rate = next(pieces)
        assert isinstance(rate, Fraction)
        return _grouped(frame for frame in pieces if isinstance(frame, Tensor)), (float(np.float32(rate)),)

    def write(self, path: str | Path, values: Tensor, *, force: bool = False, frame_rate: float | None = None) -> None:
        """Write [C, T, H, W], clamped and rounded to 8 bits: MP4, M4V and MOV as H.264, WebM as VP9, MKV and AVI as FFV1 without loss, and
        a path without a suffix as a folder of PNG frames.

        Args:
            path, values, force: as everywhere.
            frame_rate: of the file; that of the modality, or 25, when not given. A folder does not keep it.

        Raises:
            InputError: the file exists and `force` is not set; another suffix; not [C, T, H, W]; NaN.
        """
        with self.writer(path, force=force, frame_rate=frame_rate) as put:
            put(values)

    def is_folder(self, path: Path) -> bool:
        return is_frames(path)

    def write_sample(self, path: str | Path, sample: Sample, *, force: bool = False) -> None:
        self.write(path, sample.values, force=force, frame_rate=sample.extras[0] if sample.extras else None)

    @contextmanager
    def writer(self, path: str | Path, *, force: bool = False, frame_rate: float | None = None) -> Iterator[Callable[[Tensor], None]]:
        """Write piece by piece: a function that appends [C, n, H, W]. The file, or folder, appears, whole, when the block ends well.

        Raises:
            InputError: as `write`.
        """
        path = Path(path)
        rate = (self.frame_rate or DEFAULT_RATE) if frame_rate is None else _rate(frame_rate)
        opened = video_files.writer(path, rate, crf=self.crf, force=force)
        with opened if path.suffix else _folder_writer(path, self.picture, force=force) as put:

            def checked(values: Tensor) -> None:
                if values.ndim != 4 or values.shape[0] not in (1, 3) or 0 in values.shape:
                    raise InputError(f"{path}: a video is [3, T, H, W] or [1, T, H, W], got {list(values.shape)}")
                values = values.detach().to("cpu", torch.float32)
                if values.isnan().any():
                    raise InputError(f"{path}: the video has {int(values.isnan().sum())} NaN values, refusing to write it")
                put(_bytes(values.clamp(0, 1)))

            yield checked

    def samples(self, inputs: Any) -> list[Sample]:
        """Anything that holds video, as samples.

        Args:
            inputs: a path of a file or of a folder of frames, a tensor [C, T, H, W] or [B, C, T, H, W], an array [T, H, W, C] or
                [B, T, H, W, C], or a list of these. Floats are in [0, 1]; uint8 is divided by 255.

        Raises:
            InputError: something else, another number of channels, NaN or infinite values, floats outside [0, 1].
        """
        found = self._collect(inputs)
        for position, sample in enumerate(found):
            sample.name = sample.name or str(position)
        return found

    def normalize(self, values: Tensor) -> Tensor:
        """[0, 1] to [-1, 1]."""
        return self.picture.normalize(values)

    def denormalize(self, values: Tensor, *, clamp: bool = True) -> Tensor:
        """[-1, 1] to [0, 1]."""
        return self.picture.denormalize(values, clamp=clamp)

    def shown(self, reconstruction: Tensor, target: Tensor) -> Tensor:
        """As of pictures: black and white cannot be overdone."""
        return self.picture.shown(reconstruction, target)

    def crop(
        self,
        values: Tensor,
        size: int,
        *,
        generator: torch.Generator,
        center: bool = False,
        resize: bool = False,
        flip: bool = False,
    ) -> Tensor:
        """`clip` frames from a random time, cut to a square as pictures are, all frames alike; a video that is too short holds its last."""
        values = window(values, 1, self.clip or size, None if center else generator)
        frames = self.picture.crop(values.flatten(0, 1), size, generator=generator, center=center, resize=resize, flip=flip)
        return frames.unflatten(0, values.shape[:2])

    def _collect(self, inputs: Any) -> list[Sample]:
        match inputs:
            case str() | Path():
                return [self.read(inputs)]
            case list() | tuple():
                return [sample for item in inputs for sample in self._collect(item)]
            case Tensor():
                return self._from_tensor(inputs, "tensor", "[C, T, H, W]")
            case np.ndarray():
                if inputs.ndim not in (4, 5) or inputs.dtype.kind not in "uf":
                    given = f"array of {inputs.dtype} {list(inputs.shape)}"
                    raise InputError(f"{given}: expected [T, H, W, C] or a batch of them, uint8 or float in [0, 1]")
                return self._from_tensor(as_tensor(np.moveaxis(inputs, -1, -4)), "array", "[T, H, W, C]")
            case _:
                raise InputError(f"video: cannot take a {type(inputs).__name__}; give {_ACCEPTED}")

    def _from_tensor(self, tensor: Tensor, what: str, layout: str) -> list[Sample]:
        shape = list(tensor.shape)
        if tensor.ndim not in (4, 5) or tensor.shape[-4] != self.channels or 0 in shape[-3:]:
            expected = f"{layout} of {self.channels} channels, not empty, or a batch of them"
            raise InputError(f"{what} of {shape} (channels first): expected {expected}")
        if tensor.dtype == torch.uint8:
            values = tensor.float().div_(255)
        elif tensor.is_floating_point():
            values = tensor.detach().float()
            check_range(values, what)
            values = values.clamp(0, 1)
        else:
            raise InputError(f"{what} of {tensor.dtype}: expected float in [0, 1], or uint8")
        rate = float(self.frame_rate or DEFAULT_RATE)
        return [Sample(video, extras=(rate,)) for video in (values if values.ndim == 5 else values[None])]

    def _open_blocks(self, file: str | Path | BinaryIO, name: str) -> Iterator[Fraction | Tensor]:
        """The frame rate, then frames [channels, H, W]."""
        with open_video(file, name) as (container, video, about, label):
            yield self.frame_rate or about.rate
            count = 0
            for pixels in self._at_rate(container, video, about):
                yield self._eight_bits(pixels).float().div_(255)
                count += 1
            _not_empty([None] * count, label)

    def _at_rate(
        self, container: Any, video: Any, about: About, *, shorter: int | None = None, first: int = 0, constant: bool = False
    ) -> Iterator[Tensor]:
        """Pixels of a file: every frame once, or, with `frame_rate` or `constant`, at a constant rate."""
        rate = self.frame_rate or about.rate
        frames = frames_of(container, video, about, start=Fraction(first) / rate, shorter=shorter)
        if self.frame_rate is None and not constant:
            return (frame.pixels for frame in frames)
        return at_rate(frames, about.rate, rate, first=first)

    def _eight_bits(self, pixels: Tensor) -> Tensor:
        """uint8 [3 or 4, H, W] as uint8 [channels, H, W]."""
        if pixels.shape[0] == 3 == self.channels:
            return pixels
        return _bytes(self.picture.composited(pixels))

    def _pictures(self, files: list[Path]) -> Iterator[Tensor]:
        size: tuple[int, ...] | None = None
        for file in files:
            values = self.picture.read(file).values
            size = size or tuple(values.shape[1:])
            if tuple(values.shape[1:]) != size:
                raise InputError(f"{file}: {list(values.shape[1:])}, and the frames before it are {list(size)}; frames have one size")
            yield values


def is_frames(file: Any) -> bool:
    """Whether this is a folder of frames: pictures at its top, and no video."""
    if not isinstance(file, str | Path) or not Path(file).is_dir():
        return False
    suffixes = {entry.suffix.lower() for entry in Path(file).iterdir() if not entry.name.startswith(".")}
    return bool(suffixes & set(Image.suffixes) - {".gif"}) and not suffixes & set(Video.suffixes)


def _frame_files(folder: Path) -> list[Path]:
    """Its pictures, numbers in their names by value."""
    files = [entry for entry in folder.iterdir() if entry.suffix.lower() in Image.suffixes and not entry.name.startswith(".")]
    return sorted(files, key=lambda file: [(int(part), "") if part.isdigit() else (0, part) for part in re.split(r"(\d+)", file.name)])


def _grouped(frames: Iterator[Tensor]) -> Iterator[Tensor]:
    """Frames [C, H, W] as pieces [C, n, H, W] of about `PIECE_VALUES` numbers; at least one."""
    held: list[Tensor] = []
    for frame in frames:
        held.append(frame)
        if len(held) * frame.numel() >= PIECE_VALUES:
            yield torch.stack(held, 1)
            held = []
    if held:
        yield torch.stack(held, 1)


@contextmanager
def _folder_writer(path: Path, picture: Image, *, force: bool) -> Iterator[Callable[[Tensor], None]]:
    refuse_overwrite(path, force=force)
    if path.exists():
        others = [path] if not path.is_dir() else [entry for entry in path.iterdir() if not _FRAME.fullmatch(entry.name)]
        if others:
            raise InputError(f"{path}: holds other things than frames ({others[0].name}), refusing to replace it")
    path.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    count = 0
    try:

        def put(values: Tensor) -> None:
            nonlocal count
            for frame in values.unbind(1):
                picture.write(part / FRAME_NAME.format(count), frame.float().div(255))
                count += 1

        yield put
        part.chmod(0o755)
        if path.exists():
            shutil.rmtree(path)
        part.rename(path)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _bytes(values: Tensor) -> Tensor:
    """[0, 1] as steps of 1/255, rounded half up."""
    return values if values.dtype == torch.uint8 else values.mul(255).add_(0.5).to(torch.uint8)


def _rate(number: float) -> Fraction:
    """The fraction that was meant: 30000/1001 for 29.97003."""
    if not 0 < number <= video_files.MOST_RATE:
        raise InputError(f"a frame rate is above 0 and at most {video_files.MOST_RATE} frames a second, got {number:g}")
    return max(Fraction(number).limit_denominator(1001), Fraction(1, 1001))


def _not_empty(frames: list[Any], label: str) -> list[Any]:
    if not frames:
        raise InputError(f"{label}: no frames in it, or damaged: 0 frames could be decoded")
    return frames
