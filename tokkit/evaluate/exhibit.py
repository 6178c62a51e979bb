"""How a report shows samples. One modality, one class, one line in `EXHIBITS`; a modality without one is shown in numbers only."""

from __future__ import annotations

import base64
import importlib
import io
from abc import ABC, abstractmethod
from collections.abc import Callable
from html import escape
from typing import ClassVar

from PIL import Image
from torch import Tensor

from tokkit.evaluate.result import Case, Row
from tokkit.modalities.base import Modality

EXHIBITS = {
    "image": "tokkit.evaluate.pictures:Pictures",
    "audio": "tokkit.evaluate.sounds:Sounds",
    "video": "tokkit.evaluate.films:Films",
    "mesh": "tokkit.evaluate.shapes:Shapes",
}
"""Modality -> class, imported when it is needed."""


class Exhibit(ABC):
    """Base of what shows samples.

    Attributes:
        title: of the section of the report.
        hint: how to look at it, a sentence.
        page: HTML that the report needs once, after everything else: a viewer, with its style and script.
    """

    title: ClassVar[str]
    hint: ClassVar[str]
    page: ClassVar[str] = ""

    def __init__(self, modality: Modality):
        self.modality = modality

    @abstractmethod
    def keep(self, original: Tensor, reconstructions: dict[str, Tensor], system: str) -> tuple[Tensor, dict[str, Tensor]]:
        """What of a sample stays in memory until the report is written: not more than a report can hold.

        Args:
            original: [C, *spatial] in the public range.
            reconstructions: of every system that could make one.
            system: the judged one, whose errors say what part is worth showing.
        """

    @abstractmethod
    def strip(self, case: Case, system: str, facts: Callable[[Row], str]) -> str:
        """The figures of a case, as HTML: the original, the judged system's, what differs, the others'.

        Args:
            case: with what `keep` gave.
            system: the judged one.
            facts: a line about a row.
        """


def exhibit_for(modality: Modality) -> Exhibit | None:
    """What shows samples of this modality; None where nothing does."""
    target = EXHIBITS.get(modality.name)
    if target is None:
        return None
    module, _, name = target.partition(":")
    cls: type[Exhibit] = getattr(importlib.import_module(module), name)
    return cls(modality)


def figure(values: Tensor, name: str, facts: str, below: str = "") -> str:
    """A uint8 picture [C, H, W] that a click enlarges, its name and a line of facts; `below` is HTML between them."""
    image = f'<img src="{data_uri(values)}" alt="{escape(name)}" width="{values.shape[2]}" height="{values.shape[1]}">'
    return (
        f'<figure data-name="{escape(name)}"><button class="open" aria-label="zoom {escape(name)}">{image}</button>{below}'
        f"<figcaption>{escape(name)}<small>{escape(facts)}</small></figcaption></figure>"
    )


def data_uri(values: Tensor) -> str:
    """A uint8 picture [C, H, W], lossless."""
    pixels = values.permute(1, 2, 0).numpy()
    file = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
