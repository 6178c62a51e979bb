"""Quality of speech without a reference, by the package `speechmos`, which carries Microsoft's DNSMOS networks."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from tokkit.metrics.sound import SoundMetric, needed, samples_of
from tokkit.registry import register

MIN_SECONDS = 0.1


class Dnsmos(SoundMetric):
    """Predicted mean opinion score of the reconstruction, 1 to 5, at 16 kHz; the original is not looked at.

    Its networks judge 9 s at a time; shorter sounds are repeated, as Microsoft's script does.
    """

    higher_is_better: ClassVar[bool] = True
    rate: ClassVar[int | None] = 16000
    key: ClassVar[str]

    def prepare(self) -> None:
        self.package = needed(self.name, "speechmos.dnsmos")

    def channel(self, original: Tensor, reconstruction: Tensor) -> float:
        samples = samples_of(self.name, reconstruction.clamp(-1, 1), MIN_SECONDS, 16000)
        return float(self.package.run(samples, 16000)[self.key])


@register("metric", "dnsmos_p835_ovrl")
class DnsmosOverall(Dnsmos):
    """DNSMOS P.835, overall quality (https://arxiv.org/abs/2110.01763)."""

    name: ClassVar[str] = "dnsmos_p835_ovrl"
    key: ClassVar[str] = "ovrl_mos"


@register("metric", "dnsmos_p808")
class DnsmosP808(Dnsmos):
    """DNSMOS P.808 (https://arxiv.org/abs/2010.15258)."""

    name: ClassVar[str] = "dnsmos_p808"
    key: ClassVar[str] = "p808_mos"
