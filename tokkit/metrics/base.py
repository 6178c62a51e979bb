"""What every metric is: a number for one original and its reconstruction, its definition in its name."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from typing import ClassVar

import torch
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


class SetMetric(ABC):
    """Base of metrics of whole sets: one number for all reconstructions of a system against all originals.

    Samples are handed over one by one, each under the group that it belongs to; memory does not grow with their number.

    Attributes:
        name, unit, higher_is_better, modality: as in `Metric`.
    """

    name: str
    unit: ClassVar[str] = ""
    higher_is_better: ClassVar[bool]
    modality: str

    @abstractmethod
    def add(self, group: str, sample: Tensor) -> None:
        """Count one sample [C, *spatial] in the public range of the modality.

        Raises:
            MetricFailure: it cannot be counted.
        """

    @abstractmethod
    def compute(self, reference: str, group: str) -> float:
        """The metric of one group against another.

        Raises:
            MetricFailure: one of them has too few samples.
        """
