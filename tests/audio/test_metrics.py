"""The metrics of sound: against hand values and other libraries, in the right order, and no value where there is none."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import torch
import torchmetrics.functional.audio
from torch import Tensor

import tokkit
from tests.audio.test_losses import mel_filters, spectrogram
from tokkit import dsp
from tokkit.data.tones import Tones
from tokkit.errors import InputError
from tokkit.metrics.base import Metric, MetricFailure
from tokkit.modalities.audio import Audio

NAMES = [name for name in tokkit.names("metric") if tokkit.registry.get("metric", name).modality == "audio"]  # type: ignore[attr-defined]
SLOW = {"speaker_similarity_resemblyzer", "dnsmos_p835_ovrl", "dnsmos_p808", "visqol_speech_polynomial_16k", "visqol_audio_48k"}


def metric(name: str, rate: int = 24000) -> Metric:
    options = {"sample_rate": rate} if "sample_rate" in tokkit.registry.signature(tokkit.registry.get("metric", name)).parameters else {}
    try:
        return tokkit.build("metric", name, **options)  # type: ignore[no-any-return]
    except InputError as error:
        pytest.skip(str(error))


def speech(seconds: float = 1.5, rate: int = 24000, seed: int = 3) -> Tensor:
    """Syllables, [1, T]."""
    return Tones(seconds=seconds, seed=seed).open(Audio(sample_rate=rate)).sample(0).values


def noise(like: Tensor) -> Tensor:
    return torch.randn(like.shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", [name for name in NAMES if "wer_" not in name])  # these syllables are no words: test_wer.py
def test_more_noise_is_worse(name: str) -> None:
    judge = metric(name)
    original = speech()
    strengths = (0.0, 0.05) if name in SLOW else (0.0, 0.005, 0.05)
    scores = [judge(original, (original + strength * noise(original)).clamp(-1, 1)) for strength in strengths]
    assert all(isinstance(score, float) and not math.isnan(score) for score in scores)
    if name.startswith("dnsmos"):
        return  # its network was trained on people, and these are synthetic syllables
    assert scores == sorted(scores, reverse=judge.higher_is_better) and scores[0] != scores[-1]


@pytest.mark.parametrize("name", NAMES)
def test_no_value_is_a_failure_not_a_number(name: str) -> None:
    judge = metric(name)
    original = speech(0.5)
    broken = original.clone()
    broken[0, 5] = math.nan
    for pair in ((original, original[:, 1:]), (original, broken), (original[:, :0], original[:, :0])):
        with pytest.raises(MetricFailure, match=name):
            judge(*pair)
    if "distance" in name:
        assert judge(torch.zeros(1, 4000), torch.zeros(1, 4000)) == 0
    elif not name.startswith("dnsmos"):
        with pytest.raises(MetricFailure, match=name):
            judge(torch.zeros(1, 24000), speech(1.0))


@pytest.mark.parametrize("name", ["pesq_wb_16k", "stoi", "f0_correlation_voiced", "dnsmos_p808", "speaker_similarity_resemblyzer"])
def test_too_short_is_a_failure(name: str) -> None:
    judge = metric(name)
    short = speech(0.5)[:, 6000:6500]
    with pytest.raises(MetricFailure, match=name):
        judge(short, short)


def test_si_sdr_by_hand_and_by_torchmetrics() -> None:
    judge = metric("si_sdr")
    original = torch.tensor([[1.0, -1.0, 1.0, -1.0]])
    assert judge(original, 0.5 * original + 0.3) == math.inf
    orthogonal = torch.tensor([[1.0, 1.0, -1.0, -1.0]])
    assert judge(original, original + 0.1 * orthogonal) == pytest.approx(20.0, abs=1e-5)
    a, b = speech(), speech(seed=4)
    expected = torchmetrics.functional.audio.scale_invariant_signal_distortion_ratio(a + 0.1 * b, a, zero_mean=True).item()
    assert judge(a, a + 0.1 * b) == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize(("name", "rate"), [("22k", 22050), ("44k", 44100), ("native", 24000)])
def test_distances_are_dacs_evaluation(name: str, rate: int) -> None:
    a, b = speech(0.4), speech(0.4, seed=9)
    x, y = (dsp.resample(sound, 24000, rate)[0].double().numpy() for sound in (a, b))
    mel = stft = 0.0
    for window, mels in ((2048, 150), (512, 80)):
        filters = mel_filters(rate, window, mels)
        s, t = spectrogram(x, window), spectrogram(y, window)
        for p, q, which in ((filters @ s, filters @ t, "mel"), (s, t, "stft")):
            value = np.abs(np.log10(np.maximum(p, 1e-5) ** 2) - np.log10(np.maximum(q, 1e-5) ** 2)).mean() + np.abs(p - q).mean()
            mel, stft = (mel + value, stft) if which == "mel" else (mel, stft + value)
    assert metric(f"mel_distance_{name}")(a, b) == pytest.approx(mel, rel=1e-3)
    assert metric(f"stft_distance_{name}")(a, b) == pytest.approx(stft, rel=1e-3)


def test_pesq_and_stoi_are_the_packages() -> None:
    pesq, pystoi = pytest.importorskip("pesq"), pytest.importorskip("pystoi")
    a = speech(rate=16000)
    b = (a + 0.01 * noise(a)).clamp(-1, 1)
    x, y = a[0].double().numpy(), b[0].double().numpy()
    assert metric("pesq_wb_16k", 16000)(a, b) == pytest.approx(pesq.pesq(16000, x, y, "wb"))
    assert metric("stoi", 16000)(a, b) == pytest.approx(pystoi.stoi(x, y, 16000))
    assert metric("estoi", 16000)(a, b) == pytest.approx(pystoi.stoi(x, y, 16000, extended=True))
    both = metric("stoi", 16000)(torch.cat([a, b]), torch.cat([b, b]))
    assert both == pytest.approx((pystoi.stoi(x, y, 16000) + pystoi.stoi(y, y, 16000)) / 2)


def test_f0_correlation_of_a_melody() -> None:
    judge = metric("f0_correlation_voiced")
    time = torch.arange(48000) / 24000

    def sing(glide: float) -> Tensor:
        phase = 2 * math.pi * torch.cumsum(150 + glide * torch.sin(2 * math.pi * time), 0) / 24000
        return sum(0.1 * torch.sin(k * phase) for k in range(1, 6))[None]  # type: ignore[index]

    assert judge(sing(30), sing(60)) > 0.98
    assert judge(sing(30), sing(-30)) < -0.9
    with pytest.raises(MetricFailure, match=r"voiced|does not move"):
        judge(sing(30), 0.1 * noise(sing(30)))


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pystoi", None)
    with pytest.raises(InputError, match=r"pystoi.*tokkit\[audio-eval\]"):
        tokkit.build("metric", "stoi")


def test_metrics_leave_warnings_alone() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        metric("si_sdr")(speech(), speech())
