"""Folders, samples and synthetic pictures, and what all sources share: examples, skipping, the cache."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch

import tokkit
from tokkit.data.base import Source
from tokkit.data.samples import FILES
from tokkit.errors import InputError
from tokkit.modalities.base import Modality

IMAGE = tokkit.build("modality", "image")
Make = Callable[..., Path]


def opened(name: str, split: str = "train", **options: object) -> Source:
    return tokkit.build("data", name, **options).open(IMAGE, split=split)


def names(source: Source) -> list[str]:
    return [source.sample(index).name for index in range(len(source))]


def test_folder_finds_pictures_sorted(pictures: Make) -> None:
    root = pictures("b.png", "a/z.png", "a/c.JPG", ".hidden.png", ".git/x.png", "a.b.png")
    (root / "notes.txt").write_text("no picture")
    assert names(opened("folder", path=str(root))) == ["a.b", "a/c", "a/z", "b"]
    assert names(opened("folder", path=str(root), recursive=False)) == ["a.b", "b"]


def test_folder_val(pictures: Make) -> None:
    root = pictures("train/a.png", "held out/b.png")
    options = {"path": str(root / "train"), "val": str(root / "held out")}
    assert names(opened("folder", **options)) == ["a"]
    assert names(opened("folder", split="val", **options)) == ["b"]
    assert names(opened("folder", split="val", path=options["path"])) == ["a"]


def test_folder_refuses(tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(b"")
    (tmp_path / "empty").mkdir()
    cases = {"none": "none: no such folder", "x.tar": "use the data source `shards`", "empty": r"no image files .*\.png"}
    for path, message in cases.items():
        with pytest.raises(InputError, match=message):
            opened("folder", path=str(tmp_path / path))


def test_options_are_checked(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="size must be at least 1"):
        tokkit.build("data", "folder", path=str(tmp_path), size=0)
    with pytest.raises(InputError, match="count must be at least 1"):
        tokkit.build("data", "synthetic", count=0)
    closed = tokkit.build("data", "synthetic")
    for use in (lambda: closed.sample(0), lambda: closed.draw(0, 0)):
        with pytest.raises(InputError, match="not open"):
            use()


def test_opening_leaves_the_source_alone(pictures: Make) -> None:
    root = pictures("a.png", "b.png")
    source = tokkit.build("data", "folder", path=str(root))
    first = source.open(IMAGE)
    pictures("a.png", "b.png", "c.png")
    assert (len(source), len(first), len(source.open(IMAGE))) == (0, 2, 3)
    assert tokkit.registry.spec_of(first).options == {"path": str(root)}


def test_examples(pictures: Make) -> None:
    source = opened("folder", path=str(pictures("a.png", "b.png")), size=8, flip=True)
    whole = source.sample(1).values
    assert whole.shape == (3, 20, 24)
    assert torch.equal(source[1], whole[:, 6:14, 8:16]), "[] is the middle, not mirrored"
    drawn = [source.draw(1, seed) for seed in range(50)]
    assert all(torch.equal(source.draw(1, seed), example) for seed, example in enumerate(drawn))
    assert len({example.numpy().tobytes() for example in drawn}) > 40
    assert {bool(example[1, 0, 0] > example[1, 0, 1]) for example in drawn} == {True, False}, "both mirrored and not"
    assert all(example.shape == (3, 8, 8) and example.dtype == torch.float32 and example.is_contiguous() for example in drawn)
    centred = opened("folder", path=source.path, size=8, crop="center")
    assert torch.equal(centred.draw(1, 3), source[1])
    resized = opened("folder", path=source.path, size=8, crop="center", resize=True)
    assert resized[0][0, -1, 0] > 170 / 255, "the whole height is there"
    with pytest.raises(IndexError):
        source[2]


def test_unreadable_files_are_skipped_named_and_counted(pictures: Make, caplog: pytest.LogCaptureFixture) -> None:
    root = pictures("a.png", "b.png", "c.png", "d.png")
    (root / "b.png").write_bytes(b"broken")
    (root / "c.png").write_bytes(b"")
    source = opened("folder", path=str(root), size=8, crop="center")
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert torch.equal(source.draw(1, 0), source.draw(3, 0))
            assert torch.equal(source[2], source[3])
    first, second = (record.getMessage() for record in caplog.records)
    assert first.startswith(f"skipping a sample (1 so far): {root / 'b.png'}: not a picture")
    assert second == f"skipping a sample (2 so far): {root / 'c.png'}: empty, 0 bytes"
    assert sorted(source.skipped) == [1, 2]
    with pytest.raises(InputError, match=r"b\.png: not a picture"):
        source.sample(1)
    for name in ("a.png", "d.png"):
        (root / name).write_bytes(b"broken")
    with pytest.raises(InputError, match=r"none of 4 samples can be read; the first: .*a\.png"):
        opened("folder", path=str(root), size=8).draw(0, 0)


def test_wrong_options_are_not_skipped(pictures: Make) -> None:
    class Picky(type(IMAGE)):  # type: ignore[misc]
        def crop(self, *arguments: object, **options: object) -> torch.Tensor:
            return Modality.crop(self, *arguments, **options)  # type: ignore[arg-type]

    source = tokkit.build("data", "folder", path=str(pictures("a.png")), size=8, resize=True).open(Picky())
    with pytest.raises(InputError, match="resize: not possible"):
        source.draw(0, 0)
    assert not source.skipped


@pytest.mark.parametrize("resize", [False, True])
def test_cache_changes_nothing(pictures: Make, resize: bool) -> None:
    root = pictures("a.png", "b.png", "c.png", "broken.png")
    (root / "broken.png").write_bytes(b"broken")
    deep = np.random.default_rng(0).integers(0, 65536, (30, 30)).astype(np.uint16)
    PIL.Image.fromarray(deep).save(root / "deep.png")
    options = {"path": str(root), "size": 8, "flip": True, "resize": resize}
    plain, cached = opened("folder", **options), opened("folder", cache=True, **options)
    assert list(cached.skipped) == [2]
    for path in root.iterdir():
        path.unlink()
    pictures("a.png", "b.png", "c.png")
    (root / "broken.png").write_bytes(b"broken")
    PIL.Image.fromarray(deep).save(root / "deep.png")
    for index in range(5):
        assert torch.equal(plain[index], cached[index])
        assert all(torch.equal(plain.draw(index, seed), cached.draw(index, seed)) for seed in range(10))
    kept = cached._kept
    assert kept is not None
    assert [kept[index].dtype for index in (0, 4)] == [torch.uint8, torch.float32], "8 bits where that loses nothing"


def test_samples_are_in_the_wheel() -> None:
    train, val = opened("samples", cache=False), opened("samples", split="val")
    assert (len(train), names(val)) == (13, ["chelsea", "coffee", "rocket"])
    assert not set(FILES["train"]) & set(FILES["val"])
    assert all(train[index].shape == (3, 64, 64) for index in range(len(train))) and not train.skipped
    assert min(train.sample(index).values.std() for index in range(len(train))) > 0.02


def test_synthetic() -> None:
    train, again = opened("synthetic", count=8, size=16), opened("synthetic", count=8, size=16)
    other = opened("synthetic", count=8, size=16, seed=1)
    val = opened("synthetic", split="val", count=8, size=16)
    assert (len(train), len(val)) == (8, 2)
    values = [train.sample(index).values for index in range(8)]
    assert all(value.shape == (3, 20, 20) and value.min() >= 0 and value.max() <= 1 and value.std() > 0.01 for value in values)
    assert all(torch.equal(value, again.sample(index).values) for index, value in enumerate(values))
    everything = [*values, *(source.sample(index).values for source in (val, other) for index in range(len(source)))]
    assert len({value.numpy().tobytes() for value in everything}) == 18
    grey = tokkit.build("data", "synthetic", size=16).open(tokkit.build("modality", "image", channels=1))
    assert grey[0].shape == (1, 16, 16)


@pytest.mark.parametrize("name", ["samples", "synthetic"])
def test_pictures_are_refused_for_other_modalities(name: str) -> None:
    class Sound(type(IMAGE)):  # type: ignore[misc]
        name = "audio"

    with pytest.raises(InputError, match="the modality is audio"):
        tokkit.build("data", name).open(Sound())
