"""Short-time objective intelligibility, by the package `pystoi`."""

from __future__ import annotations

import warnings
from typing import ClassVar

from torch import Tensor

from tokkit.metrics.base import MetricFailure
from tokkit.metrics.sound import SoundMetric, needed, samples_of
from tokkit.registry import register


class Intelligibility(SoundMetric):
    """Correlation of short-time band envelopes at 10 kHz. It has no value where less than 0.4 s are above -40 dB of the loudest frame."""

    higher_is_better: ClassVar[bool] = True
    extended: ClassVar[bool]

    def prepare(self) -> None:
        self.package = needed(self.name, "pystoi")

    def channel(self, original: Tensor, reconstruction: Tensor) -> float:
        a, b = (samples_of(self.name, sound, 0.05, self.sample_rate) for sound in (original, reconstruction))
        if not a.any() or not b.any():
            raise MetricFailure(f"{self.name}: one of the sounds is silent")
        with warnings.catch_warnings():
            # pystoi warns and returns 1e-5 where there are too few frames.
            warnings.simplefilter("error", RuntimeWarning)
            try:
                value = float(self.package.stoi(a, b, self.sample_rate, extended=self.extended))
            except (RuntimeWarning, ValueError) as error:
                raise MetricFailure(f"{self.name}: {str(error).partition('.')[0]}") from error
        return value


@register("metric", "stoi")
class Stoi(Intelligibility):
    """STOI (https://doi.org/10.1109/TASL.2011.2114881), as pystoi computes it from the sounds' own rate."""

    name: ClassVar[str] = "stoi"
    extended: ClassVar[bool] = False


@register("metric", "estoi")
class ExtendedStoi(Intelligibility):
    """Extended STOI (https://doi.org/10.1109/TASLP.2016.2585878), as pystoi computes it from the sounds' own rate."""

    name: ClassVar[str] = "estoi"
    extended: ClassVar[bool] = True
