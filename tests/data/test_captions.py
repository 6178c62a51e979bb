"""Captions beside pictures: from folders and tar files, through batches and workers; samples without one are left out."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest
import torch
from PIL import Image

import tokkit
from tokkit.data.captions import Captioned
from tokkit.data.loader import batches
from tokkit.errors import InputError

TEXTS = {0: "black\n", 1: "  dark   grey ", 2: "grau, é", 3: None}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for index, text in TEXTS.items():
        Image.new("RGB", (8, 8), (60 * index,) * 3).save(tmp_path / f"{index}.png")
        if text is not None:
            (tmp_path / f"{index}.txt").write_text(text, encoding="utf-8")
    return tmp_path


def expected(values: torch.Tensor) -> str:
    return {0: "black", 60: "dark grey", 120: "grau, é"}[round(values.mean().item() * 255)]


@pytest.mark.parametrize("workers", [0, 1])
def test_captions_go_with_their_pictures(folder: Path, workers: int) -> None:
    source = tokkit.build("data", "folder", path=str(folder), size=8, captions=True).open(tokkit.build("modality", "image"))
    for batch in batches(source, batch_size=4, stop=3, workers=workers):
        assert isinstance(batch, Captioned) and batch.values.shape == (4, 3, 8, 8)
        assert [expected(values) for values in batch.values] == list(batch.captions)
        first, second = batch.chunk(2)
        assert len(first.values) == 2 and [*first.captions, *second.captions] == list(batch.captions)


def test_captions_in_tar_files(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with tarfile.open(tmp_path / "some.tar", "w") as tar:
        for path in sorted(folder.glob("?.*")):
            tar.add(path, path.name.replace(".png", ".front.png"))
    source = tokkit.build("data", "shards", path=str(tmp_path / "some.tar"), size=8, captions=True).open(tokkit.build("modality", "image"))
    drawn = [source.draw(index, 0) for index in range(3)]
    assert [expected(example.values) for example in drawn] == [example.captions for example in drawn] == ["black", "dark grey", "grau, é"]


def test_without_a_caption_a_sample_is_left_out(folder: Path) -> None:
    source = tokkit.build("data", "folder", path=str(folder), size=8, captions=True).open(tokkit.build("modality", "image"))
    assert source.draw(3, 0).captions == "black" and "3.txt: no caption there" in source.skipped[3]
    assert isinstance(source[0], torch.Tensor)
    plain = tokkit.build("data", "folder", path=str(folder), size=8).open(tokkit.build("modality", "image"))
    assert isinstance(plain.draw(0, 0), torch.Tensor)


def test_a_source_without_texts_says_so() -> None:
    source = tokkit.build("data", "synthetic", size=8, count=2).open(tokkit.build("modality", "image"))
    with pytest.raises(InputError, match="Synthetic has no texts; take the source `folder` or `shards`"):
        source.caption(0)
