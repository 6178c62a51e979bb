"""Sound: files, arrays and tensors to [C, T] in [-1, 1] at one sample rate, and back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from numbers import Real
from pathlib import Path
from typing import Annotated, Any, BinaryIO, ClassVar, Literal

import numpy as np
import soundfile
import torch
from pydantic import Field
from torch import Tensor

from tokkit import dsp
from tokkit.errors import InputError
from tokkit.files import refuse_overwrite, replacing
from tokkit.modalities.base import Modality, Sample
from tokkit.modalities.cut_off import missing_bytes
from tokkit.modalities.inputs import opened
from tokkit.registry import register

BLOCK_FRAMES = 1 << 20
"""Frames that are read, mixed and resampled at a time (44 s at 24 kHz)."""
MAX_CHANNELS = 64
_WRITERS = {".wav": "WAV", ".flac": "FLAC"}
_ACCEPTED = (
    "a path, a tensor or array [T], [C, T] or [B, C, T] (float in [-1, 1], or int16) at the modality's sample rate, "
    "a mapping with `array` and `sampling_rate`, or a list of these"
)


@register("modality", "audio")
class Audio(Modality):
    """Sound, float32 [channels, T] in [-1, 1] at one sample rate.

    Read: what libsndfile reads of WAV, FLAC, OGG (Vorbis, Opus), MP3 and AIFF, decided by the content, at any rate and with any number of
    channels. Channels are averaged into one, or one is repeated; what exceeds [-1, 1] after decoding or resampling is clipped. A sample
    takes 4 bytes a frame and channel in memory; `blocks` reads files of any length piece by piece.

    Attributes:
        extra_fields: ("gain",) where loudness is normalised.
    """

    name: ClassVar[str] = "audio"
    rank: ClassVar[int] = 1
    suffixes: ClassVar[tuple[str, ...]] = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff")
    output_suffix: ClassVar[str] = ".wav"
    sample_rate: int

    def __init__(
        self,
        *,
        sample_rate: Annotated[int, Field(ge=1)] = 24000,
        channels: Literal[1, 2] = 1,
        stereo: Literal["mix", "split"] = "mix",
        loudness: Annotated[float, Field(ge=-60, le=0)] | None = None,
        bits: Literal[16, 24] = 16,
    ):
        """
        Args:
            sample_rate: in Hz; everything is resampled to it.
            channels: that the networks see.
            stereo: "mix" averages the channels of a file where the networks see one; "split" makes each a sample of its own, named
                "name.0", "name.1", ... wherever several samples may come of one input (`samples`; `read`, which gives one, mixes).
            loudness: normalise every sample to this many LUFS (ITU-R BS.1770-4), no louder than a peak of 1, and silence (below -70 LUFS)
                not at all. The gain goes into the token file (4 bytes), and decoding undoes it.
            bits: of the PCM files that `write` makes.

        Raises:
            InputError: "split" with two channels.
        """
        if stereo == "split" and channels != 1:
            raise InputError("audio stereo=split makes samples of one channel each; set channels=1")
        self.sample_rate = sample_rate
        self.channels = channels
        self.stereo = stereo
        self.loudness = loudness
        self.bits = bits
        if loudness is not None:
            self.extra_fields = ("gain",)  # type: ignore[misc]

    def read(self, file: str | Path | BinaryIO, *, name: str = "") -> Sample:
        with opened(file, name) as (stream, label):
            values = torch.cat(list(self._read_blocks(stream, label, self.channels)), -1)
        return self._sample(values, name or (Path(file).stem if isinstance(file, str | Path) else ""), label)

    def frames(self, path: str | Path) -> int:
        """Samples that `read` would give, from the header of the file.

        Raises:
            InputError: the file cannot be read.
        """
        with opened(path) as (stream, label), _sound_file(stream, label) as sound:
            down, up = dsp.ratio(sound.samplerate, self.sample_rate)
            return -(-sound.frames * up // down)

    def blocks(self, path: str | Path) -> tuple[Iterator[Tensor], tuple[float, ...]]:
        """A file piece by piece, in memory for about a minute of it: [channels, n] each, any n, together the very values that `read` gives.

        Returns:
            The pieces, and the extras of the sample; with loudness normalisation the file is read twice.

        Raises:
            InputError: the file cannot be read; also while the pieces are drawn.
        """
        gain = 1.0
        if self.loudness is not None:
            meter, peak = dsp.LoudnessMeter(self.sample_rate), 0.0
            for block in self._opened_blocks(path):
                meter.add(block)
                peak = max(peak, float(block.abs().amax()) if block.numel() else 0.0)
            gain = self._gain(meter.lufs(), peak)
        pieces = self._opened_blocks(path)
        return (block * gain for block in pieces), () if self.loudness is None else (gain,)

    def write(self, path: str | Path, values: Tensor, *, force: bool = False) -> None:
        """Write [C, T] as PCM, clamped to [-1, 1] and rounded: WAV, or FLAC, by suffix. A file of as many bits is reproduced exactly.

        Raises:
            InputError: the file exists and `force` is not set; another suffix; not [C, T]; NaN.
        """
        with self.writer(path, force=force) as put:
            put(values)

    @contextmanager
    def writer(self, path: str | Path, *, force: bool = False) -> Iterator[Callable[[Tensor], None]]:
        """Write a file piece by piece: a function that appends [C, n]. The file appears, whole, when the block ends well.

        Raises:
            InputError: as `write`.
        """
        path = Path(path)
        form = _WRITERS.get(path.suffix.lower())
        if form is None:
            raise InputError(f"{path}: cannot write {path.suffix or 'a file without a suffix'!r}; use {', '.join(_WRITERS)}")
        refuse_overwrite(path, force=force)
        subtype = f"PCM_{self.bits}"
        try:
            with replacing(path) as part:
                sound: soundfile.SoundFile | None = None

                def put(values: Tensor) -> None:
                    nonlocal sound
                    pcm = _to_pcm(values, self.bits, path)
                    if sound is None:
                        sound = soundfile.SoundFile(part, "w", self.sample_rate, len(values), subtype, format=form)
                    sound.write(pcm)

                try:
                    yield put
                finally:
                    if sound is not None:
                        sound.close()
        except (OSError, soundfile.SoundFileError) as error:
            raise InputError(f"{path}: cannot write the sound: {error}") from error

    def samples(self, inputs: Any) -> list[Sample]:
        """Anything that holds sound, as samples.

        Args:
            inputs: a path; a tensor or array [T], [C, T] or [B, C, T] at this sample rate, float in [-1, 1] or int16; a mapping with
                `array` and `sampling_rate` as the datasets library has them; or a list of these.

        Raises:
            InputError: something else, no frames, NaN or infinite values, floats far outside [-1, 1].
        """
        found = self._collect(inputs)
        for position, sample in enumerate(found):
            sample.name = sample.name or str(position)
        return found

    def normalize(self, values: Tensor) -> Tensor:
        """The networks see [-1, 1] as it is."""
        return values

    def denormalize(self, values: Tensor, *, clamp: bool = True) -> Tensor:
        """Clamped to [-1, 1]."""
        return values.clamp(-1, 1) if clamp else values

    def restore(self, values: Tensor, extras: tuple[float, ...]) -> Tensor:
        """Undo the loudness normalisation."""
        return (values / extras[0]).clamp(-1, 1) if extras else values

    def crop(
        self,
        values: Tensor,
        size: int,
        *,
        generator: torch.Generator,
        center: bool = False,
        resize: bool = False,
        flip: bool = False,
    ) -> Tensor:
        """`size` samples. A shorter sound gets silence around it (behind it, with `center`). `flip` turns half of the signs."""
        values = values.float()
        spare = size - values.shape[-1]
        if spare > 0:
            before = 0 if center else int(torch.randint(spare + 1, (), generator=generator))
            values = torch.nn.functional.pad(values, (before, spare - before))
        values = super().crop(values, size, generator=generator, center=center, resize=resize)
        return -values if flip and torch.rand((), generator=generator) < 0.5 else values

    def _collect(self, inputs: Any) -> list[Sample]:
        match inputs:
            case str() | Path() if self.stereo == "split":
                with opened(inputs) as (stream, label):
                    values = torch.cat(list(self._read_blocks(stream, label, None)), -1)
                return self._samples_of(values, Path(inputs).stem, label)
            case str() | Path():
                return [self.read(inputs)]
            case list() | tuple():
                return [sample for item in inputs for sample in self._collect(item)]
            case {"array": _, "sampling_rate": rate} if not isinstance(rate, Real) or rate < 1 or not float(rate).is_integer():
                raise InputError(f"audio: sampling_rate must be a whole number of Hz, at least 1, got {rate!r}")
            case {"array": array, "sampling_rate": rate}:
                values = torch.cat(list(dsp.resample_blocks([_checked(array, "array")], int(rate), self.sample_rate)), -1)
                return self._samples_of(values, "", "array")
            case Tensor() | np.ndarray():
                what = "tensor" if isinstance(inputs, Tensor) else "array"
                if inputs.ndim == 3:
                    return [sample for item in inputs for sample in self._collect(item)]
                return self._samples_of(_checked(inputs, what), "", what)
            case _:
                raise InputError(f"audio: cannot take a {type(inputs).__name__}; give {_ACCEPTED}")

    def _samples_of(self, values: Tensor, name: str, label: str) -> list[Sample]:
        if self.stereo == "mix" or len(values) == 1:
            return [self._sample(_with_channels(values, self.channels), name, label)]
        return [self._sample(channel[None], f"{name}.{index}".lstrip("."), label) for index, channel in enumerate(values)]

    def _sample(self, values: Tensor, name: str, label: str) -> Sample:
        if not values.shape[-1]:
            raise InputError(f"{label}: no sound in it, 0 frames")
        values = values.clamp(-1, 1)
        if self.loudness is None:
            return Sample(values, name)
        meter = dsp.LoudnessMeter(self.sample_rate)
        meter.add(values)
        gain = self._gain(meter.lufs(), float(values.abs().amax()))
        return Sample(values * gain, name, (gain,))

    def _gain(self, lufs: float, peak: float) -> float:
        """What to multiply with; a float32, since that is what the token file keeps."""
        if self.loudness is None or lufs < dsp.SILENCE_LUFS:
            return 1.0
        return float(np.float32(min(10 ** ((self.loudness - lufs) / 20), 1 / peak)))

    def _opened_blocks(self, path: str | Path) -> Iterator[Tensor]:
        with opened(path) as (stream, label):
            for block in self._read_blocks(stream, label, self.channels):
                yield block.clamp(-1, 1)

    def _read_blocks(self, stream: BinaryIO, label: str, channels: int | None) -> Iterator[Tensor]:
        """[channels, n] at this sample rate, not clamped; the file's own channels with None."""
        with _sound_file(stream, label) as sound:
            raw = (block if channels is None else _with_channels(block, channels) for block in _raw_blocks(sound, label))
            yield from dsp.resample_blocks(raw, sound.samplerate, self.sample_rate)


