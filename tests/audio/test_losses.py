"""The sound losses against their definitions written out, and the discriminators."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import scipy.signal
import torch
from torch import Tensor, nn

import tokkit
from tokkit import dsp, registry
from tokkit.errors import InputError
from tokkit.losses.adversarial import discriminator_loss, feature_matching, generator_loss

DISCRIMINATORS = ["mpd", "mrd", "msstft"]


def sound(seed: int, samples: int = 6000, batch: int = 2) -> Tensor:
    return torch.randn(batch, 1, samples, generator=torch.Generator().manual_seed(seed)) * 0.1


def spectrogram(signal: np.ndarray, window: int) -> np.ndarray:
    """Magnitudes by numpy: centred frames, reflected edges, periodic Hann window. [bins, frames]."""
    padded = np.pad(signal, window // 2, "reflect")
    frames = np.lib.stride_tricks.sliding_window_view(padded, window)[:: window // 4]
    return np.abs(np.fft.rfft(frames * scipy.signal.get_window("hann", window), axis=1)).T


def mel_filters(rate: int, window: int, mels: int) -> np.ndarray:
    """Slaney's triangles, written out: linear below 1 kHz, logarithmic above, area 1. [mels, bins]."""

    def to_hertz(mel: np.ndarray) -> np.ndarray:
        return np.where(mel < 15, mel * 200 / 3, 1000 * np.exp((mel - 15) * math.log(6.4) / 27))

    top = 15 + math.log(rate / 2 / 1000) * 27 / math.log(6.4)
    edges = to_hertz(np.linspace(0, top, mels + 2))
    bins = np.linspace(0, rate / 2, window // 2 + 1)
    rising = (bins - edges[:-2, None]) / np.diff(edges)[:-1, None]
    falling = (edges[2:, None] - bins) / np.diff(edges)[1:, None]
    return np.maximum(0, np.minimum(rising, falling)) * 2 / (edges[2:] - edges[:-2])[:, None]


@pytest.mark.parametrize(("rate", "window", "mels"), [(24000, 2048, 320), (44100, 512, 80), (16000, 32, 5)])
def test_mel_filters_are_slaneys(rate: int, window: int, mels: int) -> None:
    np.testing.assert_allclose(dsp.mel_basis(rate, window, mels).T.numpy(), mel_filters(rate, window, mels), atol=2e-6)


def test_mel_loss_is_dacs() -> None:
    a, b = sound(0), sound(1)
    expected = 0.0
    for window, mels in zip((32, 64, 128, 256, 512, 1024, 2048), (5, 10, 20, 40, 80, 160, 320), strict=True):
        filters = mel_filters(24000, window, mels)
        logs = [[np.log10(np.maximum(filters @ spectrogram(x[0].double().numpy(), window), 1e-5)) for x in batch] for batch in (a, b)]
        expected += np.abs(np.array(logs[0]) - np.array(logs[1])).mean()
    assert tokkit.build("loss", "mel")(a, b).item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(
    ("name", "options"), [("mel", {"windows": (64, 32), "mels": (10, 5)}), ("stft", {"windows": (64,), "phase": True})]
)
def test_losses_compile_as_one_graph(name: str, options: dict[str, Any]) -> None:
    loss = tokkit.build("loss", name, **options)
    assert loss.compiles
    found = []
    for function in (loss, torch.compile(loss, backend="aot_eager", fullgraph=True)):
        made = sound(1, 600).requires_grad_()
        value = function(sound(0, 600), made)
        value.backward()
        found.append((value.detach(), made.grad))
    torch.testing.assert_close(found[0], found[1])


SPECTRAL = [("mel", {}), ("stft", {"windows": (2048, 512, 128)}), ("stft", {"windows": (2048, 512, 128), "phase": True})]


@pytest.mark.gpu
@pytest.mark.parametrize(("name", "options"), SPECTRAL)
@pytest.mark.parametrize("mode", ["default", "reduce-overhead"])
def test_compiled_for_the_gpu_the_gradients_are_the_same(name: str, options: dict[str, Any], mode: str) -> None:
    """Step after step, as CUDA graphs are replayed; torch 2.11 gave `stft` with `phase` gradients a thousand times too long."""
    eager, compiled = (tokkit.build("loss", name, **options).cuda() for _ in range(2))
    compiled.compile(mode=mode)
    for step in range(4):
        torch.compiler.cudagraph_mark_step_begin()
        found: list[Tensor] = []
        for loss in (eager, compiled):
            made = sound(100 + step, 24000).cuda().requires_grad_()
            found.extend(torch.autograd.grad(loss(sound(step, 24000).cuda(), made), made))
        torch.testing.assert_close(found[1], found[0], rtol=1e-2, atol=1e-3 * float(found[0].abs().max()))


@pytest.mark.parametrize("mode", ["default", "reduce-overhead"])
def test_compiling_pads_no_strides(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []
    monkeypatch.setattr(nn.Module, "compile", lambda module, **options: asked.append(options))
    for name in ("mel", "stft"):
        tokkit.build("loss", name).compile(mode=mode)
    for options in (one["options"] for one in asked):
        assert options["comprehensive_padding"] is False
        assert options.get("triton.cudagraphs", False) is (mode == "reduce-overhead")


def test_spectra_are_in_the_order_of_memory() -> None:
    """What torch 2.11 compiled wrongly was a loss over a transposed spectrogram."""
    for spectrum in (*tokkit.build("loss", "mel").spectra, *tokkit.build("loss", "stft").spectra):
        waves, magnitudes = spectrum(sound(0, 3000))
        assert waves.is_contiguous() and magnitudes.is_contiguous()


@pytest.mark.parametrize("volume", [1e-7, 1e-5, 1e-3, 1.0, 10.0])
@pytest.mark.parametrize("target", [0.0, 1e-5, 1.0])
def test_gradients_are_bounded_near_silence(target: float, volume: float) -> None:
    """|d loss / d bin| is at most (2 / (1e-5 ln 10) + 2) / N; frames have 1.5 window times the samples' power, thrice at edges."""
    window, samples = 128, 4000
    made = (sound(1, samples, 1) * volume).requires_grad_()
    tokkit.build("loss", "stft", windows=(window,), phase=True)(sound(2, samples, 1) * target, made).backward()
    bins = (window // 2 + 1) * (samples * 4 // window + 1)
    bound = (2 / (1e-5 * math.log(10)) + 2) / math.sqrt(bins) * math.sqrt(3 * 1.5 * window)
    assert made.grad is not None and float(made.grad.norm()) <= bound


@pytest.mark.parametrize("name", ["mel", "stft"])
def test_silence_has_a_gradient(name: str) -> None:
    made = torch.zeros(1, 1, 3000, requires_grad=True)
    tokkit.build("loss", name)(sound(0, 3000, 1), made).backward()
    assert made.grad is not None and bool(made.grad.isfinite().all())


@pytest.mark.parametrize("phase", [False, True])
def test_stft_loss_is_dacs(phase: bool) -> None:
    a, b = sound(0), sound(1)
    expected = 0.0
    for window in (2048, 512):
        x, y = (np.array([spectrogram(one[0].double().numpy(), window) for one in batch]) for batch in (a, b))
        expected += np.abs(np.log10(np.maximum(x, 1e-5) ** 2) - np.log10(np.maximum(y, 1e-5) ** 2)).mean() + np.abs(x - y).mean()
    found = tokkit.build("loss", "stft", phase=phase)(a, b).item()
    assert found > expected + 0.1 if phase else found == pytest.approx(expected, rel=1e-4)
    assert tokkit.build("loss", "stft", phase=True)(a, -a).item() > 0.1
    assert tokkit.build("loss", "stft")(a, -a).item() == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("name", ["mel", "stft"])
def test_losses_have_finite_gradients_even_in_silence_and_of_short_sounds(name: str) -> None:
    loss = tokkit.build("loss", name)
    for samples in (1, 100, 3000):
        for target in (torch.zeros(1, 1, samples), sound(2, samples, 1)):
            output = torch.zeros(1, 1, samples, requires_grad=True)
            value = loss(target, output)
            value.backward()
            assert value.isfinite() and output.grad is not None and output.grad.isfinite().all()


def test_mel_loss_refuses_uneven_options() -> None:
    with pytest.raises(InputError, match="as many"):
        tokkit.build("loss", "mel", windows=(512,), mels=(1, 2))


def discriminator(name: str, **more: Any) -> Any:
    torch.manual_seed(0)
    return tokkit.build("discriminator", name, **registry.get("discriminator", name).example_options() | more)  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", DISCRIMINATORS)
@pytest.mark.parametrize("channels", [1, 2])
def test_discriminators_give_maps_and_gradients(name: str, channels: int) -> None:
    judge = discriminator(name, channels=channels)
    inputs = (torch.randn(2, channels, 333) * 0.1).requires_grad_()
    outputs = judge(inputs)
    assert len(outputs) == 2 and all(len(maps) > 4 and maps[-1].shape[:2] == (2, 1) for maps in outputs)
    (generator_loss("lsgan", outputs) + feature_matching(judge(torch.randn(2, channels, 333)), outputs)).backward()
    assert inputs.grad is not None and inputs.grad.isfinite().all() and inputs.grad.any()
    assert not [key for key, parameter in judge.named_parameters() if parameter.grad is None or not parameter.grad.any()]
    with torch.autocast("cpu", torch.bfloat16):
        assert all(maps[-1].isfinite().all() for maps in judge(torch.zeros(1, channels, 333)))


@pytest.mark.parametrize("name", ["mpd", "mrd"])
def test_loudness_gives_nothing_away(name: str) -> None:
    judge = discriminator(name)
    inputs = sound(3, 500)
    for louder, plain in zip(judge(3 * inputs + 0.2), judge(inputs), strict=True):
        torch.testing.assert_close(louder[-1], plain[-1], atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("name", DISCRIMINATORS)
def test_discriminators_learn(name: str) -> None:
    judge = discriminator(name)
    optimizer = torch.optim.Adam(judge.parameters(), 5e-3)
    tone, noise = 0.1 * torch.sin(torch.arange(200) * 0.3).view(1, 1, -1), sound(0, 200, 1)
    losses = []
    for _ in range(4):
        loss = discriminator_loss("lsgan", judge(tone), judge(noise))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses == sorted(losses, reverse=True) and losses[-1] < 0.97 * losses[0]
