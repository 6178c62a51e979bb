"""Signal processing that modalities, losses, metrics and baselines share: functions of sampled sound, nothing learned."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Iterator
from fractions import Fraction

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

MAX_RATIO_TERM = 1000
"""Rates whose reduced ratio has larger terms (44101 : 24000) are resampled at the nearest ratio of smaller ones: off by under 1e-6."""
_ZERO_CROSSINGS = 64
_HERTZ_PER_MEL, _LINEAR_MELS, _LOG_STEP = 200 / 3, 15.0, math.log(6.4) / 27
"""Slaney's mel scale: linear below 1000 Hz, the 15th mel, and logarithmic above."""
GATE_SECONDS = 0.4
SILENCE_LUFS = -70.0


def stft(signal: Tensor, window: int, hop: int, shape: Tensor | None = None) -> Tensor:
    """Complex spectrogram with a periodic Hann window, centred frames and reflected edges (zeros where a signal is too short to reflect).

    Args:
        signal: [..., T] fp32.
        window: samples of the window and of the transform.
        hop: samples between frames.
        shape: the Hann window on the signal's device, for those who keep it there.

    Returns:
        [..., window // 2 + 1, frames] complex64, frames = T // hop + 1.
    """
    flat = signal.reshape(-1, signal.shape[-1])
    shape = torch.hann_window(window, device=signal.device) if shape is None else shape
    mode = "reflect" if signal.shape[-1] > window // 2 else "constant"
    spectrum = torch.stft(flat, window, hop, window=shape, center=True, pad_mode=mode, return_complex=True)
    return spectrum.view(*signal.shape[:-1], *spectrum.shape[1:])


