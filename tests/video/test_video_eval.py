"""Metrics of video by values known beforehand, codecs beside a tokenizer, and the report."""

from __future__ import annotations

import base64
import io
import math
import re
from pathlib import Path

import PIL.Image
import pytest
import torch

import tokkit
from tests.video.moving import moving, tokenizer
from tokkit.cli.eval import find_data
from tokkit.errors import InputError
from tokkit.evaluate.report import render
from tokkit.evaluate.run import DEFAULT_METRICS, Options, evaluate
from tokkit.metrics.base import MetricFailure


def metric(name: str) -> tokkit.metrics.base.Metric:
    return tokkit.build("metric", name)


def test_metrics_by_hand() -> None:
    original = moving(5, 16, 16) * 0.5
    shifted = original + 0.1
    assert metric("psnr_clip")(original, shifted) == pytest.approx(20, abs=1e-4)
    assert metric("psnr_frames")(original, shifted) == pytest.approx(20, abs=1e-4)
    assert metric("psnr_differences")(original, shifted) > 100, "an error that stays is none of the change"
    one_bad = original.clone()
    one_bad[:, 2] += 0.1
    assert metric("psnr_worst_frame")(original, one_bad) == pytest.approx(20, abs=1e-4)
    assert metric("psnr_clip")(original, one_bad) == pytest.approx(20 + 10 * math.log10(5), abs=1e-4)
    assert metric("psnr_frames")(original, one_bad) == math.inf
    assert metric("psnr_differences")(original, one_bad) == pytest.approx(20 - 10 * math.log10(2 / 4), abs=1e-4)
    noise = 0.05 * torch.randn(3, 5, 16, 16, generator=torch.Generator().manual_seed(0))
    assert metric("psnr_differences")(original, original + noise) == pytest.approx(
        metric("psnr_clip")(original, original + noise) - 3.01, abs=0.2
    )
    picture = tokkit.build("metric", "ssim")
    pairs = [picture(original[:, index], one_bad[:, index]) for index in range(5)]
    assert metric("ssim_frames")(original, one_bad) == pytest.approx(sum(pairs) / 5)


def test_flicker_is_judged_where_the_original_stands_still() -> None:
    original = moving(1, 16, 16).repeat(1, 4, 1, 1)
    original[:, :, :8] = moving(4, 8, 16)
    pulsing = original.clone()
    pulsing[:, 1::2, 8:] += 10 / 255
    pulsing[:, :, :8] += torch.rand(3, 4, 8, 16)
    assert metric("flicker_still")(original, pulsing) == pytest.approx(10, rel=0.02)
    assert metric("flicker_still")(original, original + 0.1) == pytest.approx(0, abs=1e-4)
    for name in ("flicker_still", "psnr_differences"):
        with pytest.raises(MetricFailure, match=f"{name}: a single frame"):
            metric(name)(original[:, :1], original[:, :1])
    with pytest.raises(MetricFailure, match="stand still"):
        metric("flicker_still")(moving(4, 8, 8), moving(4, 8, 8))


@pytest.mark.parametrize("name", ["h264", "h265", "av1"])
def test_codecs_keep_the_size_and_meet_a_budget(name: str) -> None:
    codec = tokkit.build("baseline", name)
    values = moving(5, 48, 64)
    best = codec.decode(codec.encode(values, codec.qualities[1]))
    assert best.shape == values.shape and (best - values).square().mean() < 2e-3
    budget = len(codec.encode(values, 30))
    fitted = codec.fit(values, budget)
    assert len(fitted.data) <= budget and fitted.quality >= 30 and not fitted.over_budget
    assert codec.fit(values, 20).over_budget
    assert codec.decode(codec.encode(values[:, :1], 30)).shape == (3, 1, 48, 64)
    assert name in codec.library or codec.encoder in codec.library
    with pytest.raises(InputError, match=f"{name}: "):
        codec.encode(values[:1], 30)
    narrow = moving(9, 48, 40)  # x265's AVX code ends the process here, were it used
    assert codec.decode(codec.encode(narrow, 16)).shape == narrow.shape
    odd = values[:, :2, :33, :21]
    if name == "av1":
        with pytest.raises(InputError, match="even sizes"):
            codec.encode(odd, 30)
    else:
        assert codec.decode(codec.encode(odd, 30)).shape == odd.shape


def test_notes_that_a_decoder_does_not_need_are_not_counted() -> None:
    data = tokkit.build("baseline", "h264").encode(moving(2, 16, 16), 20)
    assert b"x264" not in data and {unit[0] & 31 for unit in data.split(b"\0\0\1")[1:]} <= {1, 5, 7, 8}


def test_an_evaluation_and_its_report() -> None:
    videos = [moving(6, 40, 32, seed=seed) for seed in range(2)]
    names = [name for name in DEFAULT_METRICS["video"] if "lpips" not in name]
    result = evaluate(
        tokenizer(), [torch.stack(videos)], metrics=names, baselines=["h264"], options=Options(worst=1, others=1, curve_samples=1)
    )
    own, codec = result.summary()
    assert result.unit == "pixel" and own.n == codec.n == 2
    assert own.payload_rate.mean == pytest.approx(3 * 10 * 8 * 8 / (6 * 40 * 32)), "8 bits for each of the cells of 3 x 10 x 8"
    assert all(row.extent == 6 * 40 * 32 for row in result.rows)
    page = render(result)
    assert "<h2>Videos</h2>" in page and "left to right: original, small" in page
    (first, *_) = re.findall(r'src="data:image/webp;base64,([^"]+)"', page)
    film = PIL.Image.open(io.BytesIO(base64.b64decode(first)))
    assert (film.size, film.n_frames) == ((4 * 32, 40), 6)


def test_a_folder_of_frames_is_a_sample_of_an_evaluation(tmp_path: Path) -> None:
    modality = tokkit.build("modality", "video")
    modality.write(tmp_path / "frames", moving(2, 16, 16))
    named = find_data(modality, [str(tmp_path / "frames")])
    result = evaluate(tokenizer(), named, metrics=["psnr_clip"], options=Options(curve_samples=0))
    assert [row.extent for row in result.rows] == [2 * 16 * 16]
