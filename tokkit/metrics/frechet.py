"""Fréchet distance between the features of two sets of pictures: FID by torch-fidelity's Inception, FD by any backbone of timm.

With few samples it is biased upwards, strongly so with fewer than the features have dimensions: compare equal numbers only.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tokkit.errors import InputError
from tokkit.metrics.base import BLOCKS, Fold, MetricFailure, SetMetric, block_of, exact_convolutions
from tokkit.metrics.moments import Floats, Moments, frechet_distance, joined
from tokkit.weights import find_weights

FID = "fid"
PREFIX = "fd/"
VIDEO_PREFIX = "fvd"
INCEPTION_FILE = "weights-inception-2015-12-05-6726825d.pth"
_INCEPTION_URL = f"https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/{INCEPTION_FILE}"

ALIASES = {
    "dinov2-s": "vit_small_patch14_dinov2.lvd142m",
    "dinov2-b": "vit_base_patch14_dinov2.lvd142m",
    "dinov2-l": "vit_large_patch14_dinov2.lvd142m",
}
"""Short names; these look at 224 x 224 pixels, all other backbones at what timm says they were trained with."""

Features = Callable[[Tensor], Tensor]
"""Pictures [B, 3, H, W], uint8, of one size, to features [B, D]."""


@dataclass
class _Group:
    """Moments of each block that has samples, and pictures whose features are not computed yet."""

    blocks: dict[int, Moments] = field(default_factory=dict)
    waiting: list[tuple[int, Tensor]] = field(default_factory=list)
    seen: int = 0


class FrechetDistance(SetMetric):
    """Fréchet distance in a space of features.

    Moments are kept for `BLOCKS` blocks of samples apart (memory: 8 BLOCKS D^2 bytes a group), so that the distance can be had without
    each of them, which tells its noise.
    """

    higher_is_better = False

    def __init__(self, name: str, features: Features, *, modality: str = "image", batch_size: int = 16):
        """
        Args:
            name: in tables; it should name the features.
            features: any function of samples; pictures are rounded to 8 bits first, as files have them.
            modality: of the samples, "image" or "video".
            batch_size: samples of one size that `features` gets at once.
        """
        self.name, self.features, self.modality, self.batch_size = name, features, modality, batch_size
        self._groups: dict[str, _Group] = {}

    def add(self, group: str, sample: Tensor, *, key: str = "") -> None:
        if not sample.isfinite().all():
            raise MetricFailure(f"{self.name}: a sample has values that are not finite")
        pixels = sample.detach().float().clamp(0, 1).mul(255).round().byte()
        own = self._groups.setdefault(group, _Group())
        if own.waiting and own.waiting[0][1].shape[1:] != pixels.shape[1:]:
            self._flush(own)
        block = block_of(key) if key else own.seen % BLOCKS
        own.seen += 1
        own.waiting.append((block, pixels.expand(3, *pixels.shape[1:])))
        if len(own.waiting) == self.batch_size:
            self._flush(own)

    def compute(self, reference: str, group: str) -> float:
        return _distance(self._whole(reference), self._whole(group))

    def folds(self, reference: str, group: str) -> list[Fold]:
        first, second = self._whole(reference), self._whole(group)
        blocks, others = self._groups[reference].blocks, self._groups[group].blocks
        found = []
        for block in sorted(blocks.keys() & others.keys()):
            if min(first.count - blocks[block].count, second.count - others[block].count) >= 2:
                left = _distance(first.without(blocks[block]), second.without(others[block]))
                found.append(Fold(block, others[block].count, left))
        return found

    def moments(self, group: str) -> tuple[int, Floats, Floats]:
        """Number of samples, mean and covariance of a group, to keep them for another run."""
        found = self._whole(group)
        return found.count, found.mean, found.covariance()

    def state(self) -> dict[str, NDArray[Any]]:
        found = {}
        for group, own in self._groups.items():
            self._flush(own)
            for block, moments in own.blocks.items():
                found.update({f"{group}/{block}/{name}": array for name, array in moments.to_arrays().items()})
        return found

    def join(self, state: dict[str, NDArray[Any]]) -> None:
        parts: dict[tuple[str, int], dict[str, NDArray[Any]]] = {}
        for name, array in state.items():
            group, block, field_name = name.rsplit("/", 2)
            parts.setdefault((group, int(block)), {})[field_name] = array
        for (group, number), arrays in parts.items():
            own = self._groups.setdefault(group, _Group())
            added = Moments.from_arrays(arrays)
            own.blocks.setdefault(number, Moments(len(added.mean))).join(added)
            own.seen += added.count

    def _whole(self, group: str) -> Moments:
        own = self._groups.get(group)
        if own is not None:
            self._flush(own)
        whole = joined(own.blocks.values()) if own is not None else None
        if whole is None or whole.count < 2:
            raise MetricFailure(f"{self.name}: {group!r} has fewer than two samples")
        return whole

    def _flush(self, group: _Group) -> None:
        if not group.waiting:
            return
        with torch.inference_mode(), exact_convolutions():
            found = self.features(torch.stack([pixels for _, pixels in group.waiting])).double().cpu().numpy()
        blocks = np.array([block for block, _ in group.waiting])
        group.waiting.clear()
        for block in np.unique(blocks).tolist():
            group.blocks.setdefault(block, Moments(found.shape[1])).update(found[blocks == block])


def _distance(first: Moments, second: Moments) -> float:
    return frechet_distance(first.mean, first.covariance(), second.mean, second.covariance())


class TimmFeatures:
    """Pooled features of a backbone of timm, before its classifier.

    The whole picture is scaled to the input size of the backbone (bicubic, antialiased; its aspect ratio is not kept) and normalized as
    timm says.
    """

    def __init__(self, name: str, *, weights: str | None = None, device: str | torch.device = "cpu"):
        """
        Args:
            name: of timm, or one of `ALIASES`.
            weights: a local file; timm's own download when not given.
            device: where it runs.

        Raises:
            InputError: timm has no such backbone, or its weights are not there.
        """
        import timm

        model_name = ALIASES.get(name, name)
        if not timm.is_model(model_name.partition(".")[0]):
            raise InputError(f"fd/{name}: timm has no backbone {model_name!r}; short names: {', '.join(ALIASES)}")
        if weights is not None and not Path(weights).is_file():
            raise InputError(f"fd/{name}: weights {weights} are not there")
        overlay = {"file": str(weights)} if weights is not None else None
        options: dict[str, Any] = {"img_size": 224} if name in ALIASES else {}
        try:
            self.model: Any = timm.create_model(model_name, pretrained=True, pretrained_cfg_overlay=overlay, num_classes=0, **options)
        except (OSError, RuntimeError, ValueError, KeyError) as error:
            reason = str(error).strip().partition("\n")[0]
            raise InputError(
                f"fd/{name}: timm's weights of {model_name} are not there or do not fit ({reason}); give a file as fd/{name}@FILE"
            ) from error
        self.device = torch.device(device)
        self.model = self.model.eval().requires_grad_(False).to(self.device)
        config = timm.data.resolve_model_data_config(self.model)
        self._size = config["input_size"][1:]
        self._mean, self._std = (torch.tensor(config[key], device=self.device).view(3, 1, 1) for key in ("mean", "std"))

    def __call__(self, pictures: Tensor) -> Tensor:
        values = pictures.to(self.device).float() / 255
        values = torch.nn.functional.interpolate(values, self._size, mode="bicubic", antialias=True).clamp(0, 1)
        found: Tensor = self.model((values - self._mean) / self._std)
        return found


class InceptionFeatures:
    """The 2048 pooled features of the Inception of the original FID, ported by torch-fidelity, which also does the scaling to 299 x 299."""

    def __init__(self, *, weights: str | None = None, device: str | torch.device = "cpu"):
        """
        Raises:
            InputError: torch-fidelity or the weights are not there.
        """
        if importlib.util.find_spec("torch_fidelity") is None:
            raise InputError("fid: torch-fidelity is not installed (pip install torch-fidelity)")
        file = find_weights(INCEPTION_FILE, path=weights, url_hint=_INCEPTION_URL)
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

        self.device = torch.device(device)
        self.model: Any = FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], feature_extractor_weights_path=str(file))
        self.model = self.model.eval().to(self.device)

    def __call__(self, pictures: Tensor) -> Tensor:
        found: Tensor = self.model(pictures.to(self.device))[0]
        return found


def is_frechet(name: str) -> bool:
    """Whether `build_frechet` knows what a name means."""
    return name.partition("@")[0] == FID or name.startswith((PREFIX, VIDEO_PREFIX))


def build_frechet(name: str, *, device: str | torch.device = "cpu") -> FrechetDistance:
    """A Fréchet distance by name: "fid", or "fd/<backbone of timm>", with "@FILE" behind it the weights are read from there; "fvd16/..." of
    video, see `fvd.py`.

    Raises:
        InputError: the backbone is unknown, or a package or weights are not there.
    """
    if name.startswith(VIDEO_PREFIX):
        from tokkit.metrics.fvd import build_fvd

        return build_fvd(name, device=device)
    named, _, file = name.partition("@")
    weights = file or None
    if named == FID:
        return FrechetDistance(FID, InceptionFeatures(weights=weights, device=device))
    return FrechetDistance(named, TimmFeatures(named.removeprefix(PREFIX), weights=weights, device=device))
