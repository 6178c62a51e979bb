"""Finished pieces of work, one JSON line each, so that an interrupted run goes on where it was."""

from __future__ import annotations

import json
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tokkit.errors import InputError
from tokkit.files import make_folder


class Journal:
    """A file of key -> value lines below a first line that says whose they are. A line cut short by an interruption is dropped.

    Attributes:
        done: what was finished already, and what has been added since.
    """

    def __init__(self, path: Path, identity: dict[str, Any]):
        """
        Args:
            path: made where it is not there.
            identity: of the work; plain JSON values.

        Raises:
            InputError: the file belongs to other work.
        """
        self.done: dict[str, Any] = {}
        make_folder(path.parent)
        lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
        if lines:
            try:
                owner = json.loads(lines[0])
                self.done = {entry["key"]: entry["value"] for entry in map(json.loads, lines[1:])}
            except (ValueError, KeyError, TypeError) as error:
                raise InputError(f"{path}: damaged: {error}; remove it to start again") from error
            if owner != identity:
                changed = sorted(key for key in {*owner, *identity} if owner.get(key) != identity.get(key))
                raise InputError(f"{path} belongs to another run ({', '.join(changed)} differ); give another folder, or remove it")
        whole = b"".join(line + b"\n" for line in lines) or json.dumps(identity).encode() + b"\n"
        if not path.exists() or path.read_bytes() != whole:
            path.write_bytes(whole)
        self._file = path.open("a", encoding="utf-8")

    def add(self, key: str, value: Any) -> None:
        """Remember that a piece is finished."""
        self._file.write(json.dumps({"key": key, "value": value}) + "\n")
        self._file.flush()
        self.done[key] = value

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._file.close()
