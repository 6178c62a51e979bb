"""Folders to tokens and back: what is mirrored, refused, resumed and reported."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import tokkit
from tests.small import tokenizer
from tokkit.bulk.decode import decode_files
from tokkit.bulk.encode import EncodeOptions, encode_files
from tokkit.bulk.files import find_jobs, targets
from tokkit.errors import InputError, TokenFileError
from tokkit.modalities.base import from_steps
from tokkit.tokens import TokenReader


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Seven pictures of three sizes in a tree, one damaged file, and one that is no picture."""
    folder = tmp_path / "photos"
    random = np.random.default_rng(0)
    for index, (height, width) in enumerate([(12, 10), (11, 9), (8, 8), (12, 10), (8, 8), (12, 10), (20, 6)]):
        path = folder / ("sub" if index % 2 else ".") / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 255, (height, width, 3), dtype=np.uint8)).save(path)
    (folder / "broken.jpg").write_bytes(b"\xff\xd8 not a picture")
    (folder / "notes.txt").write_text("hello")
    return folder


def test_a_tree_there_and_back(photos: Path, tmp_path: Path) -> None:
    tok = tokenizer()
    summary = encode_files(tok, [photos], tmp_path / "tokens", EncodeOptions(batch_size=3))
    assert summary.done == 7
    assert [failure.name for failure in summary.failures] == ["broken.jpg"]
    assert sorted(str(path.relative_to(tmp_path / "tokens")) for path in (tmp_path / "tokens").rglob("*.tok")) == [
        "0.tok", "2.tok", "4.tok", "6.tok", "sub/1.tok", "sub/3.tok", "sub/5.tok",
    ]  # fmt: skip
    for source in photos.rglob("*.png"):
        token_file = tmp_path / "tokens" / source.relative_to(photos).with_suffix(".tok")
        assert torch.equal(tokkit.Tokens.load(token_file).codes, tok.encode(source).codes)
    done, failures = decode_files(tok, [tmp_path / "tokens"], tmp_path / "back", batch_size=3)
    assert (done, failures) == (7, [])
    for source in photos.rglob("*.png"):
        assert Image.open(tmp_path / "back" / source.relative_to(photos)).size == Image.open(source).size


