"""Reading token files: memory-mapped, one sample at a time. Imports torch only when codes are asked for."""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable, Iterator
from functools import cached_property
from operator import index as as_index
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tokkit.errors import InputError, TokenFileError
from tokkit.tokens.cursor import Malformed
from tokkit.tokens.header import decode_header
from tokkit.tokens.index import decode_index
from tokkit.tokens.payload import MAX_FREE_CODES, unpack_codes
from tokkit.tokens.record import SampleInfo, check_record, decode_info
from tokkit.tokens.scan import scan

if TYPE_CHECKING:
    from tokkit.tokens.tokens import Tokens

_READ_AT_ONCE = 2**16


class DamagedSampleError(TokenFileError):
    """One sample of a token file that cannot be read; the others may be fine.

    Args:
        path: the file.
        sample: number of the sample in the file, from 0.
        offset: byte of the file at which the problem was found.
        problem: what is wrong.
    """

    def __init__(self, path: Path, sample: int, offset: int, problem: str):
        self.path = path
        self.sample = sample
        self.offset = offset
        self.problem = problem
        super().__init__(path, sample, offset, problem)

    def __str__(self) -> str:
        return f"{self.path}: sample {self.sample}, byte {self.offset}: {self.problem}"


class TokenReader:
    """Random access to the samples of a token file. `len(reader)`, `reader[i]`, and iteration in order.

    The file is memory-mapped read-only: a reader costs one file descriptor and the index (8 bytes a sample) whatever the
    file's size, may be shared by forked workers, and opens the file anew when unpickled. A file of at most 64 KiB is read at
    once instead, so that thousands of one-sample files can be open. Replace a token file by renaming (as `TokenWriter`
    does); one that is shortened in place while mapped ends the process, as with any mapped file.

    Args:
        path: the token file.
        expect_fingerprint: refuse a file of another tokenizer.
        salvage: read what is left of a file whose index is missing or damaged, by walking from sample to sample;
            `index_error` then says what is wrong with it.

    Raises:
        InputError: there is no such file, or it cannot be opened.
        TokenFileError: it is no token file, of another version or tokenizer, its header is damaged, or its index is and
            `salvage` is off.
    """

    def __init__(self, path: str | Path, *, expect_fingerprint: str | None = None, salvage: bool = False):
        self.path = Path(path)
        self.index_error: TokenFileError | None = None
        self._buffer = _map(self.path)
        self._salvage = salvage
        try:
            self.header, first = decode_header(self._buffer)
        except Malformed as error:
            raise TokenFileError(f"{self.path}: {error}") from error
        if expect_fingerprint is not None:
            self._check_fingerprint(expect_fingerprint)
        try:
            self._offsets = decode_index(self._buffer, first)
        except Malformed as error:
            if not salvage:
                hint = "TokenReader(path, salvage=True) reads the samples that are left"
                raise TokenFileError(f"{self.path}: {error} ({hint})") from error
            self._offsets, problem = scan(self.header, self._buffer, first)
            rest = f"; sample {len(self)} and any after it are lost: {problem}" if problem else ""
            self.index_error = TokenFileError(f"{self.path}: {error}; {len(self)} samples were found without it{rest}")

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def __getitem__(self, i: int) -> Tokens:
        """Sample `i` as `Tokens` with B = 1. Raises IndexError, or DamagedSampleError when it is damaged."""
        info, codes = self.read(i)
        return self._tokens([info], codes[None])

    def __iter__(self) -> Iterator[Tokens]:
        return map(self.__getitem__, range(len(self)))

    def __enter__(self) -> TokenReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __reduce__(self) -> tuple[Callable[..., TokenReader], tuple[Path, bool]]:
        return _reopen, (self.path, self._salvage)

    def close(self) -> None:
        """Give the file back. The reader cannot be used after it."""
        if isinstance(self._buffer, mmap.mmap):
            self._buffer.close()

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The names of all samples; the first use walks the whole file. Raises DamagedSampleError."""
        return tuple(self.info(i).name for i in range(len(self)))

    def info(self, i: int) -> SampleInfo:
        """What the file says about sample `i` beside its codes, checked. Raises IndexError or DamagedSampleError."""
        i = self._number(i)
        start, end = int(self._offsets[i]), int(self._offsets[i + 1])
        try:
            check_record(self._buffer, start, end)
            info = decode_info(self.header, self._buffer, start, end)
            if info.end != end:
                raise Malformed(info.end, f"the sample ends here, but the index says that it ends at byte {end}")
        except Malformed as error:
            raise DamagedSampleError(self.path, i, error.offset, error.problem) from error
        return info

    def read(self, i: int) -> tuple[SampleInfo, np.ndarray]:
        """Sample `i` without torch: what `info` says, and the codes, int64 `[N, Q]`. Raises as `info` does."""
        info = self.info(i)
        return info, self._decode(i, info)

    def read_intact(self, report: Callable[[TokenFileError], object]) -> Iterator[Tokens]:
        """All samples that can be read, in order.

        Args:
            report: called with the index's error, if it is damaged, and with the DamagedSampleError of each sample that is
                skipped; `list.append`, say.
        """
        if self.index_error:
            report(self.index_error)
        for i in range(len(self)):
            try:
                tokens = self[i]
            except DamagedSampleError as error:
                report(error)
            else:
                yield tokens

    def load(self) -> Tokens:
        """All samples as one `Tokens`.

        Raises:
            TokenFileError: there are no samples, or they differ in grid or number of positions.
            DamagedSampleError: one of them is damaged.
        """
        if not len(self):
            raise TokenFileError(f"{self.path}: holds no samples")
        infos = [self.info(i) for i in range(len(self))]
        first = infos[0]
        for i, info in enumerate(infos):
            if (info.grid, info.positions) != (first.grid, first.positions):
                raise TokenFileError(
                    f"{self.path}: sample {i} has grid {info.grid} and {info.positions} positions, sample 0 has "
                    f"{first.grid} and {first.positions}; Tokens holds one grid: read them one by one with TokenReader"
                )
        if len(self) * first.positions * self.header.free_levels > MAX_FREE_CODES:
            raise TokenFileError(f"{self.path}: too many codes that take no bits; read the samples with TokenReader")
        codes = np.empty((len(self), first.positions, len(self.header.codebook_sizes)), dtype=np.int64)
        for i, info in enumerate(infos):
            codes[i] = self._decode(i, info)
        return self._tokens(infos, codes)

    def _decode(self, i: int, info: SampleInfo) -> np.ndarray:
        try:
            return unpack_codes(self.header, self._buffer[info.payload : info.payload_end], info.positions)
        except InputError as error:
            raise DamagedSampleError(self.path, self._number(i), info.payload, str(error)) from error

    def _tokens(self, infos: list[SampleInfo], codes: np.ndarray) -> Tokens:
        import torch

        from tokkit.tokens.tokens import Tokens

        return Tokens(
            codes=torch.from_numpy(codes),
            codebook_sizes=self.header.codebook_sizes,
            grid=infos[0].grid,
            modality=self.header.modality,
            tokenizer=self.header.tokenizer,
            fingerprint=self.header.fingerprint,
            sizes=tuple(info.size for info in infos),
            names=tuple(info.name for info in infos),
            sample_rate=self.header.sample_rate,
            extra_fields=self.header.extra_fields,
            extras=tuple(info.extras for info in infos),
        )

    def _number(self, i: int) -> int:
        number = as_index(i)
        number += len(self) if number < 0 else 0
        if not 0 <= number < len(self):
            raise IndexError(f"{self.path}: sample {i} of {len(self)}")
        return number

    def _check_fingerprint(self, expected: str) -> None:
        header = self.header
        if header.fingerprint != expected:
            raise TokenFileError(
                f"{self.path}: made by tokenizer {header.tokenizer!r} with fingerprint {header.fingerprint or 'none'}, "
                f"not by the one with fingerprint {expected or 'none'}"
            )


def _reopen(path: Path, salvage: bool) -> TokenReader:
    return TokenReader(path, salvage=salvage)


def _map(path: Path) -> bytes | mmap.mmap:
    """The bytes of a regular file (a pipe would make us wait), mapped unless it is small."""
    try:
        if not path.is_file():
            raise InputError(f"{path}: no such file" if not path.exists() else f"{path}: not a file")
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_size <= _READ_AT_ONCE:
                return file.read()
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
