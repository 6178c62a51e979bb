"""An identity, a slightly and a strongly blurred, and a shuffling tokenizer must come out in this order, by every metric of pictures."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from eval_fakes import Fake, pictures
from torch import Tensor
from torchvision.transforms.functional import gaussian_blur

import tokkit
from tokkit import registry
from tokkit.errors import InputError
from tokkit.evaluate.run import Options, evaluate
from tokkit.metrics.base import Metric


def shuffled(values: Tensor) -> Tensor:
    """Every pixel somewhere else."""
    order = torch.randperm(values[0].numel(), generator=torch.Generator().manual_seed(0))
    return values.flatten(1)[:, order].view_as(values)


SYSTEMS: dict[str, Callable[[Tensor], Tensor]] = {
    "identity": lambda values: values,
    "slightly blurred": lambda values: gaussian_blur(values, [3, 3], [0.5, 0.5]),
    "strongly blurred": lambda values: gaussian_blur(values, [13, 13], [3.0, 3.0]),
    "shuffled": shuffled,
}
METRICS = [name for name in tokkit.names("metric") if getattr(registry.get("metric", name), "modality", "") == "image"]

PLACELESS = {"patch_spectrum"}
"""Metrics that do not ask where details are: to them a shuffled picture is one with too much detail, not the worst."""


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_ranks_them(name: str) -> None:
    try:
        metric: Metric = registry.build("metric", name)
    except InputError as error:
        pytest.skip(str(error))
    samples = pictures(1, size=176)
    options = Options(curve_samples=0, worst=0, others=0)
    found = []
    for system in SYSTEMS.values():
        column = evaluate(Fake(system), samples, metrics=[metric], options=options).summary()[0].metrics[name]
        assert column.n_failed == 0
        mean = column.interval.mean
        found.append(float("inf") if mean is None and column.n_infinite else mean)
    signed = [value if metric.higher_is_better else -value for value in found if value is not None]
    assert len(signed) == len(SYSTEMS)
    if name in PLACELESS:
        assert signed.pop() < signed[0]
    assert signed == sorted(signed, reverse=True)
    assert len(set(signed)) == len(signed)
