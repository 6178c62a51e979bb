"""Fréchet video distance (https://arxiv.org/abs/1812.01717) in the features of any network: clips of so many frames, all of each sample.

fvd16/i3d@i3d_torchscript.pt          a TorchScript file, such as the I3D that published numbers use
fvd16/mine@package.module:function    a function of clips [B, 3, T, H, W], uint8, to features [B, D]
"""

from __future__ import annotations

import importlib
import inspect
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tokkit.errors import InputError
from tokkit.metrics.base import MetricFailure
from tokkit.metrics.frechet import Features, FrechetDistance

_NAME = re.compile(r"fvd([1-9]\d*)/([^@]+)(?:@(.+))?")
_FORM = "write fvd16/NAME@FILE.pt or fvd16/NAME@package.module:function, 16 being the frames of a clip"
I3D_FILE = "i3d_torchscript.pt"


class VideoFrechetDistance(FrechetDistance):
    """A Fréchet distance of video. A sample [C, T, H, W] is floor(T / frames) clips one after the other; the rest is left out."""

    def __init__(self, name: str, features: Features, *, frames: int):
        """
        Args:
            name: in tables.
            features: clips [B, 3, frames, H, W], uint8, to [B, D].
            frames: of a clip.
        """
        super().__init__(name, features, modality="video", batch_size=4)
        self.frames = frames

    def add(self, group: str, sample: Tensor, *, key: str = "") -> None:
        if sample.shape[1] < self.frames:
            raise MetricFailure(f"{self.name}: a video of {sample.shape[1]} frames is shorter than a clip")
        for start in range(0, sample.shape[1] - self.frames + 1, self.frames):
            super().add(group, sample[:, start : start + self.frames], key=key)


class TorchScriptFeatures:
    """A TorchScript network. One whose `forward` has the options of the public I3D (rescale, resize, return_features) is told to do all
    three: it takes values from 0 to 255 and scales them, and the pictures to 224 x 224, itself. Any other gets the clips alone.
    """

    _OPTIONS = ("rescale", "resize", "return_features")

    def __init__(self, file: str, *, device: str | torch.device = "cpu"):
        """
        Raises:
            InputError: the file is not there, or holds no TorchScript.
        """
        path = Path(file).expanduser()
        if not path.is_file():
            where = "; the public one is StyleGAN-V's" if path.name == I3D_FILE else ""
            raise InputError(f"fvd: weights {path} are not there: give the path of a TorchScript file{where}")
        self.device = torch.device(device)
        try:
            self.model: Any = torch.jit.load(str(path), map_location=self.device).eval()
        except (RuntimeError, OSError, ValueError) as error:
            raise InputError(f"fvd: {path} holds no TorchScript network: {str(error).strip().partition(chr(10))[0]}") from error
        named = {argument.name for argument in self.model.forward.schema.arguments}
        self._options = dict.fromkeys(self._OPTIONS, True) if named >= set(self._OPTIONS) else {}

    def __call__(self, clips: Tensor) -> Tensor:
        found: Tensor = self.model(clips.to(self.device).float(), **self._options)
        return found


def build_fvd(name: str, *, device: str | torch.device = "cpu") -> VideoFrechetDistance:
    """A Fréchet video distance by name, see above.

    Raises:
        InputError: the name has another form, or the network or function is not there.
    """
    match = _NAME.fullmatch(name)
    if match is None:
        raise InputError(f"metric {name!r}: {_FORM}")
    frames, short, given = match.groups()
    if given is None:
        raise InputError(f"metric {name!r}: no features: {_FORM}")
    module, colon, function = given.partition(":")
    known = colon and re.fullmatch(r"[\w.]+", module) is not None and function.isidentifier()
    features: Features = _function(module, function) if known else TorchScriptFeatures(given, device=device)
    return VideoFrechetDistance(f"fvd{frames}/{short}", features, frames=int(frames))


def _function(module: str, name: str) -> Callable[[Tensor], Tensor]:
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise InputError(f"fvd: {module}:{name}: {error}") from error
    if inspect.isclass(found):
        found = found()
    if not callable(found):
        raise InputError(f"fvd: {module}:{name} is a {type(found).__name__}, not a function of clips")
    function: Callable[[Tensor], Tensor] = found
    return function
