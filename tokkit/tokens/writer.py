"""Writing token files: one sample after another into a temporary file that gets its name when it is complete."""

from __future__ import annotations

import fcntl
import mmap
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from tokkit.errors import InputError
from tokkit.files import refuse_overwrite, writing
from tokkit.tokens.cursor import Malformed
from tokkit.tokens.header import TokenHeader, decode_header, encode_header
from tokkit.tokens.index import encode_index
from tokkit.tokens.payload import pack_codes
from tokkit.tokens.record import check_record, decode_info, encode_record
from tokkit.tokens.scan import scan

if TYPE_CHECKING:
    from tokkit.tokens.tokens import Tokens


class TokenWriter:
    """Appends samples, of any grids, to one token file. A context manager.

    Samples go to `<path>.part`, which is renamed to `path` when the `with` block ends. When it ends by an exception, or the
    process is killed, the samples so far stay in `<path>.part`: `resume=True` goes on behind the last intact one, whose
    names are in `resumed`; without it the next writer begins anew. Two processes cannot write to the same path.

    Args:
        path: the file to make.
        header: what all samples share; `tokens.header` of the first ones, say.
        force: replace an existing file.
        resume: go on with `<path>.part` if there is one.

    Raises:
        InputError: the file exists, cannot be made, is being written by another process, or the part to go on with has
            another header.
    """

    def __init__(self, path: str | Path, header: TokenHeader, *, force: bool = False, resume: bool = False):
        self.path = Path(path)
        self.header = header
        self.resumed: tuple[str, ...] = ()
        self._force = force
        self._part = self.path.with_name(self.path.name + ".part")
        self._first = len(encode_header(header))
        self._lengths: list[int] = []
        refuse_overwrite(self.path, force=force)
        self._file = _open_alone(self._part)
        try:
            if not (resume and self._resume()):
                self._file.truncate(0)
                self._file.write(encode_header(header))
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> TokenWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()

    def __len__(self) -> int:
        return len(self._lengths)

    def append(self, tokens: Tokens) -> None:
        """Add all samples of `tokens`. Raises InputError when they do not fit the header, before any is written."""
        difference = tokens.header.difference(self.header)
        if difference:
            raise InputError(f"{self.path}: the tokens have {difference} of the file")
        for record in encode_samples(tokens):
            self._file.write(record)
            self._lengths.append(len(record))

    def close(self) -> None:
        """Write the index and give the file its name. Does nothing when already closed."""
        if self._file.closed:
            return
        with self._file:
            self._file.flush()
            if os.fstat(self._file.fileno()).st_size != self._first + sum(self._lengths):
                raise InputError(f"{self._part}: a write to it failed; use resume=True to keep the intact samples")
            self._file.write(encode_index(self._lengths))
            self._file.flush()
            os.fsync(self._file.fileno())
            refuse_overwrite(self.path, force=self._force)
            self._part.replace(self.path)

    def abort(self) -> None:
        """Stop without making the file. `<path>.part` stays if it holds samples, for `resume`."""
        if self._file.closed:
            return
        with self._file:
            if not self._lengths:
                self._part.unlink(missing_ok=True)

    def _resume(self) -> bool:
        """Take over the intact samples at the start of the part. False when there is nothing to take over."""
        if not self._part.stat().st_size:
            return False
        with mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ) as part:
            try:
                header, end = decode_header(part)
            except Malformed as error:
                if encode_header(self.header).startswith(part[:]):
                    return False
                raise InputError(f"{self._part}: cannot resume: {error}; delete it to begin anew") from error
            difference = header.difference(self.header)
            if difference:
                raise InputError(f"{self._part}: cannot resume: it has {difference}; delete it to begin anew")
            offsets, _ = scan(header, part, end)
            names = []
            for start, stop in zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True):
                try:
                    check_record(part, start, stop)
                except Malformed:
                    break
                names.append(decode_info(header, part, start, stop).name)
                self._lengths.append(stop - start)
                end = stop
        self.resumed = tuple(names)
        self._file.truncate(end)
        return True


def save_tokens(tokens: Tokens, path: Path, force: bool) -> None:
    """Write all samples of `tokens` as one token file, whole or not at all. Raises InputError."""
    refuse_overwrite(path, force=force)
    if not len(tokens):
        raise InputError(f"{path}: there are no samples to save")
    _write(path, tokens.header, encode_samples(tokens))


def save_each(tokens: Tokens, paths: Sequence[Path], force: bool) -> list[InputError | None]:
    """Write each sample as a token file of its own, packed together.

    Args:
        tokens: B samples.
        paths: where each goes.
        force: replace existing files.

    Returns:
        What went wrong with each; None where nothing did.
    """
    try:
        records = encode_samples(tokens)
    except InputError as error:
        return [error] * len(paths)
    failures: list[InputError | None] = []
    for path, record in zip(paths, records, strict=True):
        try:
            refuse_overwrite(path, force=force)
            _write(path, tokens.header, [record])
        except InputError as error:
            failures.append(error)
        else:
            failures.append(None)
    return failures


def _write(path: Path, header: TokenHeader, records: list[bytes]) -> None:
    try:
        with writing(path) as file:
            file.writelines([encode_header(header), *records, encode_index([len(record) for record in records])])
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror}") from error


def encode_samples(tokens: Tokens) -> list[bytes]:
    """Each sample of `tokens` as the bytes of its record. Raises InputError."""
    packed = pack_codes(tokens.header, tokens.codes.cpu().numpy())
    positions = tokens.codes.shape[1]
    samples = zip(tokens.names, tokens.sizes, tokens.extras, packed, strict=True)
    return [encode_record(name, tokens.grid, positions, size, extras, row.tobytes()) for name, size, extras, row in samples]


def _open_alone(part: Path) -> BinaryIO:
    """Open for appending, with a lock that lasts until it is closed. Raises InputError when another process has it."""
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        file = part.open("a+b")
    except OSError as error:
        raise InputError(f"{part}: cannot be written: {error.strerror}") from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        taken = not os.path.samestat(os.fstat(file.fileno()), part.stat())
    except (BlockingIOError, FileNotFoundError):
        taken = True
    except OSError:
        taken = False  # a file system without locks
    if taken:
        file.close()
        raise InputError(f"{part}: another process is writing this file")
    return file
