"""The Fréchet distance against independent formulas on the same features, and its place in an evaluation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
import timm
import torch
from torch import Tensor

import tokkit
from tests.small import tokenizer
from tokkit.errors import InputError
from tokkit.evaluate.report import render
from tokkit.evaluate.result import Evaluation
from tokkit.evaluate.run import evaluate
from tokkit.metrics.base import MetricFailure
from tokkit.metrics.frechet import ALIASES, FrechetDistance, Moments, TimmFeatures, build_frechet, frechet_distance, is_frechet
from tokkit.modalities.base import Sample


def features(count: int, dim: int, seed: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return generator.normal(size=(count, dim)) @ generator.normal(size=(dim, dim)) + generator.normal(size=dim)


@pytest.mark.parametrize(("count", "dim"), [(400, 24), (20, 24)])
def test_it_equals_scipy_and_torch_fidelity_on_the_same_features(count: int, dim: int) -> None:
    first, second = features(count, dim, 0), features(count + 3, dim, 1)
    moments = []
    for vectors in (first, second):
        own = Moments(dim)
        for start in range(0, len(vectors), 7):
            own.update(vectors[start : start + 7])
        assert own.count == len(vectors)
        np.testing.assert_allclose(own.mean, vectors.mean(0), rtol=1e-12)
        np.testing.assert_allclose(own.covariance(), np.cov(vectors, rowvar=False), rtol=1e-9, atol=1e-12)
        moments.append(own)
    ours = frechet_distance(moments[0].mean, moments[0].covariance(), moments[1].mean, moments[1].covariance())
    mu, sigma = [v.mean(0) for v in (first, second)], [np.cov(v, rowvar=False) for v in (first, second)]
    root = scipy.linalg.sqrtm(sigma[0] @ sigma[1]).real
    expected = ((mu[0] - mu[1]) ** 2).sum() + np.trace(sigma[0] + sigma[1] - 2 * root)
    assert ours == pytest.approx(expected, rel=1e-6 if count > dim else 1e-3), "the root of a singular matrix is inexact in scipy"
    fidelity = pytest.importorskip("torch_fidelity.metric_fid")
    stats = [{"mu": m, "sigma": s} for m, s in zip(mu, sigma, strict=True)]
    theirs = fidelity.fid_statistics_to_metric(*stats, verbose=False)["frechet_inception_distance"]
    assert ours == pytest.approx(theirs, rel=1e-7)


def test_one_dimension_by_hand() -> None:
    one = np.array([[4.0]])
    assert frechet_distance(np.array([1.0]), one, np.array([3.0]), 9 * one) == pytest.approx((1 - 3) ** 2 + (2 - 6) ** 2)
    assert frechet_distance(np.array([1.0]), one, np.array([1.0]), one) == pytest.approx(0, abs=1e-12)


def coarse(pictures: Tensor) -> Tensor:
    """A stand-in for a backbone: 2 x 2 means."""
    return torch.nn.functional.adaptive_avg_pool2d(pictures.float(), 2).flatten(1)


def test_groups_are_kept_apart_and_pictures_rounded_to_8_bits() -> None:
    metric = FrechetDistance("fd/coarse", coarse)
    generator = torch.Generator().manual_seed(0)
    pictures = [torch.rand(3, 8 + index % 2, 8, generator=generator) for index in range(40)]
    for picture in pictures:
        metric.add("originals", picture)
        metric.add("same", (picture * 255).round() / 255)
        metric.add("brighter", picture * 0.9 + 0.1)
    assert metric.compute("originals", "same") == pytest.approx(0, abs=1e-6)
    count, mean, covariance = metric.moments("originals")
    rounded = torch.cat([coarse((picture * 255).round().byte()[None]) for picture in pictures]).double().numpy()
    assert count == 40
    np.testing.assert_allclose(mean, rounded.mean(0))
    np.testing.assert_allclose(covariance, np.cov(rounded, rowvar=False))
    assert metric.compute("originals", "brighter") > 100
    metric.add("one", pictures[0])
    for group in ("one", "nobody"):
        with pytest.raises(MetricFailure, match="fewer than two samples"):
            metric.compute("originals", group)
    with pytest.raises(MetricFailure, match="not finite"):
        metric.add("one", torch.full((3, 8, 8), torch.nan))


def test_a_backbone_of_timm_from_a_local_file(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = timm.create_model("test_vit", pretrained=False)
    torch.save(model.state_dict(), tmp_path / "vit.pth")
    metric = build_frechet(f"fd/test_vit@{tmp_path / 'vit.pth'}")
    assert metric.name == "fd/test_vit", "the file is not part of the name"
    assert isinstance(metric.features, TimmFeatures)
    pictures = torch.randint(256, (2, 3, 160, 160), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    model.reset_classifier(0)
    config = timm.data.resolve_model_data_config(model)
    mean, std = (torch.tensor(config[key]).view(3, 1, 1) for key in ("mean", "std"))
    expected = model.eval()((pictures.float() / 255 - mean) / std)
    torch.testing.assert_close(metric.features(pictures), expected)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("fd/no_such_net", "timm has no backbone 'no_such_net'"),
        ("fd/test_vit@nowhere.pth", r"weights nowhere\.pth are not there"),
        ("fd/test_vit", "timm's weights of test_vit are not there"),
        ("fid@nowhere", r"torch-fidelity is not installed|weights-inception-2015-12-05-6726825d\.pth"),
    ],
)
def test_what_is_missing_is_named(name: str, message: str) -> None:
    assert is_frechet(name)
    with pytest.raises(InputError, match=message):
        build_frechet(name)
    assert not is_frechet("psnr")


def test_short_names_are_timms() -> None:
    assert all(timm.is_model(name.partition(".")[0]) for name in ALIASES.values())


def test_it_is_part_of_an_evaluation(tmp_path: Path) -> None:
    samples = [Sample(torch.rand(3, 12, 10, generator=torch.Generator().manual_seed(seed)), f"s{seed}") for seed in range(4)]
    result = evaluate(tokenizer(), samples, metrics=["psnr", FrechetDistance("fd/coarse", coarse)], baselines=["jpeg"])
    assert set(result.sets) == {"small", "jpeg@same-bytes"}
    assert result.sets["small"]["fd/coarse"] > 0
    result.write_json(tmp_path / "e.json")
    assert Evaluation.from_json(tmp_path / "e.json").sets == result.sets
    assert "<th>fd/coarse</th>" in render(result)
    with pytest.raises(InputError, match="judges image, and this is audio"):
        from tests.evaluate.eval_fakes import Fake

        sound = Fake(lambda values: values)
        sound.modality = tokkit.build("modality", "audio")
        evaluate(sound, [], metrics=[FrechetDistance("fd/coarse", coarse)])
