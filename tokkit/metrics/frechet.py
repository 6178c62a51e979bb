"""Fréchet distance between the features of two sets of pictures: FID by torch-fidelity's Inception, FD by any backbone of timm.

With few samples it is biased upwards, strongly so with fewer than the features have dimensions: compare equal numbers only.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tokkit.errors import InputError
from tokkit.metrics.base import MetricFailure, SetMetric, exact_convolutions
from tokkit.weights import find_weights

FID = "fid"
PREFIX = "fd/"
INCEPTION_FILE = "weights-inception-2015-12-05-6726825d.pth"
_INCEPTION_URL = f"https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/{INCEPTION_FILE}"
_BATCH = 16

ALIASES = {
    "dinov2-s": "vit_small_patch14_dinov2.lvd142m",
    "dinov2-b": "vit_base_patch14_dinov2.lvd142m",
    "dinov2-l": "vit_large_patch14_dinov2.lvd142m",
}
"""Short names; these look at 224 x 224 pixels, all other backbones at what timm says they were trained with."""

Features = Callable[[Tensor], Tensor]
"""Pictures [B, 3, H, W], uint8, of one size, to features [B, D]."""


class Moments:
    """Mean and covariance of vectors that come batch after batch, in float64 (Chan, Golub and LeVeque's update)."""

    def __init__(self, dim: int):
        self.count = 0
        self.mean = np.zeros(dim)
        self._scatter = np.zeros((dim, dim))

    def update(self, vectors: NDArray[np.float64]) -> None:
        """Count [B, D]."""
        added = len(vectors)
        mean = vectors.mean(0)
        centred = vectors - mean
        shift = mean - self.mean
        total = self.count + added
        self._scatter += centred.T @ centred + np.outer(shift, shift) * (self.count * added / total)
        self.mean += shift * (added / total)
        self.count = total

    def covariance(self) -> NDArray[np.float64]:
        """Unbiased, divided by n - 1, as numpy.cov gives it."""
        return self._scatter / (self.count - 1)


def frechet_distance(
    mean: NDArray[np.float64], covariance: NDArray[np.float64], other_mean: NDArray[np.float64], other_covariance: NDArray[np.float64]
) -> float:
    """|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)) (https://arxiv.org/abs/1706.08500).

    The trace of the root is the sum of the roots of the eigenvalues of C1^(1/2) C2 C1^(1/2), which is symmetric, so no imaginary part has
    to be thrown away and covariances of less than full rank do no harm.
    """
    values, vectors = np.linalg.eigh(covariance)
    root = (vectors * np.sqrt(values.clip(min=0))) @ vectors.T
    product = root @ other_covariance @ root
    trace = np.sqrt(np.linalg.eigvalsh((product + product.T) / 2).clip(min=0)).sum()
    difference = mean - other_mean
    return float(difference @ difference + np.trace(covariance) + np.trace(other_covariance) - 2 * trace)


@dataclass
class _Group:
    moments: Moments | None
    waiting: list[Tensor]


class FrechetDistance(SetMetric):
    """Fréchet distance in a space of features. Pictures are rounded to 8 bits first, as files have them."""

    higher_is_better = False
    modality = "image"

    def __init__(self, name: str, features: Features):
        """
        Args:
            name: in tables; it should name the features.
            features: any function of pictures.
        """
        self.name, self.features = name, features
        self._groups: dict[str, _Group] = {}

    def add(self, group: str, sample: Tensor) -> None:
        if not sample.isfinite().all():
            raise MetricFailure(f"{self.name}: a sample has values that are not finite")
        pixels = sample.detach().float().clamp(0, 1).mul(255).round().byte()
        own = self._groups.setdefault(group, _Group(None, []))
        if own.waiting and own.waiting[0].shape != pixels.shape:
            self._flush(own)
        own.waiting.append(pixels.expand(3, -1, -1))
        if len(own.waiting) == _BATCH:
            self._flush(own)

    def compute(self, reference: str, group: str) -> float:
        first, second = self._moments(reference), self._moments(group)
        return frechet_distance(first.mean, first.covariance(), second.mean, second.covariance())

    def moments(self, group: str) -> tuple[int, NDArray[np.float64], NDArray[np.float64]]:
        """Number of samples, mean and covariance of a group, to keep them for another run."""
        found = self._moments(group)
        return found.count, found.mean, found.covariance()

    def _moments(self, group: str) -> Moments:
        own = self._groups.get(group)
        if own is not None:
            self._flush(own)
        if own is None or own.moments is None or own.moments.count < 2:
            raise MetricFailure(f"{self.name}: {group!r} has fewer than two samples")
        return own.moments

    def _flush(self, group: _Group) -> None:
        if not group.waiting:
            return
        with torch.inference_mode(), exact_convolutions():
            found = self.features(torch.stack(group.waiting)).double().cpu().numpy()
        group.waiting.clear()
        group.moments = group.moments or Moments(found.shape[1])
        group.moments.update(found)


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
    return name.partition("@")[0] == FID or name.startswith(PREFIX)


def build_frechet(name: str, *, device: str | torch.device = "cpu") -> FrechetDistance:
    """A Fréchet distance by name: "fid", or "fd/<backbone of timm>"; with "@FILE" behind it the weights are read from there.

    Raises:
        InputError: the backbone is unknown, or a package or weights are not there.
    """
    named, _, file = name.partition("@")
    weights = file or None
    if named == FID:
        return FrechetDistance(FID, InceptionFeatures(weights=weights, device=device))
    return FrechetDistance(named, TimmFeatures(named.removeprefix(PREFIX), weights=weights, device=device))
