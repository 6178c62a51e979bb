from __future__ import annotations

import io

import pytest
import torch
from eval_fakes import pictures
from PIL import Image, features

import tokkit
from tokkit import registry
from tokkit.errors import InputError

PICTURES = [name for name in tokkit.names("baseline") if registry.get("baseline", name).modality == "image"]  # type: ignore[attr-defined]
CODECS = [name for name in PICTURES if name != "avif" or features.check("avif")]


@pytest.mark.parametrize("name", CODECS)
def test_the_highest_quality_that_fits_is_taken(name: str) -> None:
    codec = tokkit.build("baseline", name)
    picture = pictures(1, size=96)[0].values
    highest = codec.qualities[1]
    budget = len(codec.encode(picture, 60))
    fitted = codec.fit(picture, budget)
    assert not fitted.over_budget
    assert len(fitted.data) <= budget
    assert fitted.quality >= 60
    assert fitted.quality == highest or len(codec.encode(picture, fitted.quality + 1)) > budget
    assert fitted.data == codec.encode(picture, fitted.quality)


@pytest.mark.parametrize("name", CODECS)
def test_a_budget_below_the_smallest_file_gives_that_file_and_says_so(name: str) -> None:
    codec = tokkit.build("baseline", name)
    picture = pictures(1)[0].values
    fitted = codec.fit(picture, 20)
    assert fitted.over_budget
    assert fitted.quality == codec.qualities[0]
    assert len(fitted.data) == len(codec.encode(picture, codec.qualities[0])) > 20


@pytest.mark.parametrize("name", CODECS)
def test_a_large_budget_gives_the_highest_quality(name: str) -> None:
    codec = tokkit.build("baseline", name)
    assert codec.fit(pictures(1)[0].values, 10**9).quality == codec.qualities[1]


@pytest.mark.parametrize("name", CODECS)
@pytest.mark.parametrize("channels", [1, 3])
def test_decoding_gives_the_picture_back(name: str, channels: int) -> None:
    codec = tokkit.build("baseline", name)
    picture = pictures(1, size=40)[0].values[:channels, :, :37]
    decoded = codec.decode(codec.encode(picture, codec.qualities[1]))
    if channels == 1 and decoded.shape[0] == 3:
        decoded = decoded.mean(0, keepdim=True)
    assert decoded.shape == picture.shape
    assert (decoded - picture).square().mean() < 4e-3


def test_jpeg_is_what_pillow_writes() -> None:
    picture = pictures(1)[0].values
    pixels = (picture * 255).round().byte().permute(1, 2, 0).numpy()
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=35, optimize=True, progressive=True, subsampling="4:2:0")
    assert tokkit.build("baseline", "jpeg").encode(picture, 35) == file.getvalue()


def test_a_picture_too_large_for_the_format_is_refused() -> None:
    with pytest.raises(InputError, match="webp: cannot encode"):
        tokkit.build("baseline", "webp").encode(torch.zeros(3, 2, 17_000), 10)


def test_a_missing_codec_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "check", lambda feature: feature != "avif")
    with pytest.raises(InputError, match="no AVIF"):
        tokkit.build("baseline", "avif")
