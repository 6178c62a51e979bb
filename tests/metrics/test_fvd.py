"""The Fréchet video distance: clips, TorchScript files like the public I3D, and functions."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import tokkit
from tokkit.errors import InputError
from tokkit.evaluate.adapters import FunctionSystem
from tokkit.evaluate.run import evaluate
from tokkit.metrics.base import MetricFailure
from tokkit.metrics.frechet import build_frechet, is_frechet
from tokkit.metrics.fvd import VideoFrechetDistance
from tokkit.metrics.moments import frechet_distance
from tokkit.modalities.base import Sample


class LikeI3D(nn.Module):
    """The public file's interface: [B, 3, T, H, W] from 0 to 255; features only when it is asked to scale and to give them."""

    def forward(self, x: Tensor, rescale: bool = False, resize: bool = False, return_features: bool = False) -> Tensor:
        if not (rescale and resize and return_features):
            x = x * 0
        means = x.mean([3, 4])
        return torch.cat([means.mean(2), means.std(2)], 1)


def means(clips: Tensor) -> Tensor:
    """Of each colour, and how much it changes."""
    return LikeI3D()(clips.float(), True, True, True)


def videos(count: int, frames: int = 9) -> list[Sample]:
    generator = torch.Generator().manual_seed(0)
    return [Sample(torch.rand(3, frames, 6, 8, generator=generator), f"v{index}", (25.0,)) for index in range(count)]


def test_a_sample_is_clips_that_follow_each_other() -> None:
    metric = VideoFrechetDistance("fvd4/means", means, frames=4)
    samples = videos(6)
    for sample in samples:
        metric.add("originals", sample.values, key=sample.name)
        metric.add("darker", sample.values * 0.7, key=sample.name)
    clips = [(sample.values[:, start : start + 4] * 255).round().byte() for sample in samples for start in (0, 4)]
    found = means(torch.stack(clips)).double().numpy()
    count, mean, covariance = metric.moments("originals")
    assert count == 12, "the ninth frame is left over"
    np.testing.assert_allclose(mean, found.mean(0))
    np.testing.assert_allclose(covariance, np.cov(found, rowvar=False), rtol=1e-6)
    darker = means(torch.stack([(clip.float() * 0.7).round().byte() for clip in clips])).double().numpy()
    expected = frechet_distance(mean, covariance, darker.mean(0), np.cov(darker, rowvar=False))
    assert metric.compute("originals", "darker") == pytest.approx(expected, rel=1e-2), "rounded twice here, once there"
    with pytest.raises(MetricFailure, match="3 frames is shorter than a clip"):
        metric.add("originals", samples[0].values[:, :3])


def test_a_torchscript_file_with_the_options_of_the_public_one_is_told_to_scale(tmp_path: Path) -> None:
    torch.jit.script(LikeI3D()).save(str(tmp_path / "i3d_torchscript.pt"))
    metric = build_frechet(f"fvd4/i3d@{tmp_path / 'i3d_torchscript.pt'}")
    assert (metric.name, metric.modality, metric.higher_is_better) == ("fvd4/i3d", "video", False)
    clips = torch.randint(256, (2, 3, 4, 6, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(metric.features(clips), means(clips))
    torch.jit.script(nn.Flatten()).save(str(tmp_path / "plain.pt"))
    plain = build_frechet(f"fvd4/flat@{tmp_path / 'plain.pt'}")
    torch.testing.assert_close(plain.features(clips), clips.float().flatten(1))


def test_a_function_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "their_features.py").write_text("def flat(clips):\n    return clips.float().flatten(1)[:, :5]\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert build_frechet("fvd2/flat@their_features:flat").features(torch.zeros(1, 3, 2, 4, 4)).shape == (1, 5)
    with pytest.raises(InputError, match="no attribute 'flatter'"):
        build_frechet("fvd2/flat@their_features:flatter")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("fvd16/i3d", "no features: write fvd16/NAME@FILE.pt"),
        ("fvd/i3d@x.pt", "write fvd16/NAME"),
        ("fvd16/i3d@i3d_torchscript.pt", "i3d_torchscript.pt are not there"),
        (f"fvd16/i3d@{__file__}", "holds no TorchScript network"),
    ],
)
def test_what_is_missing_is_named(name: str, message: str) -> None:
    assert is_frechet(name)
    with pytest.raises(InputError, match=message):
        build_frechet(name)


def test_it_is_part_of_an_evaluation_of_video_and_ranks_what_is_lost() -> None:
    video = tokkit.build("modality", "video")
    samples = videos(8, frames=4)
    distances = []
    for function in (lambda batch: batch, lambda batch: batch * 0.95, lambda batch: batch * 0.8):
        metric = VideoFrechetDistance("fvd2/means", means, frames=2)
        found = evaluate(FunctionSystem(function, video, name="theirs"), samples, metrics=[metric])
        distances.append(found.sets["theirs"]["fvd2/means"])
    assert distances[0] == pytest.approx(0, abs=1e-6) and distances[0] < distances[1] < distances[2]
