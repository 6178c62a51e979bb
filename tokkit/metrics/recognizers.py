"""What was said: recognizers of speech that give words. Each is loaded once, and what it hears depends on nothing heard before."""

from __future__ import annotations

import re
import unicodedata
from typing import Any, Protocol

import torch
from torch import Tensor

from tokkit.errors import InputError
from tokkit.metrics.sound import needed

RATE = 16000
WHISPER_SECONDS = 30
"""Of sound that Whisper hears at once; longer ones are cut."""
_BRACKETED = re.compile(r"[<\[][^>\]]*[>\]]")
_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)*")


class Recognizer(Protocol):
    """Turns sound into text."""

    def __call__(self, sound: Tensor) -> str:
        """The text of [T] fp32 on the CPU at 16 kHz; "" where nothing is heard."""


class PocketSphinx:
    """CMU's recognizer with the English model that its package carries: works offline, and errs in a quarter of the words or more."""

    def __init__(self, metric: str):
        """
        Raises:
            InputError: pocketsphinx is not installed.
        """
        package = needed(metric, "pocketsphinx")
        self.decoder = package.Decoder(samprate=RATE, cmn="batch", loglevel="FATAL")

    def __call__(self, sound: Tensor) -> str:
        pcm = (sound.clamp(-1, 1) * 32767).round().short().numpy().tobytes()
        self.decoder.reinit_feat()  # or the mean of the sounds before would be taken off this one
        self.decoder.start_utt()
        self.decoder.process_raw(pcm, full_utt=True)
        self.decoder.end_utt()
        found = self.decoder.hyp()
        return found.hypstr if found else ""


class Whisper:
    """OpenAI's recognizer through transformers, greedy, in the language that it detects; its weights must be there."""

    def __init__(self, metric: str, model: str):
        """
        Args:
            metric: for messages.
            model: a folder, or a name in the Hugging Face cache of this machine; nothing is downloaded.

        Raises:
            InputError: transformers is not installed, or the weights are not there.
        """
        package: Any = needed(metric, "transformers", "whisper")
        try:
            self.processor = package.WhisperProcessor.from_pretrained(model, local_files_only=True)
            self.model = package.WhisperForConditionalGeneration.from_pretrained(model, local_files_only=True).eval()
        except (OSError, ValueError, RuntimeError) as error:
            raise InputError(
                f"metric {metric!r}: the weights of {model} are not on this machine ({error}); with a network: hf download {model}"
            ) from error

    @torch.inference_mode()
    def __call__(self, sound: Tensor) -> str:
        texts = []
        for part in sound.split(WHISPER_SECONDS * RATE):
            features = self.processor(part.numpy(), sampling_rate=RATE, return_tensors="pt").input_features
            ids = self.model.generate(features, task="transcribe", do_sample=False, num_beams=1)
            texts.append(self.processor.batch_decode(ids, skip_special_tokens=True)[0])
        return " ".join(texts)


def words(text: str) -> list[str]:
    """The words of a text, to compare: lower case, no punctuation but apostrophes inside words, nothing in <> or []."""
    plain = _BRACKETED.sub(" ", unicodedata.normalize("NFKC", text).replace("\u2019", "'").lower())
    return _WORD.findall(plain)


def word_errors(reference: list[str], heard: list[str]) -> int:
    """The fewest insertions, deletions and replacements of words that make one of the other."""
    costs = list(range(len(heard) + 1))
    for row, expected in enumerate(reference, 1):
        before, costs[0] = costs[0], row
        for column, word in enumerate(heard, 1):
            least = min(costs[column] + 1, costs[column - 1] + 1, before + (expected != word))
            before, costs[column] = costs[column], least
    return costs[-1]
