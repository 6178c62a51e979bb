"""What the metrics of sound share: rates, channels, and packages that may not be there."""

from __future__ import annotations

import importlib
from abc import abstractmethod
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import Field
from torch import Tensor

from tokkit import dsp
from tokkit.errors import InputError
from tokkit.metrics.base import Metric, MetricFailure, check_pair


class SoundMetric(Metric):
    """Base of metrics of sound: each channel is judged by itself, and the mean is the value.

    Attributes:
        rate: that both sounds are resampled to before they are judged; None: left at their own.
    """

    modality: ClassVar[str] = "audio"
    rate: ClassVar[int | None] = None

    def __init__(self, *, sample_rate: Annotated[int, Field(ge=1)] = 24000):
        """
        Args:
            sample_rate: of the sounds that are given.

        Raises:
            InputError: a package that the metric needs is not installed.
        """
        self.sample_rate = sample_rate
        self.prepare()

    def prepare(self) -> None:
        """Import and load what the metric needs. Raises InputError."""

    @abstractmethod
    def channel(self, original: Tensor, reconstruction: Tensor) -> float:
        """The metric of one channel: two [T] fp32 on the CPU, at `rate`. Raises MetricFailure."""

    def __call__(self, original: Tensor, reconstruction: Tensor) -> float:
        check_pair(self.name, original, reconstruction)
        pair = [sound.detach().float().cpu() for sound in (original, reconstruction)]
        if self.rate is not None:
            pair = [dsp.resample(sound, self.sample_rate, self.rate) for sound in pair]
        values = [self.channel(a, b) for a, b in zip(*pair, strict=True)]
        return sum(values) / len(values)


def needed(metric: str, package: str, extra: str = "audio-eval") -> Any:
    """A package that tokkit does not depend on.

    Raises:
        InputError: it is not installed, or does not load.
    """
    try:
        return importlib.import_module(package)
    except (ImportError, OSError) as error:
        raise InputError(f"metric {metric!r} needs the package {package} ({error}): pip install 'tokkit[{extra}]'") from error


def samples_of(metric: str, sound: Tensor, seconds: float, rate: int) -> np.ndarray:
    """[T] as float64 for other libraries; refuses what is too short for them.

    Raises:
        MetricFailure: it is shorter than `seconds`.
    """
    if len(sound) < seconds * rate:
        raise MetricFailure(f"{metric}: {len(sound) / rate:.3f} s of sound are less than the {seconds} s that it needs")
    return sound.double().numpy()
