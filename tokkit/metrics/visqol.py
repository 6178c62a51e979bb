"""ViSQOL by the package `visqol-python`, a port of Google's program."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from tokkit.metrics.base import MetricFailure
from tokkit.metrics.sound import SoundMetric, needed, samples_of
from tokkit.registry import register


class Visqol(SoundMetric):
    """Predicted mean opinion score from the similarity of spectrograms (https://arxiv.org/abs/2004.09584), 1 to 5.

    The port's values were not compared with those of Google's program here.
    """

    higher_is_better: ClassVar[bool] = True
    rate: ClassVar[int | None]
    mode: ClassVar[str]
    options: ClassVar[dict[str, bool]] = {}

    def prepare(self) -> None:
        self.program = needed(self.name, "visqol").VisqolApi()
        self.program.create(mode=self.mode, **self.options)

    def channel(self, original: Tensor, reconstruction: Tensor) -> float:
        rate = self.rate or self.sample_rate
        a, b = (samples_of(self.name, sound, 0.5, rate) for sound in (original, reconstruction))
        if not a.any() or not b.any():
            raise MetricFailure(f"{self.name}: one of the sounds is silent")
        try:
            return float(self.program.measure_from_arrays(a, b, rate).moslqo)
        except (ValueError, RuntimeError, IndexError) as error:
            raise MetricFailure(f"{self.name}: {error}") from error


@register("metric", "visqol_speech_polynomial_16k")
class VisqolSpeech(Visqol):
    """ViSQOL v3 in speech mode with the polynomial mapping, both sounds at 16 kHz: 1 to 2 points above the program's default, a lattice."""

    name: ClassVar[str] = "visqol_speech_polynomial_16k"
    rate: ClassVar[int | None] = 16000
    mode: ClassVar[str] = "speech"
    options: ClassVar[dict[str, bool]] = {"use_lattice_model": False}


@register("metric", "visqol_audio_48k")
class VisqolAudio(Visqol):
    """ViSQOL v3 in audio mode, both sounds at 48 kHz."""

    name: ClassVar[str] = "visqol_audio_48k"
    rate: ClassVar[int | None] = 48000
    mode: ClassVar[str] = "audio"
