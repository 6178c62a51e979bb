"""A folder of token files as sequences for a language model."""

import pickle

import pytest
import torch
from token_cases import make_tokens
from torch.utils.data import DataLoader

from tokkit.data import tokens as data_tokens
from tokkit.data.tokens import TokenDataset
from tokkit.errors import InputError, TokenFileError
from tokkit.tokens import TokenWriter

SIZES = (5, 7)


@pytest.fixture
def folder(tmp_path):
    """Two shards of 2 samples of 3 and 2 positions, one without any, and a single sample of 4 in a folder below."""
    header = make_tokens(codebook_sizes=SIZES).header
    for name, positions in (("a", 3), ("c", 2)):
        with TokenWriter(tmp_path / f"{name}.tok", header) as writer:
            writer.append(make_tokens(2, SIZES, grid=(positions,), names=(f"{name}0", f"{name}1"), seed=positions))
    TokenWriter(tmp_path / "b.tok", header).close()
    (tmp_path / "sub").mkdir()
    make_tokens(1, SIZES, grid=(4,), names=("d0",)).save(tmp_path / "sub" / "d.tok")
    (tmp_path / "notes.txt").write_text("not tokens")
    return tmp_path


def test_items(folder):
    dataset = TokenDataset(folder, bos=True, eos=True)
    assert len(dataset) == 5
    assert [dataset[i]["name"] for i in range(5)] == ["a0", "a1", "c0", "c1", "d0"]
    assert dataset[-1]["name"] == "d0"
    assert (dataset.vocabulary_size, dataset.bos_id, dataset.eos_id) == (14, 12, 13)
    whole = make_tokens(2, SIZES, grid=(2,), seed=2).flatten(bos=True, eos=True)
    assert torch.equal(dataset[3]["ids"], whole[1])
    for i in (5, -6):
        with pytest.raises(IndexError):
            dataset[i]


def test_max_length_and_offset(folder):
    plain = TokenDataset(folder)[4]["ids"]
    assert torch.equal(TokenDataset(folder, bos=True, eos=True, max_length=4)[4]["ids"][1:], plain[:3])
    shifted = TokenDataset(folder, offset=100, bos=True)
    assert shifted[4]["ids"].tolist() == [112, *(plain + 100).tolist()]
    assert (shifted.vocabulary_size, shifted.eos_id) == (14, 113)


def test_collate(folder):
    dataset = TokenDataset(folder, eos=True)
    batch = dataset.collate([dataset[0], dataset[2]])
    assert batch["names"] == ["a0", "c0"]
    assert batch["mask"].tolist() == [[True] * 7, [True] * 5 + [False] * 2]
    assert batch["ids"][1, 5:].tolist() == [13, 13] and batch["ids"][1, 4] == 13
    assert batch["labels"][1, 4:].tolist() == [13, -100, -100]
    assert torch.equal(batch["labels"][0], dataset[0]["ids"])


def test_workers(folder):
    dataset = TokenDataset(folder)
    assert dataset[0]["name"] == "a0"
    loader = DataLoader(dataset, batch_size=2, num_workers=2, multiprocessing_context="fork", collate_fn=dataset.collate, shuffle=False)
    assert [name for batch in loader for name in batch["names"]] == ["a0", "a1", "c0", "c1", "d0"]


def test_pickle(folder):
    dataset = TokenDataset(folder, eos=True)
    assert dataset[0]["name"] == "a0"
    again = pickle.loads(pickle.dumps(dataset))
    assert torch.equal(again[4]["ids"], dataset[4]["ids"])


def test_few_files_are_open_at_a_time(folder, monkeypatch):
    monkeypatch.setattr(data_tokens, "_OPEN_FILES", 2)
    dataset = TokenDataset(folder)
    for i in (0, 2, 4, 0, 3, 1, 4):
        dataset[i]
    assert len(dataset._readers) == 2


def test_single_files(folder):
    assert len(TokenDataset(folder / "a.tok")) == 2
    names = [item["name"] for item in TokenDataset([folder / "sub" / "d.tok", str(folder / "a.tok")])]
    assert names == ["d0", "a0", "a1"]


@pytest.mark.parametrize("other", [{"codebook_sizes": (5, 8)}, {"codebook_sizes": SIZES, "fingerprint": "f" * 32}])
def test_one_tokenizer(folder, other):
    make_tokens(**other).save(folder / "z.tok")
    with pytest.raises(TokenFileError, match=r"z.tok: made by tokenizer.*one dataset holds one tokenizer's"):
        TokenDataset(folder)


def test_wrong_input(folder, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no token files"):
        TokenDataset(tmp_path / "empty")
    with pytest.raises(InputError, match="no such file"):
        TokenDataset(folder / "missing.tok")
    with pytest.raises(InputError, match="max_length"):
        TokenDataset(folder, max_length=0)
    with pytest.raises(TokenFileError, match="not by the one with fingerprint ffff"):
        TokenDataset(folder, expect_fingerprint="f" * 32)
    with pytest.raises(InputError, match="does not fit in an int64"):
        TokenDataset(folder, offset=2**63 - 5)
