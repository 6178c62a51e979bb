"""What one process of a large evaluation has counted, in a folder: so that it goes on after an interruption, and others can join it.

Each process owns two files: `<n>.jsonl` has a line with the rows of every finished chunk of samples, `<n>.safetensors` the sums (moments of
features, histograms of codes) and which chunks they are of. Lines of other chunks are leftovers of an interruption and do not count.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from tokkit.errors import InputError
from tokkit.evaluate.result import Row, Skipped, plain
from tokkit.files import replacing

IDENTITY = "evaluation.json"


@dataclass
class Chunk:
    """What was found in some neighbouring samples.

    Attributes:
        numbers: of the samples that the judged system has rows of.
    """

    numbers: list[int] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


class Part:
    """The files of one process.

    Attributes:
        number: of the process.
        finished: the chunks that the sums are of.
    """

    def __init__(self, folder: Path, number: int):
        """
        Raises:
            InputError: a file is damaged.
        """
        self.number = number
        self._lines, self._sums = folder / f"{number}.jsonl", folder / f"{number}.safetensors"
        self.finished: list[int] = []
        if self._sums.exists():
            try:
                with safe_open(self._sums, "np") as file:
                    self.finished = json.loads((file.metadata() or {})["finished"])
            except (OSError, SafetensorError, ValueError, KeyError) as error:
                raise InputError(f"{self._sums}: damaged: {error}; remove it and {self._lines.name} to count them again") from error

    def sums(self) -> dict[str, NDArray[Any]]:
        """The sums as they were saved; none when nothing was."""
        if not self._sums.exists():
            return {}
        with safe_open(self._sums, "np") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no dict)

    def chunks(self) -> dict[int, Chunk]:
        """The finished chunks by number."""
        found: dict[int, Chunk] = {}
        lines = self._lines.read_bytes().split(b"\n")[:-1] if self._lines.exists() else []
        for line in lines:
            try:
                stored = json.loads(line)
                rows = [Row(**{**row, "values": {name: float(value) for name, value in row["values"].items()}}) for row in stored["rows"]]
                found[stored["chunk"]] = Chunk(stored["numbers"], rows, [Skipped(**entry) for entry in stored["skipped"]], stored["notes"])
            except (ValueError, KeyError, TypeError):
                continue  # cut short by an interruption; such a chunk is not in `finished`
        missing = [number for number in self.finished if number not in found]
        if missing:
            raise InputError(f"{self._lines}: the rows of {len(missing)} finished chunks are gone; remove it and {self._sums.name}")
        return {number: found[number] for number in self.finished}

    def begin(self) -> None:
        """Drop what an interruption left over, so that lines can be added."""
        kept = self.chunks()
        with replacing(self._lines) as part:
            part.write_text("".join(_line(number, chunk) for number, chunk in kept.items()), encoding="utf-8")

    def add(self, number: int, chunk: Chunk) -> None:
        """Write the rows of one more chunk; it is finished with the next `save`."""
        with self._lines.open("a", encoding="utf-8") as file:
            file.write(_line(number, chunk))

    def save(self, finished: list[int], sums: dict[str, NDArray[Any]]) -> None:
        """Replace the sums by those of all chunks so far."""
        with replacing(self._sums) as part:
            save_file({name: np.ascontiguousarray(array) for name, array in sums.items()}, part, {"finished": json.dumps(finished)})
        self.finished = finished


def all_parts(folder: Path) -> list[Part]:
    """The parts of every process that has ever worked here."""
    return [Part(folder, number) for number in sorted(int(path.stem) for path in folder.glob("*.safetensors") if path.stem.isdigit())]


def claim(folder: Path, identity: dict[str, Any]) -> None:
    """Make a folder the place of an evaluation, or check that it is.

    Raises:
        InputError: it belongs to another one.
    """
    path = folder / IDENTITY
    identity = json.loads(json.dumps(identity))
    if not path.exists():
        with replacing(path) as part:
            part.write_text(json.dumps(identity, indent=1) + "\n", encoding="utf-8")
        return
    try:
        owner = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: damaged: {error}") from error
    if owner != identity:
        changed = sorted(key for key in {*owner, *identity} if owner.get(key) != identity.get(key))
        raise InputError(f"{folder} belongs to another evaluation ({', '.join(changed)} differ); give another folder, or remove it")


def _line(number: int, chunk: Chunk) -> str:
    stored = {"chunk": number, **{entry.name: plain(getattr(chunk, entry.name)) for entry in dataclasses.fields(chunk)}}
    return json.dumps(stored, allow_nan=False) + "\n"
