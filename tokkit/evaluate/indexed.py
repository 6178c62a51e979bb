"""Inputs any of which can be had at any time, by number."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

from tokkit.data.base import Source
from tokkit.errors import InputError
from tokkit.evaluate.result import Skipped
from tokkit.evaluate.run import read_samples
from tokkit.modalities.base import Modality, Sample


class Indexed:
    """Opened sources, and whatever else the modality takes as one sample each, one after the other.

    Attributes:
        digest: 16 hexadecimal digits that name the inputs (their options, paths and numbers, not what is in them).
    """

    def __init__(self, modality: Modality, inputs: Source | Iterable[Any], *, limit: int | None = None):
        """
        Raises:
            InputError: there is nothing.
        """
        self.modality = modality
        items = [inputs] if isinstance(inputs, Source) else list(inputs)
        self._places = [(item, index) for item in items for index in (range(len(item)) if isinstance(item, Source) else (None,))][:limit]
        if not self._places:
            raise InputError("nothing to evaluate: no samples were given")
        named = [(_name(item), index) for item, index in self._places]
        self.digest = hashlib.sha256(repr(named).encode()).hexdigest()[:16]

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, number: int) -> Sample | Skipped:
        item, index = self._places[number]
        if index is not None:
            try:
                found: Sample = item.sample(index)
            except InputError as error:
                return Skipped(f"sample {index}", "", str(error))
            return found
        read = list(read_samples(self.modality, [item]))
        if len(read) == 1:
            return read[0]
        return Skipped(_name(item), "", f"holds {len(read)} samples; name each by itself, so that it can be had by its number")


def _name(item: Any) -> str:
    if isinstance(item, Source):
        options = {key: value for key, value in vars(item).items() if isinstance(value, str | int | float | bool)}
        return f"{type(item).__name__} {sorted(options.items())} {len(item)}"
    if isinstance(item, Sample):
        return item.name
    return str(item) if isinstance(item, str) or hasattr(item, "__fspath__") else type(item).__name__
