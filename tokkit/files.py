"""Writing files so that nothing is lost: a temporary name beside the target, then a rename."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tokkit.errors import InputError


@contextmanager
def replacing(target: str | Path) -> Iterator[Path]:
    """A temporary path to write; it becomes `target` when the block ends well, and is removed when it does not."""
    target = Path(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=target.suffix, dir=target.parent)
    os.close(handle)
    part = Path(name)
    try:
        yield part
        part.chmod(0o666 & ~_umask())
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def refuse_overwrite(target: str | Path, *, force: bool) -> None:
    """Raise `InputError` when a file is there and `force` is not set."""
    if Path(target).exists() and not force:
        raise InputError(f"{target} exists; pass --force (force=True) to replace it")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
