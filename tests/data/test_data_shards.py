"""Tar shards: what webdataset writes, wherever it lies, and what is left of it."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import webdataset

import tokkit
from tokkit import config
from tokkit.data import tar_index
from tokkit.data.base import Source
from tokkit.data.loader import batches
from tokkit.data.shards import Shards
from tokkit.errors import InputError

IMAGE = tokkit.build("modality", "image")
Make = Callable[..., Path]


@pytest.fixture
def shards(pictures: Make, tmp_path: Path) -> Path:
    """Three shards of four samples each, with a label and a note beside every picture."""
    root = pictures(*(f"{number:02d}.png" for number in range(12)))
    (tmp_path / "tars").mkdir()
    for shard in range(3):
        with webdataset.TarWriter(str(tmp_path / "tars" / f"train-{shard:03d}.tar")) as writer:
            for number in range(shard * 4, shard * 4 + 4):
                picture = (root / f"{number:02d}.png").read_bytes()
                writer.write({"__key__": f"part/{number:02d}", "png": picture, "cls": number, "json": {"a": number}})
    return tmp_path / "tars"


def opened(*path: str | Path, split: str = "train", **options: object) -> Source:
    paths = tuple(map(str, path))
    return tokkit.build("data", "shards", path=paths[0] if len(paths) == 1 else paths, **options).open(IMAGE, split=split)


def numbers(source: Source) -> list[int]:
    return [round(float(source.sample(index).values[2, 0, 0]) * 255) for index in range(len(source))]


def test_braces_wildcards_and_lists(shards: Path) -> None:
    for path in (f"{shards}/train-{{000..002}}.tar", f"{shards}/train-*.tar", f"{shards}/train-00[012].tar"):
        assert numbers(opened(path)) == list(range(12))
    assert numbers(opened(shards / "train-002.tar", shards / "train-000.tar", shards / "train-000.tar")) == [8, 9, 10, 11, 0, 1, 2, 3]
    assert opened(shards / "train-001.tar").sample(0).name == "part/04"
    options = {"val": str(shards / "train-002.tar")}
    assert numbers(opened(shards / "train-000.tar", split="val", **options)) == [8, 9, 10, 11]


def test_equals_a_folder_of_the_same_files(shards: Path, tmp_path: Path) -> None:
    folder = tokkit.build("data", "folder", path=str(tmp_path / "pictures"), size=8).open(IMAGE)
    tars = opened(f"{shards}/train-*.tar", size=8)
    for a, b in zip(batches(folder, batch_size=5, stop=6), batches(tars, batch_size=5, stop=6, workers=2), strict=True):
        assert torch.equal(a, b)


def test_a_recipe_gives_one_path_or_several(tmp_path: Path) -> None:
    for text, expected in (("path: a.tar", "a.tar"), ("path: [a.tar, b.tar]", ("a.tar", "b.tar"))):
        (tmp_path / "data.yaml").write_text(text)
        problems = config.Problems()
        options = config.check(config.read(tmp_path / "data.yaml", problems), Shards, "data", problems, {})
        problems.raise_if_any()
        assert options == {"path": expected}


def test_the_index_is_kept_and_renewed(shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = shards / "train-000.tar"
    scans: list[Path] = []
    scan = tar_index._scan
    monkeypatch.setattr(tar_index, "_scan", lambda path, keep: scans.append(path) or scan(path, keep=keep))
    first, again = opened(path), opened(path)
    assert numbers(first) == numbers(again) == [0, 1, 2, 3] and len(scans) == 1
    path.write_bytes((shards / "train-001.tar").read_bytes())
    os.utime(path, ns=(1, 1))
    assert numbers(opened(path)) == [4, 5, 6, 7] and len(scans) == 2
    for index in Path(os.environ["XDG_CACHE_HOME"]).rglob("*.json"):
        index.write_text('{"stamp": [1], "mem')
    assert numbers(opened(path)) == [4, 5, 6, 7] and len(scans) == 3


def test_without_a_place_for_the_index(shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert numbers(opened(shards / "train-000.tar")) == [0, 1, 2, 3]


@pytest.mark.parametrize("mode", ["gz", "bz2", "xz"])
def test_compressed(shards: Path, mode: str) -> None:
    with tarfile.open(shards / f"a.tar.{mode}", f"w:{mode}") as packed, tarfile.open(shards / "train-001.tar") as plain:
        for member in plain:
            packed.addfile(member, plain.extractfile(member))
    assert numbers(opened(shards / f"a.tar.{mode}")) == [4, 5, 6, 7]


def test_damaged(shards: Path) -> None:
    with tarfile.open(shards / "plain.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
        for number in range(4):
            info = tarfile.TarInfo(f"{number:02d}.png")
            info.size = 1000
            tar.addfile(info, io.BytesIO(bytes(1000)))
    whole = (shards / "plain.tar").read_bytes()
    middle = whole.index(b"02.png")
    cases = {
        "none.tar": (None, "no such file"),
        "empty.tar": (b"", "not a tar file"),
        "text.tar": (b"hello " * 200, "not a tar file"),
        "header.tar": (
            whole[:middle] + b"\xff" * 512 + whole[middle + 512 :],
            "damaged or cut off after 2 whole files: at byte 3072 is neither",
        ),
        "boundary.tar": (whole[:middle], "damaged or cut off after 2 whole files"),
        "cut.tar": (whole[: middle + 600], "damaged or cut off after"),
        "cut.tar.gz": (b"\x1f\x8b" + bytes(100), "not a tar file"),
    }
    for name, (content, message) in cases.items():
        if content is not None:
            (shards / name).write_bytes(content)
        with pytest.raises(InputError, match=f"{name}: {message}"):
            opened(shards / name)


def test_changed_while_in_use(shards: Path) -> None:
    source = opened(shards / "train-000.tar", size=8)
    (shards / "train-000.tar").write_bytes(b"")
    with pytest.raises(InputError, match=r"train-000\.tar: ends inside part/00\.png"):
        source.sample(0)
    (shards / "train-000.tar").unlink()
    with pytest.raises(InputError, match=r"cannot read part/00\.png: No such file"):
        source.sample(0)


def test_a_damaged_picture_is_named_with_its_tar(shards: Path) -> None:
    with tarfile.open(shards / "bad.tar", "w") as tar:
        info = tarfile.TarInfo("x/bad.png")
        info.size = 3
        tar.addfile(info, io.BytesIO(b"abc"))
    with pytest.raises(InputError, match=r"bad\.tar:x/bad\.png: not a picture"):
        opened(shards / "bad.tar").sample(0)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("https://example.com/a.tar", "copy it here first"),
        ("pipe:curl x", "copy it here first"),
        ("{shards}/none-*.tar", r"none-\*\.tar: no file matches"),
        ("{shards}", r"a folder, expected tar files: .*/\*\.tar"),
        ("{shards}/train-{{000..002.tar", "braces that do not match"),
    ],
)
def test_paths_that_stand_for_nothing(shards: Path, path: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        opened(path.format(shards=shards))


def test_no_pictures_in_there(shards: Path) -> None:
    with tarfile.open(shards / "notes.tar", "w") as tar:
        tar.addfile(tarfile.TarInfo("a.txt"))
    with pytest.raises(InputError, match=r"notes\.tar: no image files in there"):
        opened(shards / "notes.tar")
