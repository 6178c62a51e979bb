"""The exact preparation of pictures (TokBench's image_scripts/resize_rec.py): fit into a square, pad in black, and undo both.

Small pictures are enlarged, and sizes rounded up.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from tokkit.errors import InputError
from tokkit.files import replacing


@dataclass(frozen=True)
class Placement:
    """Where a picture lies on the square: its own size, its size there, and its upper left corner, each (x, y)."""

    original: tuple[int, int]
    scaled: tuple[int, int]
    corner: tuple[int, int]


def placement(width: int, height: int, size: int) -> Placement:
    """Where a picture of width x height lies on a square of `size`."""
    ratio = min(size / width, size / height)
    scaled = (math.ceil(width * ratio), math.ceil(height * ratio))
    return Placement((width, height), scaled, ((size - scaled[0]) // 2, (size - scaled[1]) // 2))


def fit(picture: Image.Image, size: int) -> tuple[Image.Image, Placement]:
    """A picture (RGB) in the middle of a black square, and where it lies there."""
    placed = placement(*picture.size, size)
    square = Image.new("RGB", (size, size), (0, 0, 0))
    square.paste(picture.resize(placed.scaled, Image.Resampling.LANCZOS), placed.corner)
    return square, placed


def restore(square: Image.Image, placed: Placement) -> Image.Image:
    """The picture cut out of the square, at its original size."""
    left, top = placed.corner
    cut = square.crop((left, top, left + placed.scaled[0], top + placed.scaled[1]))
    return cut.resize(placed.original, Image.Resampling.LANCZOS)


def open_picture(path: Path) -> Image.Image:
    """A file as RGB, as Pillow converts it; its EXIF orientation is left alone, as in the published scripts.

    Raises:
        InputError: it is not there or damaged.
    """
    try:
        with Image.open(path) as picture:
            return picture.convert("RGB")
    except (OSError, SyntaxError, ValueError) as error:
        raise InputError(f"{path}: cannot read the picture: {str(error).partition(': ')[0] or error}") from error


def save_picture(picture: Image.Image, path: Path) -> None:
    """Write under that name, with Pillow's default options: a .jpg is compressed again at quality 75, which is part of the protocol."""
    with replacing(path) as part:
        picture.save(part)
