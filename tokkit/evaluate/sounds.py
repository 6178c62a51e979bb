"""Sounds in a report: a spectrogram to look at and a player to listen to, whole or around the largest error."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from html import escape
from typing import ClassVar

import soundfile
import torch
from torch import Tensor

from tokkit import dsp
from tokkit.evaluate.exhibit import Exhibit, figure
from tokkit.evaluate.result import Case, Row

SECONDS = 6.0
"""Of a sound that are shown: about 0.3 MB of the report at 24 kHz, mono, for each system."""
MELS = 96
RANGE_DB = 80.0
DIFFERENCE_DB = 30.0
_LOUDNESS = ((0, 0, 8), (45, 15, 110), (150, 40, 125), (235, 105, 65), (250, 195, 80), (252, 250, 205))
"""Colours from silence to the loudest."""
_LOST_ADDED = ((90, 170, 255), (25, 45, 90), (20, 20, 24), (100, 35, 20), (255, 125, 70))
_STRIDE = 2400


class Sounds(Exhibit):
    """Mel spectrograms on one scale, what is lost and added, and a player each."""

    title: ClassVar[str] = "Sounds"
    hint: ClassVar[str] = (
        f"Mel spectrograms over {RANGE_DB:g} dB below the original's loudest; in the difference, blue is lost and orange is added, "
        f"up to {DIFFERENCE_DB:g} dB. Click to zoom, and to switch in place."
    )

    def keep(self, original: Tensor, reconstructions: dict[str, Tensor], system: str) -> tuple[Tensor, dict[str, Tensor]]:
        start = self._start(original, reconstructions[system])
        return self._cut(original, start), {name: self._cut(values, start) for name, values in reconstructions.items()}

    def strip(self, case: Case, system: str, facts: Callable[[Row], str]) -> str:
        original = self._loudness(case.original)
        top = float(original.amax())
        seconds = case.original.shape[1] / self._rate
        own = self._loudness(case.reconstructions[system])

        def shown(pcm: Tensor, levels: Tensor, name: str, told: str) -> str:
            return figure(_painted((levels - top) / RANGE_DB + 1, _LOUDNESS), name, told, self._player(pcm, name))

        whole = case.rows[system].extent
        part = f" of {whole:.2f} s" if whole > seconds + 1 / self._rate else ""
        figures = [
            shown(case.original, original, "original", f"{seconds:.2f} s{part}, {self._rate} Hz"),
            shown(case.reconstructions[system], own, system, facts(case.rows[system])),
            # What lies below the range is as good as silent on either side.
            figure(
                _painted((own.clamp(min=top - RANGE_DB) - original.clamp(min=top - RANGE_DB)) / DIFFERENCE_DB / 2 + 0.5, _LOST_ADDED),
                "difference",
                "of the reconstruction",
            ),
        ]
        for name, values in case.reconstructions.items():
            if name != system:
                figures.append(shown(values, self._loudness(values), name, facts(case.rows[name])))
        return "".join(figures)

    @property
    def _rate(self) -> int:
        return self.modality.sample_rate or 1

    def _start(self, original: Tensor, reconstruction: Tensor) -> int:
        """Of the part around the largest error, where the whole is too long."""
        length, room = original.shape[1], int(SECONDS * self._rate)
        if length <= room:
            return 0
        error = (original.cpu() - reconstruction.cpu()).float().square().mean(0)
        at = int(torch.stack([part.mean() for part in error.split(_STRIDE)]).argmax()) * _STRIDE
        return max(0, min(at - room // 2, length - room))

    def _cut(self, values: Tensor, start: int) -> Tensor:
        """16 bits, at most `SECONDS`."""
        part = values[:, start : start + int(SECONDS * self._rate)]
        return part.float().clamp(-1, 1).mul(32767).round().short().cpu()

    def _loudness(self, pcm: Tensor) -> Tensor:
        """[mels, frames] in dB, high frequencies first."""
        window = 1024 if self._rate <= 32000 else 2048
        magnitude = dsp.mel_magnitude(pcm.float() / 32767, self._rate, window, MELS).mean(0)
        return 20 * magnitude.clamp(min=1e-7).log10().flip(0)

    def _player(self, pcm: Tensor, name: str) -> str:
        file = io.BytesIO()
        soundfile.write(file, pcm.T.numpy(), self._rate, format="FLAC", subtype="PCM_16")
        source = "data:audio/flac;base64," + base64.b64encode(file.getvalue()).decode()
        return f'<audio controls preload="none" src="{source}" aria-label="{escape(name)}"></audio>'


def _painted(values: Tensor, colors: tuple[tuple[int, int, int], ...]) -> Tensor:
    """Values in [0, 1], clamped to it, as a uint8 picture [3, 2 H, W], colours interpolated between those given."""
    table = torch.tensor(colors, dtype=torch.float32)
    places = values.clamp(0, 1) * (len(colors) - 1)
    below = places.floor().long().clamp(max=len(colors) - 2)
    mixed = torch.lerp(table[below], table[below + 1], (places - below).unsqueeze(-1))
    return mixed.round().byte().permute(2, 0, 1).repeat_interleave(2, 1)
