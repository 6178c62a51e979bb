"""Perceptual evaluation of speech quality, by the package `pesq` (needs a C compiler where there is no wheel)."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from tokkit.metrics.base import MetricFailure
from tokkit.metrics.sound import SoundMetric, needed, samples_of
from tokkit.registry import register

MIN_SECONDS = 0.25


class Pesq(SoundMetric):
    """Mean opinion score of speech, 1 to 4.64. It has no value for silence and for less than a quarter of a second."""

    higher_is_better: ClassVar[bool] = True
    mode: ClassVar[str]

    def prepare(self) -> None:
        self.package = needed(self.name, "pesq")

    def channel(self, original: Tensor, reconstruction: Tensor) -> float:
        rate = self.rate or self.sample_rate
        a, b = (samples_of(self.name, sound, MIN_SECONDS, rate) for sound in (original, reconstruction))
        if not b.any():
            raise MetricFailure(f"{self.name}: the reconstruction is silent")
        try:
            return float(self.package.pesq(rate, a, b, self.mode))
        except (self.package.PesqError, ValueError) as error:
            reason = error.args[0] if error.args else error
            raise MetricFailure(f"{self.name}: {reason.decode() if isinstance(reason, bytes) else reason}") from error


@register("metric", "pesq_wb_16k")
class PesqWideband(Pesq):
    """PESQ, wide band (ITU-T P.862.2), of both sounds at 16 kHz."""

    name: ClassVar[str] = "pesq_wb_16k"
    rate: ClassVar[int | None] = 16000
    mode: ClassVar[str] = "wb"


@register("metric", "pesq_nb_8k")
class PesqNarrowband(Pesq):
    """PESQ, narrow band (ITU-T P.862.1), of both sounds at 8 kHz."""

    name: ClassVar[str] = "pesq_nb_8k"
    rate: ClassVar[int | None] = 8000
    mode: ClassVar[str] = "nb"
