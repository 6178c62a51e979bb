"""Whether it is still the same voice, by the package `resemblyzer`, which carries its network."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from torch import Tensor

from tokkit.metrics.base import MetricFailure
from tokkit.metrics.sound import SoundMetric, needed, samples_of
from tokkit.registry import register


@register("metric", "speaker_similarity_resemblyzer")
class SpeakerSimilarity(SoundMetric):
    """Cosine of Resemblyzer's GE2E voice embeddings (https://arxiv.org/abs/1710.10467) at 16 kHz, both sounds scaled to -30 dBFS.

    Silence is not cut out, so that both sounds keep the same frames. Not comparable to the cosines of other networks.
    """

    name: ClassVar[str] = "speaker_similarity_resemblyzer"
    higher_is_better: ClassVar[bool] = True
    rate: ClassVar[int | None] = 16000

    def prepare(self) -> None:
        self.encoder = needed(self.name, "resemblyzer").VoiceEncoder("cpu", verbose=False)

    def channel(self, original: Tensor, reconstruction: Tensor) -> float:
        a, b = (self._embedding(samples_of(self.name, sound, 0.4, 16000)) for sound in (original, reconstruction))
        return float(a @ b)

    def _embedding(self, samples: np.ndarray) -> np.ndarray:
        rms = np.sqrt(np.mean(np.square(samples)))
        if rms == 0:
            raise MetricFailure(f"{self.name}: one of the sounds is silent")
        embedding: np.ndarray = self.encoder.embed_utterance((samples * (10 ** (-30 / 20) / rms)).astype(np.float32))
        return embedding
