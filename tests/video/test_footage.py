"""Folders of videos to token files and back; long ones go piece by piece without being asked."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import tokkit
from tests.video.moving import moving, tokenizer
from tokkit import footage
from tokkit.bulk.decode import decode_files
from tokkit.bulk.encode import EncodeOptions, encode_files
from tokkit.errors import InputError


def test_a_folder_of_videos_comes_back_with_its_lengths_and_rates(tmp_path: Path) -> None:
    tok = tokenizer()
    for name, frames, rate in (("a.mkv", 9, 12.5), ("deep/b.mkv", 6, 30000 / 1001)):
        tok.modality.write(tmp_path / "in" / name, moving(frames, 16, 20), frame_rate=rate)
    tok.modality.write(tmp_path / "in" / "frames", moving(3, 16, 20))
    (tmp_path / "in" / "broken.mp4").write_bytes(b"nothing")
    summary = encode_files(tok, [tmp_path / "in"], tmp_path / "tokens", EncodeOptions())
    assert (summary.done, [failure.name for failure in summary.failures]) == (3, ["broken.mp4"])
    assert summary.positions == (9 + 6 + 3) * 16 * 20
    tokens = tokkit.Tokens.load(tmp_path / "tokens" / "deep" / "b.tok")
    assert tokens.grid == (3, 4, 5) and tokens.extra_fields == ("frame_rate",)
    done, failures = decode_files(tok, [tmp_path / "tokens"], tmp_path / "out")
    assert (done, failures) == (3, [])
    for name, frames, rate in (("a.mp4", 9, 12.5), ("deep/b.mp4", 6, 30000 / 1001), ("frames.mp4", 3, 25)):
        sample = tok.modality.read(tmp_path / "out" / name)
        assert sample.values.shape == (3, frames, 16, 20) and sample.extras[0] == pytest.approx(rate)


def test_long_videos_are_worked_on_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tok = tokenizer(tokkit.build("quantizer", "rvq", dim=8, levels=3, codebook_size=16))
    tok.modality.write(tmp_path / "in" / "long.mkv", moving(50, 14, 20), frame_rate=10)
    whole = tok.encode(tmp_path / "in" / "long.mkv", levels=2)
    monkeypatch.setattr(footage, "PIECE_PIXELS", 8 * 14 * 20)
    monkeypatch.setattr("tokkit.modalities.video.PIECE_VALUES", 5 * 3 * 14 * 20)
    asked: list[str] = []
    for function in ("encode_file", "decode_file"):
        original = getattr(footage, function)
        monkeypatch.setattr(footage, function, lambda *a, f=function, o=original, **k: (asked.append(f), o(*a, **k))[1])
    assert encode_files(tok, [tmp_path / "in"], tmp_path / "tokens", EncodeOptions(levels=2)).done == 1
    tokens = tokkit.Tokens.load(tmp_path / "tokens" / "long.tok")
    assert torch.equal(tokens.codes, whole.codes) and tokens.header == whole.header
    assert (tokens.grid, tokens.sizes, tokens.extras) == (whole.grid, whole.sizes, whole.extras)
    assert decode_files(tok, [tmp_path / "tokens"], tmp_path / "out") == (1, [])
    assert asked == ["encode_file", "decode_file"]
    assert tok.modality.read(tmp_path / "out" / "long.mp4").values.shape == (3, 50, 14, 20)
    pieces = list(footage.decode_pieces(tok, tokens))
    assert max(piece.shape[1] for piece in pieces) <= 8
    torch.testing.assert_close(torch.cat(pieces, 1), tok.decode(whole)[0], atol=1e-5, rtol=0)


def test_networks_that_look_ahead_cannot_work_in_pieces(tmp_path: Path) -> None:
    options = {"width": 8, "multipliers": (1, 2), "blocks": 1, "dim": 8, "groups": 4, "attention": False, "rank": 3}
    tok = tokkit.Tokenizer(
        modality="video",
        encoder=tokkit.build("encoder", "conv", **options),
        quantizer=tokkit.build("quantizer", "fsq", levels=(8, 5, 5)),
        decoder=tokkit.build("decoder", "conv", **options),
    )
    tok.modality.write(tmp_path / "a.mkv", moving(3, 8, 8))
    assert tok.decode(tok.encode(tmp_path / "a.mkv")).shape == (1, 3, 3, 8, 8)
    assert not footage.is_long(tok, tmp_path / "a.mkv")
    with pytest.raises(InputError, match="cannot work in pieces"):
        footage.encode_file(tok, tmp_path / "a.mkv")
