"""Files encoded to as many tokens as each needs, or a budget holds."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import tokkit
from tokkit.bulk.decode import decode_files
from tokkit.bulk.encode import EncodeOptions, encode_files
from tokkit.errors import InputError
from tokkit.tokens import TokenReader, Tokens


def ordered() -> tokkit.Tokenizer:
    torch.manual_seed(0)
    options = {"num_tokens": 9, "patch": 4, "width": 16, "depth": 1, "heads": 2}
    return tokkit.Tokenizer(
        modality="image",
        encoder=tokkit.build("encoder", "vit1d", **options),
        quantizer=tokkit.build("quantizer", "nested", quantizer=tokkit.build("quantizer", "fsq", levels=(8, 5, 5)), num_tokens=9),
        decoder=tokkit.build("decoder", "vit1d", **options),
    ).eval()


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    tok = ordered()
    (tmp_path / "photos").mkdir()
    for index, size in enumerate([8, 8, 12]):
        tok.write(tmp_path / "photos" / f"{index}.png", torch.rand(3, size, size, generator=torch.Generator().manual_seed(index)))
    return tmp_path / "photos"


def test_a_budget(photos: Path, tmp_path: Path) -> None:
    summary = encode_files(ordered(), [photos], tmp_path / "tokens", EncodeOptions(max_bits=36))
    assert summary.payload_bits == 3 * 32
    assert all(Tokens.load(path).payload_bits == 32 for path in (tmp_path / "tokens").glob("*.tok"))


@pytest.mark.parametrize("shards", [False, True])
def test_a_target_gives_each_file_its_own_length(photos: Path, tmp_path: Path, shards: bool) -> None:
    tok = ordered()
    quality = [[psnr(tok, path, length) for length in range(1, 10)] for path in sorted(photos.glob("*.png"))]
    wanted = f"psnr:{quality[0][8] - 0.001:.6f}"
    expected = [tok.encode(path, target=wanted)[0].codes.shape[1] for path in sorted(photos.glob("*.png"))]
    summary = encode_files(tok, [photos], tmp_path / "tokens", EncodeOptions(target=wanted, shards=shards))
    assert summary.done == 3 and summary.payload_bits == 8 * sum(expected)
    found = {tokens.names[0]: tokens.codes.shape[1] for path in (tmp_path / "tokens").glob("*.tok") for tokens in TokenReader(path)}
    assert sorted(found) == ["0.png", "1.png", "2.png"]
    assert [found[name] for name in sorted(found)] == expected
    assert decode_files(tok, [tmp_path / "tokens"], tmp_path / "back")[0] == 3


def psnr(tok: tokkit.Tokenizer, path: Path, length: int) -> float:
    original = tok.modality.read(path).values
    return float(tokkit.build("metric", "psnr")(original, tok.decode(tok.encode(path, num_tokens=length))[0]))


def test_a_target_that_cannot_be_is_told_before_work_begins(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected a metric and a number"):
        encode_files(ordered(), [photos], tmp_path / "tokens", EncodeOptions(target="psnr"))
    assert not (tmp_path / "tokens").exists()


def test_a_picture_without_a_value_fails_and_the_others_go_on(photos: Path, tmp_path: Path) -> None:
    """SSIM needs 11 pixels a side, and of the pictures one has 12 and two have 8."""
    summary = encode_files(ordered(), [photos], tmp_path / "tokens", EncodeOptions(target="ssim:0.5"))
    assert summary.done == 1 and sorted(failure.name for failure in summary.failures) == ["0.png", "1.png"]
    assert "target=ssim:0.5 cannot be measured" in summary.failures[0].reason
    assert [path.name for path in (tmp_path / "tokens").iterdir()] == ["2.tok"]
