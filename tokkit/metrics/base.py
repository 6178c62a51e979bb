"""What every metric is: a number for one original and its reconstruction, its definition in its name."""

from __future__ import annotations

import zlib
from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from numpy.typing import NDArray
from torch import Tensor


class Metric(ABC):
    """Base of metrics.

    A metric is built once for a run. Where it needs weights that are not there, its constructor raises `InputError` naming the file.
    A sample it cannot be computed for raises `MetricFailure`, which the harness counts: never 0 or 1 in its place.

    Attributes:
        name: the key in tables, which states the definition ("lpips_vgg").
        unit: such as "dB", or "".
        higher_is_better: the direction.
        modality: the modality that it judges.
    """

    kind: ClassVar[str] = "metric"
    name: ClassVar[str]
    unit: ClassVar[str] = ""
    higher_is_better: ClassVar[bool]
    modality: ClassVar[str]

    def __init__(self) -> None:
        """A metric without options; one with options declares its own."""
        super().__init__()

    @abstractmethod
    def __call__(self, original: Tensor, reconstruction: Tensor) -> float:
        """The metric of one pair [C, *spatial] in the public range of the modality."""

    def with_text(self, original: Tensor, reconstruction: Tensor, text: str | None) -> float:
        """What evaluation calls: the metric, for those that look at words with the text beside the sample."""
        return self(original, reconstruction)


class MetricFailure(Exception):
    """This metric has no value for this sample; the message says why."""


def exact_convolutions() -> AbstractContextManager[None]:
    """Inside it a GPU convolves in fp32, not TF32, whose error is larger than what metrics are compared by."""
    return torch.backends.cudnn.flags(enabled=True, allow_tf32=False)


def check_pair(metric: str, original: Tensor, reconstruction: Tensor) -> None:
    """Refuse a pair that a metric would give a meaningless number for.

    Raises:
        MetricFailure: the shapes differ, there are no values, or some are not finite.
    """
    if original.shape != reconstruction.shape:
        raise MetricFailure(f"{metric}: the original is {tuple(original.shape)} and the reconstruction {tuple(reconstruction.shape)}")
    if not original.numel():
        raise MetricFailure(f"{metric}: no values to compare, the shape is {tuple(original.shape)}")
    for which, values in (("original", original), ("reconstruction", reconstruction)):
        if not values.isfinite().all():
            raise MetricFailure(f"{metric}: the {which} has values that are not finite")


BLOCKS = 10
"""Blocks of samples that a `SetMetric` can be computed without, one at a time."""


@dataclass(frozen=True)
class Fold:
    """A metric of a set without one of its blocks, which holds `n` samples."""

    block: int
    n: int
    value: float


def block_of(key: str) -> int:
    """The block of a sample: the same in every evaluation that has a sample of that name."""
    return zlib.crc32(key.encode()) % BLOCKS


class SetMetric(ABC):
    """Base of metrics of whole sets: one number for all reconstructions of a system against all originals.

    Samples are handed over one by one, each under the group that it belongs to; memory does not grow with their number. What several
    processes, or an interrupted run, have counted is put together by `state` and `join`.

    Attributes:
        name, unit, higher_is_better, modality: as in `Metric`.
    """

    name: str
    unit: ClassVar[str] = ""
    higher_is_better: ClassVar[bool]
    modality: str

    @abstractmethod
    def add(self, group: str, sample: Tensor, *, key: str = "") -> None:
        """Count one sample [C, *spatial] in the public range of the modality.

        Args:
            group: that it belongs to.
            sample: the values.
            key: its name, which says in which block it is; without one, blocks are filled in turn.

        Raises:
            MetricFailure: it cannot be counted.
        """

    @abstractmethod
    def compute(self, reference: str, group: str) -> float:
        """The metric of one group against another.

        Raises:
            MetricFailure: one of them has too few samples.
        """

    def folds(self, reference: str, group: str) -> list[Fold]:
        """The metric without each of the blocks, for a jackknife; [] where its noise cannot be told.

        Raises:
            MetricFailure: one of them has too few samples.
        """
        return []

    @abstractmethod
    def state(self) -> dict[str, NDArray[Any]]:
        """Everything that was counted, as arrays."""

    @abstractmethod
    def join(self, state: dict[str, NDArray[Any]]) -> None:
        """Count what another one has counted."""