def test_mixed_depths_share_a_batch(tmp_path: Path) -> None:
    """8-bit pictures are divided on the device, in a batch with a 16-bit one before it: the codes are those of each alone."""
    random = np.random.default_rng(0)
    Image.fromarray(random.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(tmp_path / "eight.png")
    Image.fromarray(random.integers(0, 65536, (8, 8), dtype=np.uint16)).save(tmp_path / "sixteen.png")
    tok = tokenizer()
    kept = tok.modality.read_steps(tmp_path / "eight.png").values
    assert kept.dtype == torch.uint8 and tok.modality.read_steps(tmp_path / "sixteen.png").values.dtype == torch.float32
    every = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(from_steps(every), torch.from_numpy(np.arange(256, dtype=np.float32) / np.float32(255)))
    assert torch.equal(from_steps(kept), tok.modality.read(tmp_path / "eight.png").values)
    assert encode_files(tok, [tmp_path], tmp_path / "out", EncodeOptions(batch_size=2)).done == 2
    for name in ("eight", "sixteen"):
        assert torch.equal(tokkit.Tokens.load(tmp_path / "out" / f"{name}.tok").codes, tok.encode(tmp_path / f"{name}.png").codes)


def test_jobs_come_in_the_order_of_their_parts(tmp_path: Path) -> None:
    for name in ("a-b/1.png", "a/2.PNG", "a.png", "b/c/3.png", "b/.png", "b/._3.png", ".cache/4.png", "b/note.txt", "link.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "gone.png").symlink_to(tmp_path / "nothing")
    jobs = find_jobs([tmp_path], (".png",))
    assert [job.name for job in jobs] == ["a/2.PNG", "a-b/1.png", "a.png", "b/c/3.png", "link.png"]
    assert [job.source for job in jobs] == [tmp_path / job.name for job in jobs]
    frames = find_jobs([tmp_path], (".mp4",), lambda folder: folder.name == "c")
    assert [job.name for job in frames] == ["b/c"]


def test_shards_hold_every_sample_by_its_name(photos: Path, tmp_path: Path) -> None:
    tok = tokenizer()
    encode_files(tok, [photos], tmp_path / "shards", EncodeOptions(batch_size=2, shards=True, shard_size=3))
    shards = sorted((tmp_path / "shards").glob("*"))
    assert [path.name for path in shards] == ["shard-00000.tok", "shard-00001.tok", "shard-00002.tok"]
    names = [name for path in shards for name in TokenReader(path).names]
    assert sorted(names) == ["0.png", "2.png", "4.png", "6.png", "sub/1.png", "sub/3.png", "sub/5.png"]
    done, failures = decode_files(tok, [tmp_path / "shards"], tmp_path / "back")
    assert (done, failures) == (7, [])
    assert (tmp_path / "back" / "sub" / "5.png").exists()


@pytest.mark.parametrize("shards", [False, True])
def test_an_interrupted_job_goes_on(photos: Path, tmp_path: Path, shards: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    tok, calls = tokenizer(), []
    begin_encode = tok.begin_encode

    def interrupted(*args: object, **options: object) -> object:
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return begin_encode(*args, **options)

    options = EncodeOptions(batch_size=1, shards=shards, shard_size=5, resume=True)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(tok, "begin_encode", interrupted)
        encode_files(tok, [photos], tmp_path / "out", options)
    summary = encode_files(tok, [photos], tmp_path / "out", options)
    assert (summary.skipped, summary.done) == (1, 6), "of three that had begun, one was finished"
    again = encode_files(tok, [photos], tmp_path / "out", options)
    assert (again.skipped, again.done) == (7, 0)
    whole = tmp_path / "whole"
    encode_files(tok, [photos], whole, EncodeOptions(batch_size=1, shards=shards, shard_size=5))
    written = {path.relative_to(whole): path.read_bytes() for path in whole.rglob("*.tok")}
    assert {path.relative_to(tmp_path / "out"): path.read_bytes() for path in (tmp_path / "out").rglob("*.tok")} == written


def test_results_are_not_replaced_unless_asked(photos: Path, tmp_path: Path) -> None:
    tok = tokenizer()
    for shards in (False, True):
        out = tmp_path / f"out-{shards}"
        encode_files(tok, [photos], out, EncodeOptions(shards=shards))
        with pytest.raises(InputError, match=r"exist, .* pass --force"):
            encode_files(tok, [photos], out, EncodeOptions(shards=shards))
        assert encode_files(tok, [photos], out, EncodeOptions(shards=shards, force=True)).done == 7
    with pytest.raises(InputError, match="no file below it ends in"):
        encode_files(tok, [tmp_path / "out-True"], tmp_path / "x", EncodeOptions())


@pytest.mark.parametrize("shards", [False, True])
def test_results_of_another_tokenizer_are_not_taken_for_done(photos: Path, tmp_path: Path, shards: bool) -> None:
    options = EncodeOptions(shards=shards, resume=True)
    encode_files(tokenizer(), [photos], tmp_path / "out", options)
    retrained = tokenizer(tokkit.build("quantizer", "fsq", levels=(5, 5)))
    with pytest.raises(TokenFileError, match=r"made by tokenizer 'small'.*; --resume cannot keep it"):
        encode_files(retrained, [photos], tmp_path / "out", options)


def test_shards_hold_no_two_samples_of_one_name(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"8 samples would have the same name, 0\.png first"):
        encode_files(tokenizer(), [photos, photos], tmp_path / "out", EncodeOptions(shards=True))


@pytest.mark.parametrize("asked", [{"num_tokens": 4}, {"levels": 1}, {"max_bits": 99}, {"target": "psnr:20"}])
def test_an_option_that_cannot_be_costs_no_results(photos: Path, tmp_path: Path, asked: dict[str, Any]) -> None:
    encode_files(tokenizer(), [photos], tmp_path / "out", EncodeOptions(shards=True))
    with pytest.raises(InputError, match="train with"):
        encode_files(tokenizer(), [photos], tmp_path / "out", EncodeOptions(shards=True, force=True, **asked))
    assert len(TokenReader(tmp_path / "out" / "shard-00000.tok")) == 7


def test_a_damaged_token_file_does_not_stop_the_others(photos: Path, tmp_path: Path) -> None:
    tok = tokenizer()
    encode_files(tok, [photos], tmp_path / "tokens", EncodeOptions())
    damaged = tmp_path / "tokens" / "2.tok"
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 255
    damaged.write_bytes(content)
    done, failures = decode_files(tok, [tmp_path / "tokens"], tmp_path / "back")
    assert done == 6
    assert [failure.name for failure in failures] == ["2.tok"]


def test_a_sample_name_cannot_leave_the_folder(tmp_path: Path) -> None:
    tok = tokenizer()
    picture = tok.encode(torch.rand(2, 3, 8, 8))
    names = ("../../evil.png", "/abs/evil2.png")
    evil = tokkit.Tokens(
        codes=picture.codes, codebook_sizes=picture.codebook_sizes, grid=picture.grid, sizes=picture.sizes, names=names
    )  # fmt: skip
    evil.save(tmp_path / "in" / "two.tok")
    done, _ = decode_files(tok, [tmp_path / "in" / "two.tok"], tmp_path / "deep" / "out")
    assert done == 2
    assert {path.name for path in (tmp_path / "deep" / "out").rglob("*.png")} == {"evil.png", "evil2.png"}
    assert not list(tmp_path.glob("*.png"))


def test_one_file_to_a_named_file(photos: Path, tmp_path: Path) -> None:
    tok = tokenizer()
    encode_files(tok, [photos / "0.png"], tmp_path / "mine.tok", EncodeOptions())
    decode_files(tok, [tmp_path / "mine.tok"], tmp_path / "mine.png")
    assert Image.open(tmp_path / "mine.png").size == (10, 12)


def test_names_that_would_meet_keep_their_suffix(tmp_path: Path) -> None:
    assert targets(["a.png", "a.jpg", "b.png"], Path("o"), ".tok") == [Path("o/a.png.tok"), Path("o/a.jpg.tok"), Path("o/b.tok")]
    with pytest.raises(InputError, match="same name"):
        targets(["a.png", "a.png"], Path("o"), ".tok")
    with pytest.raises(InputError, match="no such file"):
        find_jobs([tmp_path / "nowhere"], (".png",))


def test_reading_ahead_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow the network, only so many decoded pictures wait in memory."""
    for index in range(40):
        Image.new("RGB", (8, 8)).save(tmp_path / f"{index:02}.png")
    tok = tokenizer()
    read, lock, most = tok.modality.read_steps, threading.Lock(), [0, 0]

    def counted(path: Path) -> object:
        with lock:
            most[0] += 1
        return read(path)

    begin_encode = tok.begin_encode

    def checked(samples: list[object], **options: object) -> object:
        most[1] = max(most[1], most[0])
        most[0] -= len(samples)
        return begin_encode(samples, **options)

    monkeypatch.setattr(tok.modality, "read_steps", counted)
    monkeypatch.setattr(tok, "begin_encode", checked)
    assert encode_files(tok, [tmp_path], tmp_path / "out", EncodeOptions(batch_size=2)).done == 40
    assert most[1] <= 2 * 4 + 2
