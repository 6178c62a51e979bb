"""Writing files so that nothing is lost: a temporary name beside the target, then a rename."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from tokkit.errors import InputError


@contextmanager
def replacing(target: str | Path) -> Iterator[Path]:
    """A temporary path to write; it becomes `target` when the block ends well, and is removed when it does not."""
    target = Path(target)
    with writing(target) as file:
        file.close()
        yield Path(file.name)


@contextmanager
def writing(target: str | Path) -> Iterator[BinaryIO]:
    """As `replacing`, the new file open for writing: many small files are written in a fraction of the time that opening each again takes,
    since file systems answer the truncation of a file by writing it out at once."""
    target = Path(target)
    file = _fresh(target)
    part = Path(file.name)
    try:
        with file:
            yield file
        part.replace(target)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def refuse_overwrite(target: str | Path, *, force: bool) -> None:
    """Raise `InputError` when a file is there and `force` is not set."""
    if Path(target).exists() and not force:
        raise InputError(f"{target} exists; pass --force (force=True) to replace it")


def make_folder(folder: str | Path) -> None:
    """The folder and those above it, where they are missing.

    Raises:
        InputError: the system does not allow it.
    """
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: cannot make this folder: {error.strerror or error}; give a place where folders can be made") from error


def refuse_unwritable(target: str | Path, *, force: bool) -> None:
    """Before long work: raise `InputError` where its result could not be written in the end. Folders that are missing are made.

    Raises:
        InputError: as `refuse_overwrite`; `target` is a folder; no file can be made there.
    """
    target = Path(target)
    if target.is_dir():
        raise InputError(f"{target} is a folder; name a file in it")
    refuse_overwrite(target, force=force)
    with _fresh(target) as file:
        Path(file.name).unlink()


def _fresh(target: Path) -> BinaryIO:
    """A new, empty file beside the target, with the permissions that any new file has.

    Raises:
        InputError: the system does not allow one there.
    """
    try:
        return _made(target)
    except OSError as error:
        raise InputError(f"{target}: cannot be written: {error.strerror or error}; give a place where files can be made") from error


def _made(target: Path) -> BinaryIO:
    made = False
    while True:
        try:
            return target.with_name(f".{target.name}.{secrets.token_hex(4)}{target.suffix}").open("xb")
        except FileExistsError:
            continue
        except FileNotFoundError:
            if made:
                raise
            target.parent.mkdir(parents=True, exist_ok=True)
            made = True
