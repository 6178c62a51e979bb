"""Word error rates: edit distances by hand, what is the reference, failures that are counted, and the recognizers themselves."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import tokkit
from tokkit.data.folder import Folder
from tokkit.data.tones import Tones
from tokkit.errors import InputError
from tokkit.evaluate.adapters import open_system
from tokkit.evaluate.run import Options, evaluate
from tokkit.metrics import wer
from tokkit.metrics.base import MetricFailure
from tokkit.metrics.recognizers import Whisper, word_errors, words
from tokkit.modalities.audio import Audio


@pytest.mark.parametrize(
    ("reference", "heard", "errors"),
    [
        ("a b c d", "a b c d", 0),
        ("a b c d", "a x c d", 1),
        ("a b c d", "b c d", 1),
        ("a b c d", "a b b c d e", 2),
        ("a b c d", "", 4),
        ("a b c d", "d c b a", 4),
        ("kitten sitting on", "sitting kitten on", 2),
    ],
)
def test_errors_by_hand(reference: str, heard: str, errors: int) -> None:
    assert word_errors(reference.split(), heard.split()) == errors
    assert word_errors(heard.split(), reference.split()) == errors


def test_words_are_compared_without_case_and_punctuation() -> None:
    found = ["don't", "stop", "believing", "it's", "3", "5", "quoted"]
    assert words("Don\u2019t STOP—believing, [laughs] it's 3.5 'quoted' <sil>!") == found
    assert words("Straße, ÉTÉ; 東京") == ["straße", "été", "東京"] and words(" ... ") == []


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> dict[int, str]:
    """A recognizer that hears, by a sound's number of samples, what the test says."""
    texts: dict[int, str] = {}

    class Fake:
        def __init__(self, metric: str):
            self.metric = metric

        def __call__(self, sound: Tensor) -> str:
            assert sound.ndim == 1
            return texts[round(float(sound[0]) * 10)]

    monkeypatch.setattr(wer, "PocketSphinx", Fake)
    return texts


def sound(number: int, channels: int = 1) -> Tensor:
    return torch.full((channels, 400), number / 10)


def test_the_reference_is_the_text_or_what_is_heard_in_the_original(heard: dict[int, str]) -> None:
    heard |= {1: "one too three", 2: "one two tree four"}
    of_text, of_original = (tokkit.build("metric", name, sample_rate=16000) for name in ("wer_pocketsphinx", "dwer_pocketsphinx"))
    assert of_text.with_text(sound(1), sound(2), "One, two, three.") == pytest.approx(2 / 3)
    assert of_original.with_text(sound(1), sound(2), "One, two, three.") == pytest.approx(3 / 3)
    assert of_original(sound(1, 2), sound(1, 2)) == 0


def test_no_text_and_no_words_are_failures(heard: dict[int, str]) -> None:
    heard |= {1: "", 2: "one"}
    of_text, of_original = (tokkit.build("metric", name, sample_rate=16000) for name in ("wer_pocketsphinx", "dwer_pocketsphinx"))
    with pytest.raises(MetricFailure, match="no text beside the sound"):
        of_text(sound(2), sound(2))
    with pytest.raises(MetricFailure, match="the text has no words"):
        of_text.with_text(sound(2), sound(2), "...")
    with pytest.raises(MetricFailure, match="in the original the recognizer hears no words"):
        of_original(sound(1), sound(2))
    assert of_text.with_text(sound(2), sound(1), "one two") == 1, "hearing nothing is an error for every word"
    with pytest.raises(MetricFailure, match="the reconstruction"):
        of_original(sound(1), sound(1)[:, :5])


def test_evaluation_takes_the_texts_that_lie_beside_the_files(heard: dict[int, str], tmp_path: Path) -> None:
    heard |= {1: "one two", 2: "three", 3: "four"}
    modality = Audio(sample_rate=16000)
    for name, number, text in (("a", 1, "One\ntwo."), ("b", 2, "three four"), ("c", 3, None)):
        modality.write(tmp_path / f"{name}.wav", sound(number))
        if text is not None:
            (tmp_path / f"{name}.txt").write_text(text)
    result = evaluate(
        open_system("identity", modality), Folder(path=str(tmp_path)).open(modality), metrics=["wer_pocketsphinx"], options=Options(worst=0)
    )
    assert {row.sample: row.values.get("wer_pocketsphinx") for row in result.rows} == {"a": 0.0, "b": 0.5, "c": None}
    assert "no text beside" in result.rows[2].failures["wer_pocketsphinx"]


def test_texts_of_librispeech(tmp_path: Path) -> None:
    Audio(sample_rate=16000).write(tmp_path / "84" / "84-121123-0001.flac", sound(1))
    Audio(sample_rate=16000).write(tmp_path / "84" / "84-121123-0002.flac", sound(1))
    (tmp_path / "84" / "84-121123.trans.txt").write_text("84-121123-0000 GO\n84-121123-0001 DO YOU HEAR\n")
    source = Folder(path=str(tmp_path)).open(Audio(sample_rate=16000))
    assert [source.text(index) for index in range(2)] == ["DO YOU HEAR", None]


def test_pocketsphinx_hears_the_same_whatever_came_before() -> None:
    pytest.importorskip("pocketsphinx")
    metric = tokkit.build("metric", "dwer_pocketsphinx", sample_rate=16000)
    source = Tones(seconds=0.6).open(Audio(sample_rate=16000))
    sounds = [source.sample(index).values[0] for index in range(3)]
    first = [metric.recognize(each) for each in sounds]
    assert [metric.recognize(each) for each in reversed(sounds)] == first[::-1] and any(first)
    assert metric.recognize(torch.zeros(1600)) == ""


def test_whisper_without_its_weights_says_where_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(InputError, match=r"needs the package transformers .*tokkit\[whisper\]"):
        tokkit.build("metric", "wer_whisper_small")

    def missing(model: str, *, local_files_only: bool) -> Any:
        assert local_files_only
        raise OSError("no file")

    package = types.SimpleNamespace(WhisperProcessor=types.SimpleNamespace(from_pretrained=missing))
    monkeypatch.setitem(sys.modules, "transformers", package)
    with pytest.raises(InputError, match=r"weights of openai/whisper-small are not on this machine .*hf download openai/whisper-small"):
        tokkit.build("metric", "dwer_whisper_small")


def test_whisper_hears_long_sounds_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    class Processor:
        def __call__(self, samples: Any, *, sampling_rate: int, return_tensors: str) -> Any:
            asked.append(len(samples))
            return types.SimpleNamespace(input_features=torch.zeros(1, 80, 3000))

        def batch_decode(self, ids: Tensor, *, skip_special_tokens: bool) -> list[str]:
            return [f" part{int(ids)}"]

    class Model:
        def eval(self) -> Model:
            return self

        def generate(self, features: Tensor, **options: Any) -> Tensor:
            assert options == {"task": "transcribe", "do_sample": False, "num_beams": 1}
            return torch.tensor(len(asked))

    def loader(thing: type) -> Any:
        return types.SimpleNamespace(from_pretrained=lambda model, local_files_only: thing())

    package = types.SimpleNamespace(WhisperProcessor=loader(Processor), WhisperForConditionalGeneration=loader(Model))
    monkeypatch.setitem(sys.modules, "transformers", package)
    assert words(Whisper("wer_whisper_small", "folder")(torch.zeros(16000 * 31))) == ["part1", "part2"]
    assert asked == [16000 * 30, 16000]
