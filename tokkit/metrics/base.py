"""What every metric is: a number for one original and its reconstruction, its definition in its name."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

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

    @abstractmethod
    def __call__(self, original: Tensor, reconstruction: Tensor) -> float:
        """The metric of one pair [C, *spatial] in the public range of the modality."""


class MetricFailure(Exception):
    """This metric has no value for this sample; the message says why."""
