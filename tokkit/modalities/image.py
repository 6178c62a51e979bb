"""Still pictures: files, PIL images, arrays and tensors to [C, H, W] in [0, 1] and back."""

from __future__ import annotations

import functools
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import numpy as np
import PIL.Image
import torch
from PIL import ImageColor, features
from torch import Tensor

from tokkit.errors import InputError
from tokkit.files import refuse_overwrite, writing
from tokkit.modalities.base import Modality, Sample
from tokkit.modalities.inputs import opened
from tokkit.registry import register

_ORIENTATION = 0x0112
_HALF_STEP = 1 / 255
"""Of 8 bits, in the networks' range."""
_WRITERS: dict[str, tuple[str, dict[str, Any]]] = {
    ".png": ("PNG", {}),
    ".jpg": ("JPEG", {"quality": 95, "subsampling": 0}),
    ".jpeg": ("JPEG", {"quality": 95, "subsampling": 0}),
    ".webp": ("WEBP", {"lossless": True}),
}
_DAMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    EOFError,
    ArithmeticError,
    struct.error,
    zlib.error,
    MemoryError,
    RuntimeError,
    PIL.Image.DecompressionBombError,
    PIL.Image.DecompressionBombWarning,
)
"""What Pillow's readers raise on damaged files, besides `UnidentifiedImageError`."""
_SLACK = 1e-5
_ACCEPTED = (
    "a path, a PIL image, a tensor [C, H, W] or [B, C, H, W] (float in [0, 1], or uint8), "
    "an array [H, W, C] (float in [0, 1], or uint8), or a list of these"
)