@contextmanager
def _sound_file(stream: BinaryIO, label: str) -> Iterator[soundfile.SoundFile]:
    if missing := missing_bytes(stream):
        raise InputError(f"{label}: cut off: its header promises {missing} bytes more than the file has")
    try:
        sound = soundfile.SoundFile(stream)
    except (soundfile.SoundFileError, TypeError) as error:
        raise InputError(f"{label}: not a sound file that can be read, or damaged: {_reason(error)}") from error
    with sound:
        yield sound


def _raw_blocks(sound: soundfile.SoundFile, label: str) -> Iterator[Tensor]:
    """Float32 [C, n] as the file holds them; at least one block."""
    if sound.frames == 0:
        raise InputError(f"{label}: no sound in it, 0 frames")
    read = 0
    while True:
        try:
            block = sound.read(BLOCK_FRAMES, dtype="float32", always_2d=True)
        except soundfile.SoundFileError as error:
            raise InputError(f"{label}: damaged after {read} frames: {_reason(error)}") from error
        if not len(block):
            break
        read += len(block)
        values = torch.from_numpy(block.T)
        if not values.isfinite().all():
            raise InputError(f"{label}: holds {int((~values.isfinite()).sum())} NaN or infinite values in the frames before {read}")
        yield values
    if read < sound.frames and sound.format == "FLAC":
        raise InputError(f"{label}: cut off: its header says {sound.frames} frames, and it holds {read}")
    if not read:
        raise InputError(f"{label}: no sound in it, or damaged: 0 frames could be read")


