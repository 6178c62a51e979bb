"""Whether the words are still understood: word error rates, by the recognizer and the reference in the name."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

from torch import Tensor

from tokkit import dsp
from tokkit.metrics.base import MetricFailure, check_pair
from tokkit.metrics.recognizers import RATE, PocketSphinx, Recognizer, Whisper, word_errors, words
from tokkit.metrics.sound import SoundMetric
from tokkit.registry import register


class WordErrors(SoundMetric):
    """Insertions, deletions and replacements for each word of the reference; the channels are mixed, and heard at 16 kHz.

    "wer": the reference is the text beside the sound (`Sample.text`). "dwer": what the recognizer hears in the original, so that no text is
    needed and its own errors count for neither (DASB's dWER). A mean over samples is not the rate over all their words together.
    """

    unit: ClassVar[str] = ""
    higher_is_better: ClassVar[bool] = False
    of_text: ClassVar[bool]
    recognize: Recognizer

    def prepare(self) -> None:
        self.recognize = self.recognizer()

    @abstractmethod
    def recognizer(self) -> Recognizer:
        """Load it. Raises InputError."""

    def with_text(self, original: Tensor, reconstruction: Tensor, text: str | None) -> float:
        check_pair(self.name, original, reconstruction)
        if self.of_text and text is None:
            raise MetricFailure(f"{self.name}: there is no text beside the sound (name.txt); dwer needs none")
        if not original.any():
            raise MetricFailure(f"{self.name}: the original is silent")  # a recognizer may hear a word in it
        reference = words(text if self.of_text and text is not None else self._hear(original))
        if not reference:
            raise MetricFailure(f"{self.name}: {'the text has' if self.of_text else 'in the original the recognizer hears'} no words")
        return word_errors(reference, words(self._hear(reconstruction))) / len(reference)

    def __call__(self, original: Tensor, reconstruction: Tensor) -> float:
        return self.with_text(original, reconstruction, None)

    def channel(self, original: Tensor, reconstruction: Tensor) -> float:
        return self(original[None], reconstruction[None])

    def _hear(self, sound: Tensor) -> str:
        return self.recognize(dsp.resample(sound.detach().float().cpu().mean(0), self.sample_rate, RATE))


class _ByPocketSphinx(WordErrors):
    def recognizer(self) -> Recognizer:
        return PocketSphinx(self.name)


class _ByWhisper(WordErrors):
    model: ClassVar[str]

    def recognizer(self) -> Recognizer:
        return Whisper(self.name, self.model)


@register("metric", "wer_pocketsphinx")
class WerPocketSphinx(_ByPocketSphinx):
    """Word error rate against the text beside the sound, by PocketSphinx's English model."""

    name: ClassVar[str] = "wer_pocketsphinx"
    of_text: ClassVar[bool] = True


@register("metric", "dwer_pocketsphinx")
class DwerPocketSphinx(_ByPocketSphinx):
    """Word error rate against what PocketSphinx hears in the original."""

    name: ClassVar[str] = "dwer_pocketsphinx"
    of_text: ClassVar[bool] = False


@register("metric", "wer_whisper_small")
class WerWhisperSmall(_ByWhisper):
    """Word error rate against the text beside the sound, by Whisper small (https://arxiv.org/abs/2212.04356)."""

    name: ClassVar[str] = "wer_whisper_small"
    of_text: ClassVar[bool] = True
    model: ClassVar[str] = "openai/whisper-small"


@register("metric", "dwer_whisper_small")
class DwerWhisperSmall(_ByWhisper):
    """Word error rate against what Whisper small hears in the original: DASB's dWER."""

    name: ClassVar[str] = "dwer_whisper_small"
    of_text: ClassVar[bool] = False
    model: ClassVar[str] = "openai/whisper-small"


@register("metric", "wer_whisper_large_v3")
class WerWhisperLarge(_ByWhisper):
    """Word error rate against the text beside the sound, by Whisper large-v3."""

    name: ClassVar[str] = "wer_whisper_large_v3"
    of_text: ClassVar[bool] = True
    model: ClassVar[str] = "openai/whisper-large-v3"
