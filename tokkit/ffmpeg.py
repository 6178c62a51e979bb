"""What reading, writing and judging video share of PyAV (FFmpeg): the package, and frames to tensors and back. Knows tensors only."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tokkit.errors import InputError

BT709 = 1
"""FFmpeg's number of ITU-R BT.709, for matrix, primaries and transfer."""
LIMITED = 1
"""FFmpeg's number of the range 16 to 235."""


def pyav() -> Any:
    """The package av.

    Raises:
        InputError: it is not installed, or does not load.
    """
    try:
        return importlib.import_module("av")
    except (ImportError, OSError) as error:
        raise InputError(f"reading and writing video needs the package av ({error}): pip install 'tokkit[video]'") from error


def set_colours(context: Any) -> None:
    """Tell an encoder what `to_frame` makes of brightness and colours."""
    context.colorspace = context.color_primaries = context.color_trc = BT709
    context.color_range = LIMITED


def to_frame(picture: Tensor, form: str) -> Any:
    """uint8 [3 or 1, H, W] as a frame in the pixel format of an encoder; YUV by BT.709."""
    array = np.ascontiguousarray(picture.expand(3, -1, -1).permute(1, 2, 0).cpu().numpy())
    frame = pyav().VideoFrame.from_ndarray(array, format="rgb24")
    return frame.reformat(format=form, **({"dst_colorspace": "ITU709", "dst_color_range": "MPEG"} if form.startswith("yuv") else {}))


def to_pixels(frame: Any, *, alpha: bool = False, **size: int) -> Tensor:
    """A frame as uint8 [3, H, W], or [4, H, W] with `alpha`, upright, scaled where a `width` and a `height` are given."""
    array = frame.reformat(format="rgba" if alpha else "rgb24", interpolation="BICUBIC", **size).to_ndarray()
    pixels = torch.from_numpy(array).permute(2, 0, 1)
    turns = round(frame.rotation / 90) % 4  # against the clock
    return torch.rot90(pixels, turns, (1, 2)) if turns else pixels


def reason(error: BaseException) -> str:
    """One line."""
    return str(getattr(error, "strerror", None) or error).partition("\n")[0] or type(error).__name__
