"""Opus: it keeps time and length, gets better with bytes, and its packets are counted."""

from __future__ import annotations

import pytest
import torch

import tokkit
from tokkit.baselines.opus import Opus, payload_bytes
from tokkit.data.tones import Tones
from tokkit.errors import InputError
from tokkit.modalities.audio import Audio


def build(rate: int) -> Opus:
    try:
        return tokkit.build("baseline", "opus", sample_rate=rate)  # type: ignore[no-any-return]
    except InputError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("rate", [24000, 44100, 16000])
def test_length_time_and_quality(rate: int) -> None:
    opus = build(rate)
    sound = Tones(seconds=1.7).open(Audio(sample_rate=rate)).sample(1).values
    judge = tokkit.build("metric", "si_sdr")
    scores, sizes = [], []
    for quality in (6, 24, 96):
        data = opus.encode(sound, quality)
        decoded = opus.decode(data)
        assert abs(decoded.shape[1] - sound.shape[1]) <= 2 and decoded.abs().max() <= 1
        decoded = torch.nn.functional.pad(decoded, (0, 2))[:, : sound.shape[1]]
        scores.append(judge(sound, decoded))
        sizes.append(len(data))
        assert 0 < payload_bytes(data) < len(data) - 80
    assert scores == sorted(scores) and sizes == sorted(sizes)
    assert scores[-1] > 10, "a shift would ruin it"


def test_fits_a_budget() -> None:
    opus = build(24000)
    sound = Tones(seconds=2.0).open(Audio()).sample(2).values
    fitted = opus.fit(sound, 4000)
    assert not fitted.over_budget and len(fitted.data) <= 4000 < len(opus.encode(sound, fitted.quality + 1))
    assert opus.fit(sound, 10).over_budget
    with pytest.raises(InputError, match="not an OGG"):
        payload_bytes(b"RIFF" + bytes(100))
