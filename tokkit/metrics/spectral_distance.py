"""Mel and STFT distances as DAC's evaluation and Codec-SUPERB define them. They are not the training losses."""

from __future__ import annotations

from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from tokkit import dsp
from tokkit.metrics.sound import SoundMetric
from tokkit.registry import register

FLOOR = 1e-5
MEL_SCALES = ((2048, 150), (512, 80))
WINDOWS = (2048, 512)


class MelDistance(SoundMetric):
    """Sum over (window, mels) = (2048, 150), (512, 80) of L1(log10 max(m, 1e-5)^2) + L1(m), m the mel magnitudes, hop window / 4, Hann."""

    higher_is_better: ClassVar[bool] = False

    def channel(self, original: Tensor, reconstruction: Tensor) -> float:
        rate = self.rate or self.sample_rate
        pairs = ((dsp.mel_magnitude(s, rate, window, mels) for s in (original, reconstruction)) for window, mels in MEL_SCALES)
        return sum(_distance(*pair) for pair in pairs)


class StftDistance(SoundMetric):
    """Sum over windows 2048 and 512 of L1(log10 max(|S|, 1e-5)^2) + L1(|S|), hop window / 4, Hann."""

    higher_is_better: ClassVar[bool] = False

    def channel(self, original: Tensor, reconstruction: Tensor) -> float:
        pairs = ((dsp.stft(s, window, window // 4).abs() for s in (original, reconstruction)) for window in WINDOWS)
        return sum(_distance(*pair) for pair in pairs)


@register("metric", "mel_distance_22k")
class MelDistance22k(MelDistance):
    """DAC's mel distance of both sounds at 22.05 kHz (https://github.com/descriptinc/descript-audio-codec, scripts/evaluate.py)."""

    name: ClassVar[str] = "mel_distance_22k"
    rate: ClassVar[int | None] = 22050


@register("metric", "mel_distance_44k")
class MelDistance44k(MelDistance):
    """DAC's mel distance of both sounds at 44.1 kHz (https://github.com/descriptinc/descript-audio-codec, scripts/evaluate.py)."""

    name: ClassVar[str] = "mel_distance_44k"
    rate: ClassVar[int | None] = 44100


@register("metric", "mel_distance_native")
class MelDistanceNative(MelDistance):
    """The same at the sounds' own rate, as Codec-SUPERB has it: comparable between tokenizers of one rate only."""

    name: ClassVar[str] = "mel_distance_native"


@register("metric", "stft_distance_22k")
class StftDistance22k(StftDistance):
    """DAC's STFT distance of both sounds at 22.05 kHz (https://github.com/descriptinc/descript-audio-codec, scripts/evaluate.py)."""

    name: ClassVar[str] = "stft_distance_22k"
    rate: ClassVar[int | None] = 22050


@register("metric", "stft_distance_44k")
class StftDistance44k(StftDistance):
    """DAC's STFT distance of both sounds at 44.1 kHz (https://github.com/descriptinc/descript-audio-codec, scripts/evaluate.py)."""

    name: ClassVar[str] = "stft_distance_44k"
    rate: ClassVar[int | None] = 44100


@register("metric", "stft_distance_native")
class StftDistanceNative(StftDistance):
    """The same at the sounds' own rate, as Codec-SUPERB has it: comparable between tokenizers of one rate only."""

    name: ClassVar[str] = "stft_distance_native"


def _distance(a: Tensor, b: Tensor) -> float:
    logs = F.l1_loss(a.clamp(min=FLOOR).square().log10(), b.clamp(min=FLOOR).square().log10())
    return (logs + F.l1_loss(a, b)).item()
