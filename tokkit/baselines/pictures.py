"""What the picture codecs share: tensors to Pillow's pictures and back."""

from __future__ import annotations

import io
from typing import Any, ClassVar

import numpy as np
import torch
from PIL import Image, features
from torch import Tensor

from tokkit.baselines.base import Baseline
from tokkit.errors import InputError


class PictureCodec(Baseline):
    """A codec of Pillow. Pictures are [3, H, W] or [1, H, W] in [0, 1].

    Attributes:
        format: Pillow's name of the format.
        feature: Pillow's name of the library it needs.
        options: given to Pillow besides the quality.
    """

    modality = "image"
    format: ClassVar[str]
    feature: ClassVar[str]
    options: ClassVar[dict[str, Any]] = {}

    def __init__(self) -> None:
        """
        Raises:
            InputError: this Pillow was built without the codec.
        """
        if not features.check(self.feature):
            raise InputError(f"baseline {self.name!r}: this Pillow has no {self.format}; install Pillow 11.3 or newer")

    def encode(self, values: Tensor, quality: int) -> bytes:
        """
        Raises:
            InputError: the picture is larger than the format allows.
        """
        file = io.BytesIO()
        try:
            to_picture(values).save(file, self.format, quality=quality, **self.options)
        except (OSError, ValueError) as error:
            raise InputError(f"{self.name}: cannot encode {tuple(values.shape)}: {error}") from error
        return file.getvalue()

    def decode(self, data: bytes) -> Tensor:
        with Image.open(io.BytesIO(data)) as picture:
            channels = "L" if picture.mode == "L" else "RGB"
            return from_picture(picture.convert(channels))

    @property
    def library(self) -> str:
        version = features.version(self.feature)
        return f"{self.feature} {version}" if version else self.feature


def to_picture(values: Tensor) -> Image.Image:
    """[3 or 1, H, W] in [0, 1], rounded to 8 bits."""
    pixels = (values.detach().float().clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()
    return Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)


def from_picture(picture: Image.Image) -> Tensor:
    """The pixels as [C, H, W] in [0, 1]."""
    pixels = torch.from_numpy(np.array(picture)).float() / 255
    return pixels.unsqueeze(0) if pixels.ndim == 2 else pixels.permute(2, 0, 1).contiguous()
