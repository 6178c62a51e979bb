"""What the tests of large evaluations evaluate: pictures of two sizes, one of them unreadable, through a tokenizer and JPEG."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tests.small import tokenizer
from tokkit.evaluate.run import Options
from tokkit.metrics.frechet import FrechetDistance
from tokkit.modalities.base import Sample
from tokkit.tokenizer import Tokenizer


def coarse(pictures: Tensor) -> Tensor:
    """A stand-in for a backbone: 2 x 2 means."""
    return torch.nn.functional.adaptive_avg_pool2d(pictures.float(), 2).flatten(1)


def samples() -> list[Any]:
    generator = torch.Generator().manual_seed(0)
    found: list[Any] = [Sample(torch.rand(3, 12, 10 + 2 * (index % 3 == 0), generator=generator), f"s{index}") for index in range(26)]
    found.insert(7, "no such picture.png")
    return found


class CASE:
    """The system and the options, the same in every process."""

    @staticmethod
    def system() -> Tokenizer:
        torch.manual_seed(0)
        return tokenizer()

    @staticmethod
    def options() -> dict[str, Any]:
        metrics = ["psnr", FrechetDistance("fd/coarse", coarse)]
        return {"metrics": metrics, "baselines": ["jpeg"], "options": Options(batch_size=2, curve_samples=5, worst=3, others=2)}
