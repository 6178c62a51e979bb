"""Semantic losses: the reconstruction should mean to a teacher what the original means."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import timm
import torch
import torch.nn.functional as F
from pydantic import Field
from safetensors import SafetensorError
from timm.models import load_state_dict
from torch import Tensor, nn

from tokkit.errors import InputError
from tokkit.losses.base import Loss
from tokkit.registry import register, suggest

Share = Annotated[float, Field(ge=0, le=1)]


@register("loss", "semantic")
class Semantic(Loss):
    """Alignment of a frozen timm model's features of the original and of the reconstruction, at every place or of the mean over places.

    "cosine" is 1 - cos, as in ReTok's hierarchical semantic regularisation (https://github.com/zfu006/ReTok); "margin" is
    relu(1 - margin - cos), as in ResTok (https://arxiv.org/abs/2601.03955): features that are near enough are left alone.

    For pictures; grey ones are repeated to three channels.
    """

    def __init__(
        self,
        *,
        weight: float = 1.0,
        teacher: str = "vit_base_patch14_dinov2",
        weights: str = "pretrained",
        size: int | None = None,
        align: Literal["cosine", "margin"] = "cosine",
        margin: Share = 0.25,
        pooled: bool = False,
        tail: Share = 1.0,
    ):
        """
        Args:
            weight: what the training loop multiplies the loss with.
            teacher: name of a timm model.
            weights: "pretrained" for timm's own, downloaded once; a file in timm's format (safetensors, pth); or "random", for tests: it
                teaches nothing.
            size: pictures are scaled to size x size pixels first, for a teacher that takes other sizes than its own; None: its own.
            align: see above.
            margin: of "margin".
            pooled: compare the means over all places instead of place by place.
            tail: what a sample with all its tokens weighs against one with hardly any: 1 - (1 - tail) * k / N for k of N tokens that the
                quantizer `nested` kept. ReTok's weight falls as k grows, by a rule that it does not publish; this one is tokkit's.

        Raises:
            InputError: there is no such model, or its weights cannot be found or downloaded.
        """
        super().__init__()
        self.weight, self.align, self.margin, self.pooled, self.tail = weight, align, margin, pooled, tail
        self.teacher: Any = cast(Any, load_teacher(teacher, weights))
        config: dict[str, Any] = self.teacher.pretrained_cfg
        own: int = config["input_size"][-1]
        self.size = size or own
        if self.size != own and hasattr(self.teacher, "set_input_size"):
            self.teacher.set_input_size(img_size=(self.size, self.size))
        self._mean: Tensor
        self._std: Tensor
        self.register_buffer("_mean", torch.tensor(config["mean"]).view(3, 1, 1), persistent=False)
        self.register_buffer("_std", torch.tensor(config["std"]).view(3, 1, 1), persistent=False)

    def train(self, mode: bool = True) -> Semantic:
        """Only the flag changes: a teacher has dropout and norms with statistics."""
        super().train(mode)
        self.teacher.eval()
        return self

    def forward(self, target: Tensor, reconstruction: Tensor) -> Tensor:
        return self.by_sample(target, reconstruction).mean()

    def of_prefixes(self, target: Tensor, reconstruction: Tensor, kept: Tensor) -> Tensor:
        return (self.by_sample(target, reconstruction) * (1 - (1 - self.tail) * kept)).mean()

    def by_sample(self, target: Tensor, reconstruction: Tensor) -> Tensor:
        """The un-weighted loss of each sample, [B]."""
        if target.ndim != 4 or target.shape[1] not in (1, 3):
            raise InputError(f"loss semantic: expected pictures [B, 1 or 3, H, W], got {list(target.shape)}")
        with torch.no_grad():
            wanted = self.features(target)
        similarity = F.cosine_similarity(self.features(reconstruction).float(), wanted.float(), dim=-1)
        distance = 1 - similarity if self.align == "cosine" else (1 - self.margin - similarity).relu()
        return distance.mean(1)

    def features(self, pictures: Tensor) -> Tensor:
        """The teacher's features of pictures in [-1, 1]: [B, places, D], or [B, 1, D] pooled."""
        scaled = F.interpolate(pictures.expand(-1, 3, -1, -1), (self.size, self.size), mode="bicubic", antialias=True)
        found = self.teacher.forward_features(((scaled + 1) / 2 - self._mean) / self._std)
        if found.ndim == 4:
            channels_last = getattr(self.teacher, "output_fmt", "NCHW") == "NHWC"
            found = found.flatten(1, 2) if channels_last else found.flatten(2).transpose(1, 2)
        else:
            found = found[:, getattr(self.teacher, "num_prefix_tokens", 0) :]
        return found.mean(1, keepdim=True) if self.pooled else found


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
