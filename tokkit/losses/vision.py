"""Teachers of pictures: frozen timm models whose features say what a picture means."""

from __future__ import annotations

import math
import pickle
from pathlib import Path
from typing import Any, cast

import timm
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from timm.models import load_state_dict
from torch import Tensor, nn

from tokkit.errors import InputError
from tokkit.registry import suggest


class VisionTeacher(nn.Module):
    """A frozen timm model without its head, as a function of pictures.

    Attributes:
        dim: D, the size of its features.
        size: pictures are scaled to size x size pixels first.
    """

    def __init__(self, name: str, weights: str, size: int | None = None):
        """
        Args:
            name: of a timm model.
            weights: "pretrained" for timm's own, downloaded once; a file in timm's format (safetensors, pth); or "random", for tests: it
                teaches nothing.
            size: for a teacher that takes other sizes than its own; None: its own.

        Raises:
            InputError: there is no such model, or its weights cannot be found or downloaded.
        """
        super().__init__()
        self.model: Any = cast(Any, load_teacher(name, weights))
        config: dict[str, Any] = self.model.pretrained_cfg
        own: int = config["input_size"][-1]
        self.size = size or own
        if self.size != own and hasattr(self.model, "set_input_size"):
            self.model.set_input_size(img_size=(self.size, self.size))
        self.dim: int = self.model.num_features
        self._mean: Tensor
        self._std: Tensor
        self.register_buffer("_mean", torch.tensor(config["mean"]).view(3, 1, 1), persistent=False)
        self.register_buffer("_std", torch.tensor(config["std"]).view(3, 1, 1), persistent=False)

    def train(self, mode: bool = True) -> VisionTeacher:
        """Only the flag changes: a teacher has dropout and norms with statistics."""
        super().train(mode)
        self.model.eval()
        return self

    def forward(self, pictures: Tensor) -> Tensor:
        """Features of pictures [B, 1 or 3, H, W] in [-1, 1], grey ones repeated: [B, places, D].

        Raises:
            InputError: these are no pictures.
        """
        if pictures.ndim != 4 or pictures.shape[1] not in (1, 3):
            raise InputError(f"semantic teacher: expected pictures [B, 1 or 3, H, W], got {list(pictures.shape)}")
        scaled = F.interpolate(pictures.expand(-1, 3, -1, -1), (self.size, self.size), mode="bicubic", antialias=True)
        found: Tensor = self.model.forward_features(((scaled + 1) / 2 - self._mean) / self._std)
        if found.ndim == 4:
            channels_last = getattr(self.model, "output_fmt", "NCHW") == "NHWC"
            return found.flatten(1, 2) if channels_last else found.flatten(2).transpose(1, 2)
        return found[:, getattr(self.model, "num_prefix_tokens", 0) :]

    def on_grid(self, pictures: Tensor, grid: tuple[int, ...]) -> Tensor:
        """Features at the cells of a grid (h, w): [B, h * w, D]; averaged over a cell, or interpolated where cells are finer."""
        found = self(pictures)
        side = math.isqrt(found.shape[1])
        if (side, side) == grid:
            return found
        mode = "area" if grid[0] <= side and grid[1] <= side else "bilinear"
        return F.interpolate(found.transpose(1, 2).unflatten(2, (side, side)), grid, mode=mode).flatten(2).transpose(1, 2)


def load_teacher(name: str, weights: str) -> nn.Module:
    """A timm model without its head, frozen, in eval mode.

    Args:
        name: timm's.
        weights: "pretrained", "random", or a file in timm's format (safetensors, pth); what it has of a head is left out.

    Raises:
        InputError: there is no such model, or its weights are not there; the message says which and where to get them.
    """
    if not timm.is_model(name.partition(".")[0]):
        raise InputError(f"semantic teacher {name!r}: timm has no such model{suggest(name, timm.list_models())}")
    local = weights not in ("pretrained", "random")
    file = Path(weights).expanduser()
    if local and not file.is_file():
        raise InputError(f"semantic teacher {name!r}: no such weights file: {file}")
    try:
        teacher: nn.Module = timm.create_model(name, num_classes=0, pretrained=weights == "pretrained")
        if local:
            # timm's own way of loading a file leaves at random what the file lacks, and only logs it.
            missing = teacher.load_state_dict(load_state_dict(str(file)), strict=False).missing_keys
            if missing:
                raise KeyError(f"it lacks {', '.join(missing[:3])}")
    except (OSError, EOFError, RuntimeError, ValueError, KeyError, pickle.UnpicklingError, SafetensorError) as error:
        if local:
            raise InputError(f"semantic teacher {name!r}: {file} does not hold timm's weights of this model: {error}") from error
        source = timm.get_pretrained_cfg(name)
        known = "" if source is None else f" ({source.hf_hub_id or source.url})"
        raise InputError(
            f"semantic teacher {name!r}: its pretrained weights{known} are not there and do not load ({error}); "
            "download them where there is a network and give the file as weights="
        ) from error
    return teacher.requires_grad_(False).eval()
