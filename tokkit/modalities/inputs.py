"""Opening what a user names as input, with one clear error for everything that is not a readable file."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from tokkit.errors import InputError


@contextmanager
def opened(file: str | Path | BinaryIO, name: str = "") -> Iterator[tuple[BinaryIO, str]]:
    """A seekable binary file at its start, and what messages call it. A file object stays open.

    Args:
        file: a path or a binary file object.
        name: what messages call a file object; its own name when not given.

    Raises:
        InputError: a path that is missing, a folder, not a regular file or not readable; or no bytes at all.
    """
    if not isinstance(file, str | Path):
        label = name or str(getattr(file, "name", "the given file object"))
        data = file.read()
        if not data:
            raise InputError(f"{label}: empty, 0 bytes")
        yield io.BytesIO(data), label
        return
    path = Path(file)
    if path.is_dir():
        raise InputError(f"{path}: a folder, expected a file")
    if not path.exists():
        raise InputError(f"{path}: no such file")
    if not path.is_file():
        raise InputError(f"{path}: not a regular file")
    try:
        stream = path.open("rb")
    except OSError as error:
        raise InputError(f"{path}: cannot open: {error.strerror or error}") from error
    with stream:
        if not stream.read(1):
            raise InputError(f"{path}: empty, 0 bytes")
        stream.seek(0)
        yield stream, str(path)
