"""Writing files so that nothing is lost: a temporary name beside the target, then a rename."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tokkit.errors import InputError


@contextmanager
def replacing(target: str | Path) -> Iterator[Path]:
    """A temporary path to write; it becomes `target` when the block ends well, and is removed when it does not."""
    target = Path(target)
    part = _fresh(target)
    try:
        yield part
        part.replace(target)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def refuse_overwrite(target: str | Path, *, force: bool) -> None:
    """Raise `InputError` when a file is there and `force` is not set."""
    if Path(target).exists() and not force:
        raise InputError(f"{target} exists; pass --force (force=True) to replace it")


def _fresh(target: Path) -> Path:
    """A new, empty file beside the target, with the permissions that any new file has."""
    target.parent.mkdir(parents=True, exist_ok=True)
    while True:
        part = target.with_name(f".{target.name}.{secrets.token_hex(4)}{target.suffix}")
        try:
            os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        except FileExistsError:
            continue
        return part
