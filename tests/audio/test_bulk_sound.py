"""Folders of sound: long files go piece by piece without being asked, and a bitrate chooses the levels."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import tokkit
from tests.audio.test_streaming import RATE, speech, tokenizer
from tokkit import chunking
from tokkit.bulk.decode import decode_files
from tokkit.bulk.encode import EncodeOptions, encode_files
from tokkit.bulk.rate import levels_within
from tokkit.errors import InputError


def test_long_files_are_encoded_and_decoded_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tok = tokenizer("dac", "dac")
    for name, seconds in (("long", 2.0), ("short", 0.2)):
        tok.write(tmp_path / "in" / f"{name}.wav", speech(seconds))
    (tmp_path / "in" / "broken.wav").write_bytes(b"RIFF nothing")
    whole = {name: tok.encode(tmp_path / "in" / f"{name}.wav") for name in ("long", "short")}
    monkeypatch.setattr(chunking, "SECONDS", 0.1)
    asked: list[str] = []
    for function in ("encode_file", "decode_file"):
        original = getattr(chunking, function)
        monkeypatch.setattr(chunking, function, lambda *a, f=function, o=original, **k: (asked.append(f), o(*a, seconds=0.1, **k))[1])
    summary = encode_files(tok, [tmp_path / "in"], tmp_path / "tokens", EncodeOptions())
    assert (summary.done, [failure.name for failure in summary.failures]) == (2, ["broken.wav"])
    for name, expected in whole.items():
        assert torch.equal(tokkit.Tokens.load(tmp_path / "tokens" / f"{name}.tok").codes, expected.codes)
    done, failures = decode_files(tok, [tmp_path / "tokens"], tmp_path / "out")
    assert (done, failures) == (2, [])
    assert asked == ["encode_file", "decode_file"]
    for name, expected in whole.items():
        back = tok.modality.read(tmp_path / "out" / f"{name}.wav").values
        torch.testing.assert_close(back, tok.decode(expected)[0], atol=2 / 32768, rtol=0)


def test_a_bitrate_chooses_the_levels() -> None:
    """400 frames a second of 6 bits a level: 2.4 kbps each."""
    tok = tokenizer("dac", "dac")
    assert RATE / tok.encoder.stride == 400
    slow = tokenizer("dac", "dac", quantizer="multirate")  # a token for 6 frames: 400 bits a second a code, 1 + 2 + 6 of them
    assert [levels_within(slow, kbps) for kbps in (0.4, 1.2, 1.3, 3.6, 9)] == [1, 3, 3, 9, 9]
    assert [levels_within(tok, kbps) for kbps in (2.4, 4.7, 4.8, 100)] == [1, 1, 2, 3]
    with pytest.raises(InputError, match=r"one level takes .* the levels take"):
        levels_within(tok, 1)
    with pytest.raises(InputError, match="bitrate is fixed"):
        levels_within(tokenizer("dac", "dac", quantizer="fsq"), 6)