@functools.lru_cache(maxsize=64)
def mel_basis(sample_rate: int, window: int, mels: int) -> Tensor:
    """librosa's mel filters, triangles of area 1 on Slaney's scale, from 0 Hz to half the sample rate: [window // 2 + 1, mels]."""
    top = _LINEAR_MELS + math.log(sample_rate / 2 / 1000) / _LOG_STEP if sample_rate >= 2000 else sample_rate / 2 / _HERTZ_PER_MEL
    points = torch.linspace(0, top, mels + 2, dtype=torch.float64)
    edges = torch.where(points < _LINEAR_MELS, points * _HERTZ_PER_MEL, 1000 * ((points - _LINEAR_MELS) * _LOG_STEP).exp())
    bins = torch.linspace(0, sample_rate / 2, window // 2 + 1, dtype=torch.float64)[:, None]
    low, middle, high = edges[:-2], edges[1:-1], edges[2:]
    triangles = torch.minimum((bins - low) / (middle - low), (high - bins) / (high - middle)).clamp(min=0)
    return (triangles * 2 / (high - low)).float()


def mel_magnitude(signal: Tensor, sample_rate: int, window: int, mels: int) -> Tensor:
    """Mel spectrogram of magnitudes at a hop of a quarter window: [..., T] fp32 -> [..., mels, frames]."""
    magnitude = stft(signal, window, window // 4).abs()
    return mel_basis(sample_rate, window, mels).to(magnitude.device).T @ magnitude


def ratio(old: int, new: int) -> tuple[int, int]:
    """Two small numbers that stand to each other as `old` to `new`, or very nearly so."""
    exact = Fraction(new, old)
    near = exact if max(exact.numerator, exact.denominator) <= MAX_RATIO_TERM else exact.limit_denominator(MAX_RATIO_TERM)
    return near.denominator, near.numerator


def resample(signal: Tensor, old: int, new: int) -> Tensor:
    """[..., T] at `old` samples a second to [..., ceil(T * new / old)], by a Kaiser-windowed sinc of 64 zero crossings."""
    terms = ratio(old, new)
    if terms[0] == terms[1] or signal.shape[-1] == 0:
        return signal
    return _resampler(*terms)(signal)


def resample_blocks(blocks: Iterable[Tensor], old: int, new: int) -> Iterator[Tensor]:
    """`resample` of a signal that comes in blocks [C, n], any n, with memory for a block: together the very samples of the whole.

    Blocks may come out empty.
    """
    down, up = ratio(old, new)
    if down == up:
        yield from blocks
        return
    context = math.ceil(_ZERO_CROSSINGS * max(1.0, down / up) / 0.9 / down + 1) * down
    held: Tensor | None = None
    lead = 0
    for block in blocks:
        held = block if held is None else torch.cat([held, block], -1)
        whole = (held.shape[-1] - lead - context) // down * down
        if whole > 0:
            done = resample(held[..., : lead + whole + context], old, new)
            yield done[..., lead // down * up : (lead + whole) // down * up]
            kept = min(context, lead + whole)
            held, lead = held[..., lead + whole - kept :], kept
    if held is not None:
        yield resample(held, old, new)[..., lead // down * up :]


@functools.lru_cache(maxsize=16)
def _resampler(down: int, up: int) -> torch.nn.Module:
    import torchaudio

    return torchaudio.transforms.Resample(
        down,
        up,
        resampling_method="sinc_interp_kaiser",
        lowpass_filter_width=_ZERO_CROSSINGS,
        rolloff=0.9475937167399596,
        beta=14.769656459379492,
    )


class LoudnessMeter:
    """Integrated loudness of a signal that comes in blocks (ITU-R BS.1770-4: K-weighting, 0.4 s gates, -70 LUFS and -10 LU)."""

    def __init__(self, sample_rate: int):
        self.sample_rate = sample_rate
        self.hop = round(GATE_SECONDS / 4 * sample_rate)
        self.filters = [_high_shelf(sample_rate), _high_pass(sample_rate)]
        self.states: list[np.ndarray | None] = [None, None]
        self.rest = np.zeros(0)
        self.energies: list[np.ndarray] = []

    def add(self, block: Tensor) -> None:
        """Go on with [C, n]."""
        import scipy.signal

        values = block.double().cpu().numpy()
        for index, (b, a) in enumerate(self.filters):
            state = self.states[index]
            start = np.zeros((len(values), 2)) if state is None else state
            values, self.states[index] = scipy.signal.lfilter(b, a, values, axis=-1, zi=start)
        power = np.concatenate([self.rest, np.square(values).sum(0)])
        whole = len(power) // self.hop * self.hop
        self.energies.append(power[:whole].reshape(-1, self.hop).sum(1))
        self.rest = power[whole:]

    def lufs(self) -> float:
        """Loudness so far; -inf for silence. What is shorter than 0.4 s is judged with silence after it."""
        hops = np.concatenate([*self.energies, [self.rest.sum()]])
        if len(hops) > 4:
            hops = hops[:-1]
        hops = np.pad(hops, (0, max(0, 4 - len(hops))))
        blocks = np.convolve(hops, np.ones(4), "valid") / (4 * self.hop)
        loud = blocks[_lufs(blocks) > SILENCE_LUFS]
        if not len(loud):
            return -math.inf
        return float(_lufs(loud[_lufs(loud) > _lufs(loud.mean()) - 10].mean()))


def _lufs(power: np.ndarray) -> np.ndarray:
    return -0.691 + 10 * np.log10(np.maximum(power, 1e-30))


def _high_shelf(rate: int) -> tuple[np.ndarray, np.ndarray]:
    """The pre-filter: +4 dB above 1500 Hz, Q = 1/sqrt(2)."""
    gain, omega = 10 ** (4 / 40), 2 * math.pi * 1500 / rate
    cosine, alpha = math.cos(omega), math.sin(omega) / math.sqrt(2)
    slope = 2 * math.sqrt(gain) * alpha
    above, below = gain + 1, gain - 1
    b = gain * np.array([above + below * cosine + slope, -2 * (below + above * cosine), above + below * cosine - slope])
    a = np.array([above - below * cosine + slope, 2 * (below - above * cosine), above - below * cosine - slope])
    return b / a[0], a / a[0]


def _high_pass(rate: int) -> tuple[np.ndarray, np.ndarray]:
    """The RLB filter: high-pass at 38 Hz, Q = 1/2."""
    omega = 2 * math.pi * 38 / rate
    cosine, alpha = math.cos(omega), math.sin(omega)
    b = np.array([(1 + cosine) / 2, -(1 + cosine), (1 + cosine) / 2])
    a = np.array([1 + alpha, -2 * cosine, 1 - alpha])
    return b / a[0], a / a[0]


def pad_to(signal: Tensor, length: int) -> Tensor:
    """[..., T] with zeros at its end up to `length`."""
    return F.pad(signal, (0, max(0, length - signal.shape[-1])))
