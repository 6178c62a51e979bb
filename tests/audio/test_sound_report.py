"""Sounds in the report: players that hold the very samples, pictures of what is lost, a bounded size."""

from __future__ import annotations

import base64
import io
import re

import pytest
import soundfile
import torch
from PIL import Image
from torch import Tensor

from tokkit.data.tones import Tones
from tokkit.evaluate import sounds
from tokkit.evaluate.adapters import FunctionSystem
from tokkit.evaluate.report import render
from tokkit.evaluate.result import Evaluation
from tokkit.evaluate.run import Options, evaluate
from tokkit.modalities.audio import Audio
from tokkit.modalities.base import Sample

RATE = 16000


def low_pass(batch: Tensor) -> Tensor:
    spectrum = torch.fft.rfft(batch)
    spectrum[..., spectrum.shape[-1] // 2 :] = 0
    return torch.fft.irfft(spectrum, batch.shape[-1]).clamp(-1, 1)


def evaluated(samples: list[Sample], **options: int) -> Evaluation:
    system = FunctionSystem(low_pass, Audio(sample_rate=RATE), name="a < b")
    return evaluate(system, samples, metrics=["si_sdr"], options=Options(curve_samples=0, **options))


def noise(seconds: float, name: str, channels: int = 1) -> Sample:
    generator = torch.Generator().manual_seed(len(name))
    return Sample(torch.rand(channels, int(seconds * RATE), generator=generator) - 0.5, name)


def pictures_of(page: str) -> list[Tensor]:
    found = re.findall(r'<img src="data:image/png;base64,([^"]+)"', page)
    images = [Image.open(io.BytesIO(base64.b64decode(data))) for data in found]
    return [torch.tensor(list(image.tobytes()), dtype=torch.uint8).view(image.height, image.width, 3) for image in images]


def test_players_hold_the_samples_and_pictures_show_what_is_lost() -> None:
    sample = noise(0.5, "noise & co")
    page = render(evaluated([sample], worst=1, others=0))
    players = re.findall(r'<audio controls preload="none" src="data:audio/flac;base64,([^"]+)" aria-label="([^"]+)"></audio>', page)
    assert [name for _, name in players] == ["original", "a &lt; b"]
    heard, rate = soundfile.read(io.BytesIO(base64.b64decode(players[0][0])), dtype="float32")
    assert rate == RATE
    torch.testing.assert_close(torch.from_numpy(heard), sample.values[0], atol=1.6e-5 * 2, rtol=0)
    assert "<h2>Sounds</h2>" in page and "noise &amp; co" in page and "0.50 s, 16000 Hz" in page
    original, cut, difference = (picture.float() for picture in pictures_of(page))
    assert original.shape == cut.shape == difference.shape == (2 * sounds.MELS, 0.5 * RATE // 256 + 1, 3)
    high, low = slice(0, 20), slice(-20, None)
    assert cut[high].mean() < 20 < 100 < original[high].mean() and (cut[low] - original[low]).abs().mean() < 5
    red, blue = difference[high].mean((0, 1))[0], difference[high].mean((0, 1))[2]
    assert blue > 200 and blue > 2 * red, "what is lost is blue"
    assert difference[low].mean() < 40


def test_long_sounds_are_shown_around_the_largest_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sounds, "SECONDS", 0.5)
    silence = torch.zeros(2, 4 * RATE)
    silence[:, 3 * RATE : 3 * RATE + 800] = noise(0.05, "x", 2).values
    found = evaluated([Sample(silence, "late"), noise(0.2, "short")], worst=2, others=0)
    late = next(case for case in found.cases if case.sample == "late")
    assert late.original.shape == (2, 8000) and late.original.dtype == torch.int16 and late.original[:, 3000:5500].any()
    assert "0.50 s of 4.00 s" in render(found)


def test_silence_and_a_single_sample_are_shown_too() -> None:
    page = render(evaluated([Sample(torch.zeros(1, 4000), "silent"), Sample(torch.full((1, 2), 0.5), "two")], worst=0, others=2))
    assert len(pictures_of(page)) == 6


def test_the_worst_and_some_others_are_kept_and_the_file_stays_small() -> None:
    source = Tones(seconds=2.0, count=8).open(Audio(sample_rate=RATE))
    found = evaluated([source.sample(index) for index in range(8)], worst=2, others=1)
    assert [case.worst for case in found.cases] == [True, True, False]
    assert len(render(found)) < 3 * (2 * 2 * RATE * 2 * 4 / 3 + 300_000)