@register("modality", "image")
class Image(Modality):
    """Still pictures, float32 [channels, H, W] in [0, 1].

    Read: PNG, JPEG, WebP, BMP, TIFF, GIF (of several frames the first) and, where Pillow has it, AVIF; decided by the content, not the
    suffix. The EXIF orientation is applied, alpha is composited on `background`, palettes and CMYK become RGB, grey fills all channels.
    16-bit grey keeps its 16 bits; of 16-bit colour Pillow gives the upper 8. Colour profiles are not applied.

    A picture of H x W takes 12 HW bytes as a sample, and about twice that while it is read. Pillow refuses more than
    `2 * PIL.Image.MAX_IMAGE_PIXELS` (179 million) pixels; raise that number to read larger ones.
    """

    name: ClassVar[str] = "image"
    rank: ClassVar[int] = 2
    suffixes: ClassVar[tuple[str, ...]] = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".avif")
    output_suffix: ClassVar[str] = ".png"

    def __init__(self, *, channels: int = 3, background: str = "white"):
        """
        Args:
            channels: 3 for RGB, 1 for grey (ITU-R 601 luma of colour pictures).
            background: the colour behind transparent pixels: a name or "#rrggbb".

        Raises:
            InputError: another number of channels, or no such colour.
        """
        if channels not in (1, 3):
            raise InputError(f"image channels must be 3 (RGB) or 1 (grey), got {channels}")
        try:
            color = ImageColor.getrgb(background)
        except ValueError as error:
            raise InputError(f"image background {background!r}: not a colour; use a name or '#rrggbb'") from error
        self.channels = channels
        self._background = [value / 255 for value in color[:3]]

    def read(self, file: str | Path | BinaryIO, *, name: str = "") -> Sample:
        sample = self.read_steps(file, name=name)
        return Sample(_floats(sample.values), sample.name)

    def read_steps(self, file: str | Path | BinaryIO, *, name: str = "") -> Sample:
        with _picture(file, name) as (picture, label):
            values = self._from_pil(picture, label)
        return Sample(values, name or (Path(file).stem if isinstance(file, str | Path) else ""))

    def read_example(self, file: str | Path | BinaryIO, *, name: str = "", smallest: int | None = None) -> Tensor:
        """As `read`, at 8 bits where the file has no more. With `smallest`, a JPEG is decoded at 1/2, 1/4 or 1/8 of its size, as long as
        that leaves twice as many pixels a side."""
        with _picture(file, name) as (picture, label):
            if smallest is not None:
                picture.draft(None, (2 * smallest, 2 * smallest))
            return self._from_pil(picture, label)

    def write(self, path: str | Path, values: Tensor, *, force: bool = False) -> None:
        """Write [C, H, W] as 8 bits a channel (clamped to [0, 1], rounded half up), by suffix: PNG, lossless WebP, JPEG of quality 95.

        Raises:
            InputError: the file exists and `force` is not set; another suffix; not [C, H, W]; NaN; a size the format cannot hold.
        """
        path = Path(path)
        form, options = _WRITERS.get(path.suffix.lower(), ("", {}))
        if not form:
            raise InputError(f"{path}: cannot write {path.suffix or 'a file without a suffix'!r}; use {', '.join(_WRITERS)}")
        if values.ndim != 3 or values.shape[0] not in (1, 3) or 0 in values.shape:
            raise InputError(f"{path}: a picture is [3, H, W] or [1, H, W], got {list(values.shape)}")
        refuse_overwrite(path, force=force)
        values = values.detach().to("cpu", torch.float32)
        if values.isnan().any():
            raise InputError(f"{path}: the picture has {int(values.isnan().sum())} NaN values, refusing to write it")
        pixels = values.clamp(0, 1).mul(255).add(0.5).to(torch.uint8).permute(1, 2, 0).numpy()
        picture = PIL.Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
        try:
            with writing(path) as file:
                picture.save(file, form, **options)
        except (OSError, ValueError) as error:
            raise InputError(f"{path}: cannot write the picture: {_reason(error)}") from error

    def samples(self, inputs: Any) -> list[Sample]:
        """Anything that holds pictures, as samples.

        Args:
            inputs: a path, a PIL image, a tensor [C, H, W] or [B, C, H, W], an array [H, W, C] or [B, H, W, C], or a list of these.
                Floats are in [0, 1]; uint8 is divided by 255.

        Raises:
            InputError: something else, another number of channels, NaN or infinite values, floats outside [0, 1].
        """
        found = self._collect(inputs)
        for position, sample in enumerate(found):
            sample.name = sample.name or str(position)
        return found

    def normalize(self, values: Tensor) -> Tensor:
        """[0, 1] to [-1, 1]."""
        return values * 2 - 1

    def denormalize(self, values: Tensor, *, clamp: bool = True) -> Tensor:
        """[-1, 1] to [0, 1]."""
        public = (values + 1) / 2
        return public.clamp(0, 1) if clamp else public

    def shown(self, reconstruction: Tensor, target: Tensor) -> Tensor:
        """Where the target is black or white, values beyond are that too. Elsewhere they stay: nothing would bring back what is cut off."""
        beyond = (target.abs() > 1 - _HALF_STEP) & (reconstruction * target.sign() > 1)
        return torch.where(beyond, target, reconstruction)

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
        """A square. With `resize`, and where the picture is smaller than `size`, the short side is made `size` first (bicubic)."""
        height, width = values.shape[1:]
        short = min(height, width)
        if short != size and (resize or short < size):
            scaled = (max(size, round(height * size / short)), max(size, round(width * size / short)))
            resized = torch.nn.functional.interpolate(values[None], scaled, mode="bicubic", antialias=True)[0]
            values = resized if resized.dtype == torch.uint8 else resized.clamp_(0, 1)
        values = super().crop(values, size, generator=generator, center=center)
        return values.flip(2) if flip and torch.rand((), generator=generator) < 0.5 else values

    def _collect(self, inputs: Any) -> list[Sample]:
        match inputs:
            case str() | Path():
                return [self.read(inputs)]
            case list() | tuple():
                return [sample for item in inputs for sample in self._collect(item)]
            case PIL.Image.Image():
                file = str(getattr(inputs, "filename", ""))
                return [Sample(_floats(self._from_pil(inputs, file or "the PIL image")), Path(file).stem)]
            case Tensor():
                return [Sample(values) for values in self._from_tensor(inputs, "tensor", "[C, H, W]")]
            case np.ndarray():
                if inputs.ndim not in (3, 4) or inputs.dtype.kind not in "uf":
                    raise InputError(f"array of {inputs.dtype} {list(inputs.shape)}: expected [H, W, C], uint8 or float in [0, 1]")
                if inputs.dtype.kind == "u" and inputs.dtype != np.uint8:
                    raise InputError(f"array of {inputs.dtype}: expected uint8 or float; divide by {np.iinfo(inputs.dtype).max} first")
                tensor = as_tensor(np.moveaxis(inputs, -1, -3))
                return [Sample(values) for values in self._from_tensor(tensor, "array", "[H, W, C]")]
            case _:
                raise InputError(f"image: cannot take a {type(inputs).__name__}; give {_ACCEPTED}")

    def _from_tensor(self, tensor: Tensor, what: str, layout: str) -> list[Tensor]:
        """Check [C, H, W] or [B, C, H, W]; float32 pictures."""
        shape = list(tensor.shape) if what == "tensor" else [*tensor.shape[:-3], *tensor.shape[-2:], tensor.shape[-3]]
        if tensor.ndim not in (3, 4):
            raise InputError(f"{what} of shape {shape}: expected {layout} or a batch of them")
        if tensor.shape[-3] != self.channels:
            raise InputError(f"{what} of shape {shape} has {tensor.shape[-3]} channels: expected {layout} with {self.channels}")
        if 0 in tensor.shape[-3:]:
            raise InputError(f"{what} of shape {shape} holds no pixels")
        if tensor.dtype == torch.uint8:
            values = _floats(tensor)
        elif tensor.is_floating_point():
            values = tensor.detach().float()
            check_range(values, what)
            values = values.clamp(0, 1)
        else:
            raise InputError(f"{what} of {tensor.dtype}: expected float in [0, 1], or uint8")
        return list(values) if values.ndim == 4 else [values]

    def _from_pil(self, picture: PIL.Image.Image, label: str) -> Tensor:
        """[channels, H, W], upright: uint8 where no bit is lost by it, float32 in [0, 1] otherwise."""
        try:
            picture.load()
            orientation = picture.getexif().get(_ORIENTATION, 1)
            values = _pixels(picture, label)
        except _DAMAGE as error:
            raise InputError(f"{label}: damaged picture: {_reason(error)}") from error
        values = self.composited(values)
        return _oriented(values, orientation).contiguous()

    def composited(self, values: Tensor) -> Tensor:
        """Pixels [1 to 4, H, W], uint8 or float in [0, 1], of 2 or 4 channels the last alpha, as [channels, H, W] on the background."""
        if values.shape[0] in (2, 4):
            values, alpha = _floats(values[:-1]), _floats(values[-1:])
            values = values * alpha + values.new_tensor(self._background)[:, None, None] * (1 - alpha)
        if values.shape[0] < self.channels:
            values = values.expand(3, -1, -1)
        elif values.shape[0] > self.channels:
            values = (_floats(values) * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(0, keepdim=True)
        return values


@contextmanager
def _picture(file: str | Path | BinaryIO, name: str) -> Iterator[tuple[PIL.Image.Image, str]]:
    """A picture whose header has been read, and what messages call it."""
    with opened(file, name) as (stream, label):
        try:
            picture = PIL.Image.open(stream, formats=_formats())
        except PIL.UnidentifiedImageError as error:
            raise InputError(f"{label}: not a picture that can be read ({', '.join(_formats())}), or damaged") from error
        except PIL.Image.DecompressionBombError as error:
            raise InputError(f"{label}: {error}; raise PIL.Image.MAX_IMAGE_PIXELS to read it") from error
        except _DAMAGE as error:
            raise InputError(f"{label}: cannot read the picture: {_reason(error)}") from error
        with picture:
            yield picture, label


def _pixels(picture: PIL.Image.Image, label: str) -> Tensor:
    """[C, H, W], uint8 or float32 in [0, 1]: C is 1 or 3, and one more where there is transparency."""
    if picture.mode.startswith("I") or picture.mode == "F":
        deep = torch.from_numpy(np.asarray(picture).astype(np.float32))[None]
        opaque = [] if "transparency" not in picture.info else [(deep != picture.info["transparency"]).float()]
        full = 1 if picture.mode == "F" else 65535
        if not (deep.min() >= 0 and deep.max() <= full):
            raise InputError(f"{label}: pixels from {deep.min():g} to {deep.max():g}, expected 0 to {full}; convert it to 8 or 16 bits")
        return torch.cat([deep / full, *opaque])
    mode = "RGBA" if picture.has_transparency_data else "RGB"
    converted = picture if picture.mode == mode else picture.convert(mode)
    return as_tensor(np.moveaxis(np.asarray(converted), 2, 0))


def as_tensor(array: np.ndarray) -> Tensor:
    """Numbers of any type, copied only where torch needs it: it has no long doubles, reads this machine's byte order only, and warns of
    arrays that it must not write to, as Pillow's pixels are."""
    dtype = np.dtype(np.float64) if array.dtype.kind == "f" and array.dtype.itemsize > 8 else array.dtype.newbyteorder("=")
    return torch.from_numpy(np.require(array, dtype, ["C", "W"]))


def _floats(values: Tensor) -> Tensor:
    """float32 in [0, 1]. In numpy: readers are threads, and torch would split each picture's division among all cores for every one."""
    return torch.from_numpy(np.divide(values.numpy(), 255, dtype=np.float32)) if values.dtype == torch.uint8 else values


def _oriented(values: Tensor, orientation: int) -> Tensor:
    """Turn [C, H, W] upright, given the EXIF orientation."""
    if orientation in (5, 6, 7, 8):
        values = values.transpose(1, 2)
    axes = {2: (2,), 3: (1, 2), 4: (1,), 6: (2,), 7: (1, 2), 8: (1,)}.get(orientation)
    return values.flip(axes) if axes else values


def check_range(values: Tensor, what: str) -> None:
    """Raises InputError unless all are finite and in [0, 1], saying what would bring them there."""
    if not values.isfinite().all():
        raise InputError(f"{what} holds {int((~values.isfinite()).sum())} NaN or infinite values; pictures are finite numbers in [0, 1]")
    if not values.numel():  # a batch of none
        return
    low, high = values.aminmax()
    if low >= -_SLACK and high <= 1 + _SLACK:
        return
    if low >= 0:
        remedy = "divide by 255, or give uint8"
    elif low >= -1 - _SLACK and high <= 1 + _SLACK:
        remedy = "map it with (x + 1) / 2"
    else:
        remedy = "clamp or rescale it"
    raise InputError(f"{what} has values from {low:g} to {high:g}, expected [0, 1]; {remedy}")


@functools.cache
def _formats() -> tuple[str, ...]:
    """Pillow's names of what is read. EPS, which runs a program, and other exotic formats are not among them."""
    optional = [form for form, feature in (("WEBP", "webp"), ("AVIF", "avif")) if features.check(feature)]
    return ("PNG", "JPEG", *optional, "BMP", "TIFF", "GIF")


def _reason(error: BaseException) -> str:
    return str(error).partition("\n")[0] or type(error).__name__
