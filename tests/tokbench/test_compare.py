"""Intervals of TokBench's scores, and two of its results against their noise."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from tokkit.bench.tokbench.compare import compare_results
from tokkit.bench.tokbench.run import Result
from tokkit.bench.tokbench.scores import TEXT_EDGES, bucket_scores, resampled
from tokkit.cli.main import app
from tokkit.errors import InputError


def result(path: Path, right: float, *, seed: int, pictures: int = 60, setting: int = 256, lower: float = 0.0) -> Path:
    """Twelve words a picture, read with a probability that differs from picture to picture around `right`."""
    drawn = np.random.default_rng(0)
    read = np.random.default_rng(seed)
    scored = []
    for picture in range(pictures):
        level = np.clip(right + drawn.normal(0, 0.15), 0, 1) - lower
        for ratio in (0.02, 0.03, 0.04) * 4:
            scored.append((ratio, float(read.random() < level), f"p{picture}"))
    found = Result("m", setting, {"setting": setting, "data": "d"})
    found.scores["t_acc/rapidocr"] = bucket_scores(scored, TEXT_EDGES[256])
    found.write_json(path)
    return path


def test_the_interval_is_over_pictures_and_wider_than_over_words() -> None:
    generator = np.random.default_rng(0)
    right = generator.random(40) < 0.5
    words = [(ratio, float(right[picture]), f"p{picture}") for picture in range(40) for ratio in (0.02, 0.03, 0.04) * 5]
    together, apart = bucket_scores(words, TEXT_EDGES[256]), bucket_scores([word[:2] for word in words], TEXT_EDGES[256])
    assert together.mean == apart.mean and together.interval is not None and apart.interval is not None
    assert together.interval[0] < (together.mean or 0) < together.interval[1]
    widths = [score.interval[1] - score.interval[0] for score in (together, apart) if score.interval]
    assert widths[0] > 3 * widths[1], "all words of a picture are alike here, 15 of them"
    spread = np.std(resampled(list(together.pictures.values())))
    assert spread == pytest.approx(np.sqrt((together.mean or 0) * (1 - (together.mean or 0)) / 40), rel=0.1)
    assert bucket_scores([(0.02, 1.0, "a"), (0.02, 0.0, "b")], TEXT_EDGES[256]).interval is None, "no mean"


def test_other_readings_of_the_same_quality_are_no_regression_and_worse_ones_are(tmp_path: Path) -> None:
    before = result(tmp_path / "a.json", 0.7, seed=1)
    same = compare_results(before, result(tmp_path / "b.json", 0.7, seed=2))
    assert (same.n, same.only_before, same.only_after) == (60, 0, 0) and not same.regressions
    worse = compare_results(before, result(tmp_path / "c.json", 0.7, seed=3, lower=0.12))
    (found,) = worse.regressions
    assert found.name == "t_acc/rapidocr" and found.interval.mean == pytest.approx(-0.12, abs=0.05)
    assert not compare_results(tmp_path / "c.json", before).regressions


def test_the_command_exits_1_on_a_regression_only(tmp_path: Path) -> None:
    good, bad = str(result(tmp_path / "a.json", 0.8, seed=1)), str(result(tmp_path / "b.json", 0.8, seed=1, lower=0.3))
    assert CliRunner().invoke(app, ["compare", good, good]).exit_code == 0
    worse = CliRunner().invoke(app, ["compare", good, bad])
    assert worse.exit_code == 1 and "t_acc/rapidocr" in worse.output
    assert CliRunner().invoke(app, ["compare", bad, good]).exit_code == 0


def test_what_cannot_be_compared_is_told(tmp_path: Path) -> None:
    before = result(tmp_path / "a.json", 0.8, seed=1)
    with pytest.raises(InputError, match="another setting: 256 and 512"):
        compare_results(before, result(tmp_path / "b.json", 0.8, seed=1, setting=512))
    few = compare_results(result(tmp_path / "c.json", 0.8, seed=1, pictures=3), before)
    assert "3 pictures in common" in few.notes[0] and not few.differences
    stored = json.loads(before.read_text())
    del stored["scores"]["t_acc/rapidocr"]["pictures"]
    (tmp_path / "old.json").write_text(json.dumps(stored))
    with pytest.raises(InputError, match="without the scores of its pictures"):
        compare_results(before, tmp_path / "old.json")
