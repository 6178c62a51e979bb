"""Sound piece by piece: the codes and samples of the whole, whatever the pieces, and no more memory for more sound."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import tokkit
from tokkit import chunking
from tokkit.bench import stream as bench
from tokkit.data.tones import Tones
from tokkit.errors import InputError
from tokkit.modalities import audio
from tokkit.modalities.audio import Audio
from tokkit.streaming import Stream
from tokkit.tokenizer import Tokenizer

RATE = 8000


def tokenizer(encoder: str, decoder: str, *, loudness: float | None = None, quantizer: str = "rvq") -> Tokenizer:
    """Stride 20, three levels, random weights."""
    torch.manual_seed(0)
    small: dict[str, dict[str, Any]] = {
        "mimi": {"width": 4, "strides": (2, 5), "resample": 2, "dim": 16, "depth": 2, "heads": 2, "context": 7},
        "dac": {"width": 4 if encoder == "dac" else 16, "strides": (4, 5), "dim": 16},
        "vocos": {"dim": 16, "width": 16, "hidden": 32, "depth": 2, "hop": 20, "window": 80},
    }
    decoder_options = small[decoder] | ({"width": 16} if decoder == "dac" else {})
    quantizers: dict[str, dict[str, Any]] = {
        "rvq": {"dim": 16, "levels": 3, "codebook_size": 64},
        "fsq": {"levels": (8, 5, 5)},
        "multirate": {"dim": 16, "strides": (6, 3, 1), "codebook_size": 64},
    }
    built = Tokenizer(
        modality=Audio(sample_rate=RATE, loudness=loudness),
        encoder=tokkit.build("encoder", encoder, **small[encoder]),
        quantizer=tokkit.build("quantizer", quantizer, **quantizers[quantizer]),
        decoder=tokkit.build("decoder", decoder, **decoder_options),
        name="small",
    ).train()
    noise = 0.01 * torch.randn(1, 1, 8 * RATE)  # many more latents than codes, so that no residual is a rounding error
    built(speech(8.0, seed=1)[None] + noise)
    return built.eval()


def speech(seconds: float = 2.0, seed: int = 0) -> Tensor:
    return Tones(seconds=seconds, seed=seed).open(Audio(sample_rate=RATE)).sample(0).values


@pytest.mark.parametrize("quantizer", ["rvq", "fsq"])
@pytest.mark.parametrize("pieces", ["frames", "random", "tiny", "whole"])
def test_a_stream_is_the_whole(pieces: str, quantizer: str) -> None:
    tok, length = tokenizer("mimi", "mimi", quantizer=quantizer), 3_013
    sound = speech()[:, :length]
    whole = tok.encode(sound)
    sizes = {"frames": [20] * 150, "tiny": [7] * 300, "whole": [length], "random": [1, 333, 19, 20, 21, 900, 5, 1200]}
    codes, heard = [], []
    with tok.stream() as stream:
        start = 0
        for size in [*sizes[pieces], length]:
            codes.append(stream.encode(sound[:, start : start + size]))
            heard.append(stream.decode(codes[-1]))
            start = min(length, start + size)
        assert stream.samples == length and stream.latency == 20
        codes.append(stream.flush())
        heard.append(stream.decode(codes[-1]))
    assert torch.equal(torch.cat(codes, 1), whole.codes)
    torch.testing.assert_close(torch.cat(heard, -1)[..., :length], tok.decode(whole), atol=1e-4, rtol=0)


def test_streams_of_fewer_levels_and_of_batches() -> None:
    tok = tokenizer("mimi", "mimi")
    sounds = torch.stack([speech(0.5, seed=5), speech(0.5, seed=6)])
    with Stream.of(tok, levels=2) as stream:
        codes = torch.cat([stream.encode(piece) for piece in sounds.split(333, -1)] + [stream.flush()], 1)
        assert torch.equal(codes, tok.encode(sounds, levels=2).codes)
        assert stream.decode(codes).shape == (2, 1, 4000)
        again = torch.cat([stream.encode(sounds), stream.flush()], 1)
        assert torch.equal(again, codes), "flush begins a new sound"


def test_what_cannot_stream_says_so() -> None:
    with pytest.raises(InputError, match="encoder looks at what comes later"):
        Stream(tokenizer("dac", "vocos"))
    tok = tokenizer("mimi", "mimi")
    with pytest.raises(InputError, match="levels=4"):
        Stream(tok, levels=4)
    stream = Stream(tok)
    with pytest.raises(InputError, match="nothing to flush"):
        stream.flush()
    with pytest.raises(InputError, match=r"\[1, n\]"):
        stream.encode(torch.zeros(2, 10))
    with pytest.raises(InputError, match="NaN"):
        stream.encode(torch.full((1, 10), float("nan")))


@pytest.mark.parametrize(
    ("encoder", "decoder", "quantizer"),
    [("dac", "dac", "rvq"), ("dac", "vocos", "rvq"), ("mimi", "mimi", "rvq"), ("dac", "vocos", "multirate")],
)
@pytest.mark.parametrize("seconds", [0.04, 0.3, 5.0])
def test_a_file_in_pieces_is_the_whole(
    encoder: str, decoder: str, quantizer: str, seconds: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audio, "BLOCK_FRAMES", 1777)
    tok = tokenizer(encoder, decoder, loudness=-20.0, quantizer=quantizer)
    Audio(sample_rate=16000).write(tmp_path / "a.wav", torch.cat([speech(1.3), speech(1.3, seed=2)], -1))
    whole = tok.encode(tmp_path / "a.wav")
    tokens = chunking.encode_file(tok, tmp_path / "a.wav", seconds=seconds)
    assert torch.equal(tokens.codes, whole.codes)
    assert (tokens.header, tokens.sizes, tokens.names, tokens.extras, tokens.grid) == (
        whole.header,
        whole.sizes,
        whole.names,
        whole.extras,
        whole.grid,
    )
    chunking.decode_file(tok, tokens, tmp_path / "back.wav", seconds=seconds)
    written = Audio(sample_rate=RATE).read(tmp_path / "back.wav").values
    torch.testing.assert_close(written, tok.decode(whole)[0], atol=1e-4, rtol=0)
    fewer = chunking.encode_file(tok, tmp_path / "a.wav", seconds=seconds, levels=2)
    assert torch.equal(fewer.codes, whole.codes[..., :2]) and fewer.codebook_sizes == (64, 64)


@pytest.mark.parametrize("samples", [1, 19, 20, 21, 400])
def test_short_files_in_pieces(samples: int, tmp_path: Path) -> None:
    tok = tokenizer("dac", "dac")
    tok.modality.write(tmp_path / "a.wav", speech(0.5)[:, :samples])
    assert torch.equal(chunking.encode_file(tok, tmp_path / "a.wav", seconds=0.01).codes, tok.encode(tmp_path / "a.wav").codes)
    for seconds in (0.0, float("nan"), float("inf")):
        with pytest.raises(InputError, match="positive number of seconds"):
            chunking.encode_file(tok, tmp_path / "a.wav", seconds=seconds)


def test_networks_never_see_more_than_a_piece(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audio, "BLOCK_FRAMES", 4000)
    seen: list[int] = []
    for encoder, decoder in (("dac", "vocos"), ("mimi", "mimi")):
        tok = tokenizer(encoder, decoder)
        tok.modality.write(tmp_path / f"{encoder}.wav", speech(8.0))
        context = getattr(tok.encoder, "context", 0)
        layers = tok.encoder.layers
        layers.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].shape[-1]))
        chunking.encode_file(tok, tmp_path / f"{encoder}.wav", seconds=0.5)
        assert len(seen) >= 15 and max(seen) <= 4000 + (2 * context + 1) * 20
        seen.clear()


def test_what_cannot_be_chunked_says_so(tmp_path: Path) -> None:
    tok = tokenizer("dac", "vocos")
    assert chunking.can_chunk(tok)
    del tok.decoder.context
    assert not chunking.can_chunk(tok)
    with pytest.raises(InputError, match="cannot work in pieces"):
        chunking.encode_file(tok, tmp_path / "a.wav")
    assert not chunking.can_chunk(tokenizer("mimi", "mimi", quantizer="multirate"))
    with pytest.raises(InputError, match="more than a frame"), tokenizer("mimi", "mimi", quantizer="multirate").stream():
        pass
    with pytest.raises(InputError, match="levels=9"):
        chunking.encode_file(tokenizer("dac", "vocos"), tmp_path / "a.wav", levels=9)


def test_the_bench_measures_and_says_on_what() -> None:
    report = bench.measure(tokenizer("mimi", "mimi"), seconds=0.25, warmup=3)
    assert report.codes_equal == 1.0 and report.largest_difference < 1e-4
    assert 0 < report.encode.p50 <= report.encode.p95 <= report.encode.p99
    assert report.frame_seconds == pytest.approx(20 / RATE) and report.latency_seconds >= report.frame_seconds
    assert report.state_bytes[0] == report.state_bytes[1] > 0
    told = bench.describe(report, tokenizer("mimi", "mimi"))
    assert told["bench"] == "stream" and told["tokenizer"] == "small" and "torch" in str(told)


def test_what_a_stream_cannot_take_is_refused_before_it_changes_anything() -> None:
    tok, sound = tokenizer("mimi", "mimi"), speech()[:, :200]
    codes = tok.encode(sound).codes
    with tok.stream() as stream:
        stream.encode(sound[:, :50])
        for wrong, message in (
            ((sound * 32767).short(), "int16; divide"),
            (sound.numpy(), "ndarray"),
            (torch.zeros(2, 1, 30), "pieces of 1 sounds so far, got one of 2"),
        ):
            with pytest.raises(InputError, match=message):
                stream.encode(wrong)
        stream.decode(codes[:, :1])
        for bad, message in (
            (codes + 64, "not below the sizes"),
            (codes - 64, "below 0"),
            (codes[0], "codes are"),
            (codes.tile(2, 1, 1), "those of 2"),
        ):
            with pytest.raises(InputError, match=message):
                stream.decode(bad)
        assert stream.samples == 50
        rest = torch.cat([stream.encode(sound[:, 50:]), stream.flush()], 1)
        assert rest.equal(codes[:, codes.shape[1] - rest.shape[1] :])