def _with_channels(values: Tensor, channels: int) -> Tensor:
    """[C, T] as [channels, T]: the mean of the channels, repeated where needed."""
    if len(values) == channels:
        return values
    return values.mean(0, keepdim=True).expand(channels, -1)


def _checked(given: Any, what: str) -> Tensor:
    """[T] or [C, T] of a tensor or array, as float32 [C, T]."""
    tensor = given.detach().cpu() if isinstance(given, Tensor) else torch.from_numpy(np.array(given))
    shape = list(tensor.shape)
    if tensor.ndim not in (1, 2):
        raise InputError(f"{what} of shape {shape}: expected [T], [C, T] or [B, C, T]")
    if tensor.ndim == 2 and not 1 <= tensor.shape[0] <= MAX_CHANNELS:
        hint = "; turn it over, time is the last axis" if tensor.shape[0] > MAX_CHANNELS >= tensor.shape[1] else ""
        raise InputError(f"{what} of shape {shape} has {tensor.shape[0]} channels, expected 1 to {MAX_CHANNELS}{hint}")
    if tensor.dtype == torch.int16:
        values = tensor.float() / 32768
    elif tensor.is_floating_point():
        values = tensor.float()
    else:
        raise InputError(f"{what} of {tensor.dtype}: expected float in [-1, 1], or int16")
    if not values.numel():
        raise InputError(f"{what} of shape {shape} holds no sound")
    if not values.isfinite().all():
        raise InputError(f"{what} holds {int((~values.isfinite()).sum())} NaN or infinite values; sound is finite numbers in [-1, 1]")
    if values.abs().amax() > 2:
        low, high = values.aminmax()
        raise InputError(f"{what} has values from {low:g} to {high:g}, expected [-1, 1]; divide 16-bit numbers by 32768")
    return values if values.ndim == 2 else values[None]


def _to_pcm(values: Tensor, bits: int, path: Path) -> np.ndarray:
    """[T, C], int16, or int32 with the bits at the top, as soundfile wants them."""
    if values.ndim != 2 or 0 in values.shape or len(values) > MAX_CHANNELS:
        raise InputError(f"{path}: a sound is [C, T] with 1 to {MAX_CHANNELS} channels, got {list(values.shape)}")
    values = values.detach().to("cpu", torch.float64)
    if values.isnan().any():
        raise InputError(f"{path}: the sound has {int(values.isnan().sum())} NaN values, refusing to write it")
    full = 1 << (bits - 1)
    steps = (values * full).round().clamp(-full, full - 1)
    integers = steps.to(torch.int16) if bits == 16 else steps.to(torch.int32) << 8
    return integers.T.contiguous().numpy()


def _reason(error: BaseException) -> str:
    return str(error).partition("\n")[0] or type(error).__name__
