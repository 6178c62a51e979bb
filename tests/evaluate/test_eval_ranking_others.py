"""An identity, a blurring and a shuffling tokenizer must come out in this order: by metrics of sound, of shapes, and of whole sets."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from eval_fakes import Fake, pictures
from torch import Tensor
from torchvision.transforms.functional import gaussian_blur

import tokkit
from tests.evaluate.test_eval_ranking import shuffled
from tokkit.data.primitives import primitive
from tokkit.data.tones import Tones
from tokkit.errors import InputError
from tokkit.evaluate.run import Options, build_for, evaluate
from tokkit.evaluate.systems import Coded, System
from tokkit.metrics.frechet import FrechetDistance
from tokkit.modalities.base import Modality, Sample

Change = Callable[[Tensor], Tensor]


class Changed(System):
    """Gives back what a function makes of the values."""

    def __init__(self, function: Change, modality: Modality):
        self.name, self.function, self.modality = "changed", function, modality

    def code(self, samples: Sequence[Sample]) -> list[Coded]:
        return [Coded(self.function(sample.values), 0, 0) for sample in samples]


def low_pass(sound: Tensor) -> Tensor:
    """The mean of 3 samples."""
    return torch.nn.functional.avg_pool1d(sound[None], 3, stride=1, padding=1, count_include_pad=False)[0]


def mixed_up(sound: Tensor) -> Tensor:
    """Pieces of 10 ms out of order."""
    length = sound.shape[1] // 240 * 240
    order = torch.randperm(length // 240, generator=torch.Generator().manual_seed(0))
    return torch.cat([sound[:, :length].view(-1, length // 240, 240)[:, order].flatten(1), sound[:, length:]], 1)


def shaken(strength: float) -> Change:
    """Corners of triangles moved, those at the same place alike."""

    def move(mesh: Tensor) -> Tensor:
        corners = mesh.T.reshape(-1, 3)
        places, index = corners.round(decimals=5).unique(dim=0, return_inverse=True)
        noise = torch.randn(len(places), 3, generator=torch.Generator().manual_seed(0), dtype=corners.dtype)
        return (corners + strength * noise[index]).reshape(-1, 9).T

    return move


SOUNDS = ("mel_distance_22k", "stft_distance_22k", "si_sdr", "pesq_wb_16k", "pesq_nb_8k", "stoi", "estoi")
SHAPES = ("chamfer_l1", "chamfer_l1_sum", "chamfer_l2", "fscore_0.02", "fscore_0.05", "iou_volume", "normal_consistency")


def ranked(names: Sequence[str], modality: Modality, sample: Sample, changes: Sequence[Change]) -> None:
    """Every metric puts the changes into this order, the first one being best."""
    try:
        metrics = [build_for("metric", name, modality) for name in names]
    except InputError as error:
        pytest.skip(str(error))
    options = Options(curve_samples=0, worst=0, others=0)
    found = [evaluate(Changed(change, modality), [sample], metrics=metrics, options=options).summary()[0].metrics for change in changes]
    for metric in metrics:
        columns = [each[metric.name] for each in found]
        assert not any(column.n_failed for column in columns), metric.name
        values = [float("inf") if column.n_infinite else column.interval.mean for column in columns]
        signed = [value if metric.higher_is_better else -value for value in values if value is not None]
        assert len(set(signed)) == len(changes) and signed == sorted(signed, reverse=True), (metric.name, values)


@pytest.mark.parametrize("names", [SOUNDS[:3], SOUNDS[3:5], SOUNDS[5:]], ids=" ".join)
def test_sound(names: Sequence[str]) -> None:
    modality: Modality = tokkit.build("modality", "audio", sample_rate=24000)
    values = Tones(seconds=1.0, seed=3).open(modality).sample(0).values
    ranked(names, modality, Sample(values, "s"), [lambda sound: sound, low_pass, mixed_up])


def test_shapes() -> None:
    modality: Modality = tokkit.build("modality", "mesh")
    values = torch.from_numpy(primitive(0, 2).reshape(-1, 9).T.copy())
    ranked(SHAPES, modality, modality.samples(values)[0], [lambda mesh: mesh, shaken(0.01), shaken(0.2)])


def test_whole_sets() -> None:
    def spread(batch: Tensor) -> Tensor:
        halves = batch.float().flatten(1).chunk(2, 1)
        return torch.stack([statistic for half in halves for statistic in (half.mean(1), half.diff(dim=1).abs().mean(1))], 1)

    found = []
    for change in (lambda values: values, lambda values: gaussian_blur(values, [3, 3], [0.5, 0.5]), shuffled):
        metric = FrechetDistance("fd/spread", spread)
        result = evaluate(Fake(change), pictures(12, size=24), metrics=[metric], options=Options(curve_samples=0, worst=0, others=0))
        found.append(result.sets["fake"]["fd/spread"])
    assert found[0] < 1e-6 < found[1] < found[2]
