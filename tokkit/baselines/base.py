"""What every baseline is: a classical codec, judged beside a tokenizer at the same number of bytes. Knows tensors and bytes only."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor


@dataclass(frozen=True)
class Fitted:
    """One sample, coded within a budget of bytes.

    Attributes:
        data: the whole file.
        quality: that made it.
        over_budget: even the lowest quality takes more than the budget; `data` is then that one.
    """

    data: bytes
    quality: int
    over_budget: bool


class Baseline(ABC):
    """Base of baselines. Where a codec's library is not there, its constructor raises `InputError` naming it.

    Attributes:
        name: such as "jpeg".
        modality: of the samples it codes.
        qualities: the lowest and the highest quality, both included; higher means more bytes.
        sweep: the qualities of a rate-distortion curve, rising.
    """

    kind: ClassVar[str] = "baseline"
    name: ClassVar[str]
    modality: ClassVar[str]
    qualities: ClassVar[tuple[int, int]]
    sweep: ClassVar[tuple[int, ...]]

    @abstractmethod
    def encode(self, values: Tensor, quality: int) -> bytes:
        """One sample [C, *spatial] in the public range of the modality as the bytes of a file."""

    @abstractmethod
    def decode(self, data: bytes) -> Tensor:
        """The bytes of a file as [C, *spatial] in the public range, on the CPU."""

    @property
    def library(self) -> str:
        """The library that does the work and its version, for the record of an evaluation."""
        return ""

    def fit(self, values: Tensor, budget: int) -> Fitted:
        """The best quality whose file takes at most `budget` bytes; the lowest quality where none does.

        The search halves the range of qualities: it takes sizes to rise with quality, and where a codec's do not, it ends at a quality
        that fits and whose next one does not.
        """
        low, high = self.qualities
        best = Fitted(self.encode(values, low), low, False)
        if len(best.data) > budget:
            return Fitted(best.data, low, True)
        while low < high:
            middle = (low + high + 1) // 2
            data = self.encode(values, middle)
            if len(data) <= budget:
                low, best = middle, Fitted(data, middle, False)
            else:
                high = middle - 1
        return best
