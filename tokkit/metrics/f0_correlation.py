"""How well the melody of speech is kept, by Praat (package `praat-parselmouth`)."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from torch import Tensor

from tokkit.metrics.base import MetricFailure
from tokkit.metrics.sound import SoundMetric, needed, samples_of
from tokkit.registry import register

FLOOR_HZ, CEILING_HZ = 50.0, 1100.0
LEAST_FRAMES = 10


@register("metric", "f0_correlation_voiced")
class F0Correlation(SoundMetric):
    """Pearson correlation of log f0 over the frames that Praat finds voiced in both sounds (autocorrelation, 50 to 1100 Hz, 10 ms steps).

    It has no value where fewer than 10 frames are voiced in both, or one of the pitches does not move.
    """

    name: ClassVar[str] = "f0_correlation_voiced"
    higher_is_better: ClassVar[bool] = True

    def prepare(self) -> None:
        self.package = needed(self.name, "parselmouth")

    def channel(self, original: Tensor, reconstruction: Tensor) -> float:
        a, b = (self._pitch(samples_of(self.name, sound, 0.2, self.sample_rate)) for sound in (original, reconstruction))
        both = (a > 0) & (b > 0)
        if both.sum() < LEAST_FRAMES:
            raise MetricFailure(f"{self.name}: {int(both.sum())} frames are voiced in both sounds, fewer than {LEAST_FRAMES}")
        x, y = np.log(a[both]), np.log(b[both])
        if x.std() < 1e-6 or y.std() < 1e-6:
            raise MetricFailure(f"{self.name}: the pitch does not move, a correlation has no meaning")
        return float(np.corrcoef(x, y)[0, 1])

    def _pitch(self, samples: np.ndarray) -> np.ndarray:
        """f0 in Hz every 10 ms, 0 where unvoiced."""
        sound = self.package.Sound(samples, self.sample_rate)
        pitch = sound.to_pitch_ac(time_step=0.01, pitch_floor=FLOOR_HZ, pitch_ceiling=CEILING_HZ)
        frequencies: np.ndarray = pitch.selected_array["frequency"]
        return frequencies
