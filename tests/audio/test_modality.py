"""Sound files in and out: formats, rates, channels, loudness, and everything that can be wrong with a file."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import torchaudio
from torch import Tensor

from tokkit import dsp
from tokkit.errors import InputError
from tokkit.modalities import audio
from tokkit.modalities.audio import Audio


def tone(seconds: float, rate: int, hertz: float = 440.0, channels: int = 1, peak: float = 0.5) -> np.ndarray:
    time = np.arange(round(seconds * rate)) / rate
    return np.stack([peak * np.sin(2 * np.pi * hertz * time + channel) for channel in range(channels)], -1).astype(np.float32)


def noise(samples: int, channels: int = 1, seed: int = 0) -> Tensor:
    return torch.randn(channels, samples, generator=torch.Generator().manual_seed(seed)).mul(0.1).clamp(-1, 1)


@pytest.mark.parametrize("form", ["wav", "flac", "ogg", "mp3", "aiff"])
@pytest.mark.parametrize(("rate", "channels"), [(8000, 1), (44100, 2), (48000, 1)])
def test_reads_formats_rates_and_channels(tmp_path: Path, form: str, rate: int, channels: int) -> None:
    path = tmp_path / f"tone.{form}"
    soundfile.write(path, tone(0.5, rate, channels=channels), rate)
    sample = Audio(sample_rate=24000).read(path)
    assert sample.name == "tone" and sample.values.dtype == torch.float32 and sample.values.shape[0] == 1
    assert abs(sample.values.shape[1] - 12000) <= (0 if form != "mp3" else 3500)
    spectrum = torch.fft.rfft(sample.values[0, :12000]).abs()
    assert abs(float(spectrum.argmax()) * 24000 / min(12000, sample.values.shape[1]) - 440) < 3


@pytest.mark.parametrize("bits", [16, 24])
@pytest.mark.parametrize("form", ["wav", "flac"])
def test_pcm_files_come_back_exactly(tmp_path: Path, bits: int, form: str) -> None:
    full = 1 << (bits - 1)
    steps = torch.randint(-full, full, (2, 5000), generator=torch.Generator().manual_seed(0))
    steps[:, 0], steps[:, 1] = -full, full - 1
    values = steps.double().div(full).float()
    modality = Audio(sample_rate=44100, channels=2, bits=bits)
    modality.write(tmp_path / f"a.{form}", values)
    assert torch.equal(modality.read(tmp_path / f"a.{form}").values, values)
    assert soundfile.info(tmp_path / f"a.{form}").subtype == f"PCM_{bits}"


def test_write_clips_and_refuses(tmp_path: Path) -> None:
    modality = Audio()
    modality.write(tmp_path / "loud.wav", torch.tensor([[1.5, -1.5, 0.25]]))
    assert soundfile.read(tmp_path / "loud.wav", dtype="int16")[0].tolist() == [32767, -32768, 8192]
    for values, message in ((torch.zeros(0), "a sound is"), (torch.full((1, 4), float("nan")), "4 NaN"), (torch.zeros(1, 0), "a sound is")):
        with pytest.raises(InputError, match=message):
            modality.write(tmp_path / "new.wav", values)
    with pytest.raises(InputError, match=r"\.wav, \.flac"):
        modality.write(tmp_path / "new.mp3", torch.zeros(1, 8))
    with pytest.raises(InputError, match="exists"):
        modality.write(tmp_path / "loud.wav", torch.zeros(1, 8))
    modality.write(tmp_path / "loud.wav", torch.zeros(1, 8), force=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["loud.wav"]


def test_bad_files_are_clear_errors(tmp_path: Path) -> None:
    modality = Audio()
    good = tmp_path / "good.flac"
    soundfile.write(good, noise(30000)[0].numpy(), 24000)
    (tmp_path / "cut.flac").write_bytes(good.read_bytes()[: good.stat().st_size // 2])
    (tmp_path / "text.wav").write_text("this is no sound")
    (tmp_path / "empty.wav").write_bytes(b"")
    soundfile.write(tmp_path / "none.wav", np.zeros((0, 1), np.float32), 24000)
    soundfile.write(tmp_path / "nan.wav", np.array([0.0, np.nan, np.inf], np.float32), 24000, "FLOAT")
    cases = {
        "cut.flac": "cut off|damaged",
        "text.wav": "not a sound file",
        "empty.wav": "0 bytes",
        "none.wav": "0 frames",
        "nan.wav": "2 NaN or infinite",
        "missing.wav": "no such file",
    }
    for name, message in cases.items():
        with pytest.raises(InputError, match=message) as caught:
            modality.read(tmp_path / name)
        assert name in str(caught.value)


def test_what_is_cut_off_is_refused_and_what_came_through_a_pipe_is_not(tmp_path: Path) -> None:
    modality = Audio()
    for form, subtype in (("WAV", "PCM_24"), ("AIFF", "PCM_16"), ("OGG", "VORBIS"), ("OGG", "OPUS")):
        file = io.BytesIO()
        soundfile.write(file, noise(48000)[0].numpy(), 24000, format=form, subtype=subtype)
        data = file.getvalue()
        assert modality.read(io.BytesIO(data), name="whole").values.shape == (1, 48000)
        with pytest.raises(InputError, match=r"half: cut off: its header promises \d+ bytes more"):
            modality.read(io.BytesIO(data[: len(data) // 2]), name="half")
    file = io.BytesIO()
    soundfile.write(file, noise(2000)[0].numpy(), 24000, format="WAV")
    piped = bytearray(file.getvalue())
    place = piped.index(b"data") + 4
    for length in (0xFFFFFFFF, 0x7FFFF000, 0x80000000):
        piped[4:8] = piped[place : place + 4] = length.to_bytes(4, "little")
        assert modality.read(io.BytesIO(piped), name="piped").values.shape == (1, 2000)


def test_every_cut_of_every_format_is_a_result_or_a_clear_error(tmp_path: Path) -> None:
    modality = Audio()
    for form in ("wav", "flac", "ogg", "mp3"):
        file = io.BytesIO()
        soundfile.write(file, noise(6000)[0].numpy(), 24000, format=form.upper())
        data = file.getvalue()
        for length in range(0, len(data), max(1, len(data) // 40)):
            flipped = bytearray(data)
            flipped[length] ^= 0x55
            for damaged in (data[:length], bytes(flipped)):
                try:
                    sample = modality.read(io.BytesIO(damaged), name="damaged")
                except InputError as error:
                    assert str(error).startswith("damaged")
                else:
                    assert sample.values.isfinite().all() and sample.values.shape[1] > 0


def test_stereo_is_mixed_split_or_kept(tmp_path: Path) -> None:
    values = noise(1000, 2)
    path = tmp_path / "a.wav"
    Audio(channels=2).write(path, values)
    stored = Audio(channels=2).read(path).values
    torch.testing.assert_close(Audio().read(path).values, stored.mean(0, keepdim=True))
    split = Audio(stereo="split").samples(path)
    assert [sample.name for sample in split] == ["a.0", "a.1"]
    assert torch.equal(torch.cat([sample.values for sample in split]), stored)
    mono = tmp_path / "mono.wav"
    Audio().write(mono, values[:1])
    assert torch.equal(*Audio(channels=2).read(mono).values)
    with pytest.raises(InputError, match="split"):
        Audio(stereo="split", channels=2)


def test_loudness_is_normalised_and_restored() -> None:
    modality = Audio(loudness=-16.0)
    original = noise(48000)
    (sample,) = modality.samples(original)
    assert modality.extra_fields == ("gain",) and Audio().extra_fields == ()
    assert abs(torchaudio.functional.loudness(sample.values, 24000).item() + 16) < 0.05
    torch.testing.assert_close(modality.restore(sample.values, sample.extras), original, atol=1e-6, rtol=1e-6)
    (silent,) = modality.samples(torch.zeros(1, 100))
    assert silent.extras == (1.0,) and not silent.values.any()
    click = torch.zeros(1, 48000)
    click[0, 24000] = 0.9
    (sample,) = modality.samples(click)
    assert sample.values.abs().max() <= 1 and sample.extras[0] == pytest.approx(1 / 0.9)


@pytest.mark.parametrize("rate", [8000, 24000, 44100])
@pytest.mark.parametrize("seconds", [0.5, 3.0])
def test_loudness_equals_torchaudio(rate: int, seconds: float) -> None:
    signal = noise(round(rate * seconds), 1, seed=rate)
    signal[:, : signal.shape[1] // 3] *= 0.01
    meter = dsp.LoudnessMeter(rate)
    for block in signal.split(1777, -1):
        meter.add(block)
    assert meter.lufs() == pytest.approx(torchaudio.functional.loudness(signal.double(), rate).item(), abs=0.02)


def test_blocks_are_the_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.wav"
    Audio(sample_rate=44100).write(path, noise(50000))
    for modality in (Audio(), Audio(loudness=-20.0), Audio(sample_rate=44100)):
        monkeypatch.setattr(audio, "BLOCK_FRAMES", 7919)
        pieces, extras = modality.blocks(path)
        whole = modality.read(path)
        joined = torch.cat(list(pieces), -1)
        assert torch.equal(joined, whole.values) and extras == whole.extras and modality.frames(path) == joined.shape[1]
        monkeypatch.setattr(audio, "BLOCK_FRAMES", 1 << 20)
        torch.testing.assert_close(modality.read(path).values, joined, atol=1e-6, rtol=0)


@pytest.mark.parametrize(("old", "new"), [(44100, 24000), (8000, 24000), (48000, 16000), (11025, 24000), (24000, 24000)])
def test_resampling_in_blocks_is_resampling(old: int, new: int) -> None:
    signal = noise(20011)
    whole = dsp.resample(signal, old, new)
    assert whole.shape[1] == -(-20011 * new // old)
    for size in (997, 6000, 30000):
        torch.testing.assert_close(torch.cat(list(dsp.resample_blocks(signal.split(size, -1), old, new)), -1), whole, atol=1e-6, rtol=0)


def test_a_rate_without_a_short_ratio_costs_no_memory() -> None:
    assert dsp.resample(noise(44101), 44101, 24000).shape[1] == pytest.approx(24000, abs=1)


def test_tensors_arrays_and_mappings() -> None:
    modality = Audio()
    steps = torch.arange(-5, 5, dtype=torch.int16) * 1000
    for given in (
        steps,
        steps[None],
        steps.float() / 32768,
        steps.numpy(),
        [steps],
        {"array": steps.numpy() / 32768, "sampling_rate": 24000},
        {"array": steps.numpy() / 32768, "sampling_rate": np.float32(24000)},
    ):
        (sample,) = modality.samples(given)
        torch.testing.assert_close(sample.values, steps.float()[None] / 32768)
    assert [sample.name for sample in modality.samples(torch.zeros(3, 1, 8))] == ["0", "1", "2"]
    (sample,) = modality.samples({"array": np.zeros(8000), "sampling_rate": 8000})
    assert sample.values.shape == (1, 24000)
    wrong = {
        "1000 channels.*turn it over": torch.zeros(1000, 2),
        "divide 16-bit": torch.full((1, 4), 300.0),
        "NaN or infinite": torch.full((1, 4), float("nan")),
        "no sound": torch.zeros(1, 0),
        "int64": torch.zeros(4, dtype=torch.int64),
        "expected": torch.zeros(()),
        "cannot take a set": set(),
        "at least 1, got 0": {"array": np.zeros(8), "sampling_rate": 0},
        "got 22050.5": {"array": np.zeros(8), "sampling_rate": 22050.5},
        "got nan": {"array": np.zeros(8), "sampling_rate": float("nan")},
        "got '8k'": {"array": np.zeros(8), "sampling_rate": "8k"},
    }
    for message, given in wrong.items():
        with pytest.raises(InputError, match=message):
            modality.samples(given)


def test_training_examples() -> None:
    modality = Audio()
    generator = torch.Generator().manual_seed(0)
    values = noise(1000)
    assert modality.crop(values, 100, generator=generator).shape == (1, 100)
    short = modality.crop(values, 1500, generator=generator)
    assert short.shape == (1, 1500) and (short != 0).sum() == (values != 0).sum()
    assert torch.equal(modality.crop(values, 1500, generator=generator, center=True)[:, :1000], values)
    flipped = [modality.crop(values, 1000, generator=generator, flip=True) for _ in range(20)]
    assert {bool(torch.equal(example, -values)) for example in flipped} == {True, False}
    with pytest.raises(InputError, match="resize"):
        modality.crop(values, 10, generator=generator, resize=True)
