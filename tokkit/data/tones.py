"""Generated sound, for tests and dry runs that should depend on no file."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tokkit.data.base import Crop, Source, Split
from tokkit.errors import InputError
from tokkit.modalities.base import Modality, Sample
from tokkit.registry import register


@register("data", "tones")
class Tones(Source):
    """Syllable-like sounds: harmonics of a gliding pitch under two formants, breath noise, pauses. Sound i of a seed is always the same."""

    def __init__(
        self,
        *,
        count: int = 64,
        seconds: float = 1.0,
        seed: int = 0,
        size: int = 8192,
        crop: Crop = "random",
        flip: bool = False,
        cache: bool = False,
    ):
        """
        Args:
            count: of sounds in the split "train"; "val" has a quarter as many, other ones.
            seconds: length of each.
            seed: of the whole set.
            size, crop, flip, cache: see `Source`; `size` is in samples.

        Raises:
            InputError: `count` or `seconds` is not positive.
        """
        super().__init__(size=size, crop=crop, flip=flip, cache=cache)
        if count < 1 or seconds <= 0:
            raise InputError(f"tones: count must be at least 1 and seconds positive, got {count} and {seconds}")
        self.count = count
        self.seconds = seconds
        self.seed = seed

    def find(self, modality: Modality, split: Split) -> range:
        if modality.sample_rate is None:
            raise InputError(f"the data source `tones` makes sound, and the modality is {modality.name}")
        return range(self.count) if split == "train" else range(self.count, self.count + max(1, self.count // 4))

    def load(self, item: int, modality: Modality) -> Sample:
        assert modality.sample_rate is not None
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + item)  # torch looks at the lower 32 bits alone
        sound = _phrase(modality.sample_rate, max(1, round(self.seconds * modality.sample_rate)), generator)
        return Sample(sound.expand(modality.channels, -1).contiguous(), f"tones-{item:06d}")


def _phrase(rate: int, length: int, generator: torch.Generator) -> Tensor:
    """Float32 [1, length] in [-1, 1]: syllables of 0.15 to 0.4 s, a sixth of them silent."""
    parts: list[Tensor] = []
    voice = 90 + 150 * float(torch.rand((), generator=generator))
    while sum(len(part) for part in parts) < length:
        parts.append(_syllable(rate, voice, generator))
    return torch.cat(parts)[:length].clamp(-1, 1)[None]


def _syllable(rate: int, voice: float, generator: torch.Generator) -> Tensor:
    rand = torch.rand(8, generator=generator)
    length = max(1, round(rate * (0.15 + 0.25 * float(rand[0]))))
    time = torch.arange(length) / rate
    envelope = torch.sin(math.pi * torch.arange(length) / length).sqrt()
    pitch = voice * (1 + 0.2 * (rand[1] - 0.5) + (rand[2] - 0.5) * time)
    phase = 2 * math.pi * torch.cumsum(pitch / rate, 0)
    formants = 300 + 500 * rand[3], 1000 + 1500 * rand[4]
    voiced = torch.zeros(length)
    for harmonic in range(1, max(2, int(0.4 * rate / float(pitch.max())))):
        hertz = harmonic * voice
        gain = sum(1 / (1 + ((hertz - formant) / 150) ** 2) for formant in formants)
        voiced += gain * torch.sin(harmonic * phase)
    breath = torch.randn(length, generator=generator)
    mixed = voiced * (rand[5] > 0.25) + breath * (0.02 + 0.3 * (rand[5] <= 0.25))
    return 0.3 * envelope * mixed / (mixed.abs().amax() + 1e-9) * (rand[6] + 0.5) * (rand[7] > 1 / 6)
