"""Token files as sequences of ids, for training a language model on them. Reads codes only: knows no tokenizer."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

import torch
from torch.utils.data import Dataset

from tokkit.errors import InputError, TokenFileError
from tokkit.tokens import TokenReader
from tokkit.tokens.vocabulary import bos_id, check_vocabulary, eos_id, flatten_codes, vocabulary_size

_OPEN_FILES = 64


class TokenItem(TypedDict):
    """One sample: `ids` int64 `[L]` and its `name`."""

    ids: torch.Tensor
    name: str


class TokenBatch(TypedDict):
    """A padded batch.

    ids: int64 `[B, L]`, padded at the end with the EOS id, so that every id is one of the vocabulary.
    labels: int64 `[B, L]`, the same with the ignore index in the padding; not shifted.
    mask: bool `[B, L]`, False in the padding.
    names: of the samples.
    """

    ids: torch.Tensor
    labels: torch.Tensor
    mask: torch.Tensor
    names: list[str]


class TokenDataset(Dataset[TokenItem]):
    """A map-style dataset over token files: item i is the i-th sample as a sequence of ids (order: `flatten_codes`).

    Files are memory-mapped when first used, in each worker process, with at most 64 open at a time, so a folder may hold one
    large shard or a million small files. Use with `DataLoader(dataset, collate_fn=dataset.collate, num_workers=...)`.

    Args:
        files: a folder, searched for `*.tok` at any depth and sorted by path; or the files themselves, in this order.
        bos: begin each sequence with `bos_id`.
        eos: end each sequence with `eos_id`.
        max_length: keep only the first `max_length` ids of a sequence (EOS is cut off with the rest).
        offset: id of the first code; to put the vocabulary behind that of a text tokenizer.
        expect_fingerprint: refuse files of another tokenizer.

    Raises:
        InputError: no files, or a wrong option.
        TokenFileError: a file is damaged, or differs from the first in codebook sizes or fingerprint.
    """

    def __init__(
        self,
        files: str | Path | Sequence[str | Path],
        *,
        bos: bool = False,
        eos: bool = False,
        max_length: int | None = None,
        offset: int = 0,
        expect_fingerprint: str | None = None,
    ):
        if max_length is not None and max_length < 1:
            raise InputError(f"max_length must be at least 1, got {max_length}")
        self.files = _find(files)
        self.bos = bos
        self.eos = eos
        self.max_length = max_length
        self.offset = offset
        self._readers: dict[int, TokenReader] = {}
        self._ends: list[int] = []
        with TokenReader(self.files[0]) as reader:
            self.header = reader.header
        check_vocabulary(self.header.codebook_sizes, offset)
        for path in self.files:
            with TokenReader(path, expect_fingerprint=expect_fingerprint) as reader:
                self._refuse_another_tokenizer(reader)
                self._ends.append(len(self) + len(reader))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __getitem__(self, i: int) -> TokenItem:
        """Sample `i`. Raises IndexError, or DamagedSampleError when the file is damaged there."""
        if not -len(self) <= i < len(self):
            raise IndexError(f"sample {i} of {len(self)}")
        i %= len(self)
        number = bisect_right(self._ends, i)
        reader = self._reader(number)
        local = i - (self._ends[number - 1] if number else 0)
        info, codes = reader.read(local)
        ids = flatten_codes(torch.from_numpy(codes), self.header.codebook_sizes, bos=self.bos, eos=self.eos, offset=self.offset)
        return {"ids": ids[: self.max_length], "name": info.name}

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_readers": {}}

    @property
    def vocabulary_size(self) -> int:
        """Number of ids from `offset` on: Σ K_q, and 2 for BOS and EOS (counted whether used or not)."""
        return vocabulary_size(self.header.codebook_sizes)

    @property
    def bos_id(self) -> int:
        """The id that begins a sequence."""
        return bos_id(self.header.codebook_sizes, self.offset)

    @property
    def eos_id(self) -> int:
        """The id that ends a sequence, and pads a batch."""
        return eos_id(self.header.codebook_sizes, self.offset)

    def collate(self, items: Sequence[TokenItem], ignore_index: int = -100) -> TokenBatch:
        """Samples of different lengths as one batch.

        Args:
            items: of this dataset, at least one.
            ignore_index: label of the padding; -100 is what `torch.nn.functional.cross_entropy` leaves out.
        """
        sequences = [item["ids"] for item in items]
        lengths = torch.tensor([len(ids) for ids in sequences])
        ids = torch.nn.utils.rnn.pad_sequence(sequences, batch_first=True, padding_value=self.eos_id)
        mask = torch.arange(ids.shape[1]) < lengths[:, None]
        labels = ids.masked_fill(~mask, ignore_index)
        return {"ids": ids, "labels": labels, "mask": mask, "names": [item["name"] for item in items]}

    def _refuse_another_tokenizer(self, reader: TokenReader) -> None:
        first, own = self.header, reader.header
        if (own.codebook_sizes, own.fingerprint) != (first.codebook_sizes, first.fingerprint):
            raise TokenFileError(
                f"{reader.path}: made by tokenizer {own.tokenizer!r} ({own.fingerprint or 'no fingerprint'}) with codebook sizes "
                f"{own.codebook_sizes}, but {self.files[0]} by {first.tokenizer!r} "
                f"({first.fingerprint or 'no fingerprint'}) with {first.codebook_sizes}; one dataset holds one tokenizer's"
            )

    def _reader(self, number: int) -> TokenReader:
        """The reader of file `number`; the one unused for longest is dropped when too many are open."""
        reader = self._readers.pop(number) if number in self._readers else TokenReader(self.files[number])
        self._readers[number] = reader
        if len(self._readers) > _OPEN_FILES:
            del self._readers[next(iter(self._readers))]
        return reader


def _find(files: str | Path | Sequence[str | Path]) -> list[Path]:
    if not isinstance(files, str | Path):
        found = [Path(file) for file in files]
    elif Path(files).is_dir():
        found = sorted(Path(files).rglob("*.tok"))
    else:
        found = [Path(files)]
    if not found:
        raise InputError(f"no token files (*.tok) in {files}")
    return found
