"""Bits of token streams whose entropy is known, and flips of codes."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from trimesh import creation
from typer.testing import CliRunner

from tests.small import pictures, tokenizer
from tokkit.bench.codes import coded_bits, disturbances, level_bits, measure_codes, predict
from tokkit.cli.main import app
from tokkit.errors import InputError
from tokkit.modalities.mesh import Mesh, from_trimesh


def uniform(count: int, length: int, *sizes: int) -> list[np.ndarray]:
    generator = np.random.default_rng(0)
    return [np.stack([generator.integers(0, size, length) for size in sizes], -1) for _ in range(count)]


def test_the_smoothed_probabilities_by_hand() -> None:
    contexts, codes = np.array([0, 0, 0, 1]), np.array([2, 2, 3, 1])
    base = np.full(4, 0.25)
    left_out, heldout, s = predict((contexts, codes, base), (np.array([0, 0, 1, 2]), np.array([2, 0, 1, 3]), base), 4)
    np.testing.assert_allclose(left_out, (np.array([1, 1, 0, 0]) + s / 4) / (np.array([2, 2, 2, 0]) + s))
    np.testing.assert_allclose(heldout, (np.array([2, 0, 1, 0]) + s / 4) / (np.array([3, 3, 1, 0]) + s))
    others = [np.log2((np.array([1, 1, 0, 0]) + t / 4) / (np.array([2, 2, 2, 0]) + t)).sum() for t in (s / 4, s * 4)]
    assert np.log2(left_out).sum() >= max(others), "the likeliest strength"


def test_codes_at_random_need_all_their_bits() -> None:
    (level,) = level_bits(uniform(20, 500, 6), uniform(20, 500, 6), (6,))
    assert level.nominal == 3
    assert level.heldout == pytest.approx([math.log2(6)] * 3, abs=0.01)
    assert level.coded is None or level.coded == pytest.approx(math.log2(6), abs=0.02)


def test_frequencies_are_used_by_order_0() -> None:
    generator = np.random.default_rng(1)
    drawn = [generator.choice(4, (1000, 1), p=[0.5, 0.25, 0.125, 0.125]) for _ in range(20)]
    (level,) = level_bits(drawn[::2], drawn[1::2], (4,))
    assert level.heldout[0] == pytest.approx(1.75, abs=0.02)
    assert level.coded is None or level.coded == pytest.approx(level.heldout[0], abs=0.01), "the real coder reaches the model's bits"


def test_one_or_two_tokens_before_tell_the_next() -> None:
    alternating = [np.arange(start, start + 400)[:, None] % 2 for start in (0, 1, 0, 1)]
    (level,) = level_bits(alternating, alternating, (2,))
    assert level.heldout[0] == pytest.approx(1, abs=0.01) and level.heldout[1] < 0.01
    pattern = np.tile([0, 0, 1, 1], 100)[:, None]
    (level,) = level_bits([pattern], [pattern], (2,))
    assert level.heldout[0] == pytest.approx(1, abs=0.01) == pytest.approx(level.heldout[1], abs=0.02) and level.heldout[2] < 0.05


def test_codebooks_of_one_position_are_read_in_order() -> None:
    first = np.random.default_rng(0).integers(0, 4, (8, 300))
    copied = [np.stack([row, row], -1) for row in first]
    one, two = level_bits(copied[::2], copied[1::2], (4, 4))
    assert one.heldout == pytest.approx([2] * 3, abs=0.05), "what was before says nothing"
    assert two.heldout[0] == pytest.approx(2, abs=0.05) and two.heldout[1] < 0.05, "the codebook before says all"


def test_a_large_codebook_with_few_codes_costs_hardly_more_than_nominal() -> None:
    (level,) = level_bits(uniform(2, 50, 65536), uniform(2, 50, 65536), (65536,))
    assert level.heldout[0] <= 16.1 and level.heldout[2] <= 16.1


def test_the_coder_writes_whole_words() -> None:
    pytest.importorskip("constriction")
    codes = np.random.default_rng(0).integers(0, 2, 64)
    bits = coded_bits(codes, np.array([0.5, 0.5]))
    assert bits is not None and 64 <= bits * 64 <= 128 and bits * 64 % 32 == 0


def test_disturbances_are_what_they_say() -> None:
    torch.manual_seed(0)
    model = tokenizer()
    values = pictures(1, 32, 32)[0]
    found = dict(disturbances(model.modality, values, 0))
    assert torch.equal(found["shift by 1"][..., 1:], values[..., :-1])
    assert (found["noise of 1/255"] - values).std() * 255 == pytest.approx(1, abs=0.1)
    assert all(other.shape == values.shape and other.min() >= 0 and other.max() <= 1 for other in found.values())
    smooth = torch.linspace(0, 1, 1024).view(1, 32, 32).expand(3, -1, -1)
    worse = {name: (other - smooth).abs().mean() for name, other in disturbances(model.modality, smooth, 0)}
    assert worse["JPEG of quality 90"] < worse["JPEG of quality 50"]


def test_noise_moves_the_vertices_of_a_shape_and_does_not_tear_it() -> None:
    values = from_trimesh(creation.icosphere(1)) + 100
    ((name, moved),) = disturbances(Mesh(), values, 0)
    assert name == "noise at 40 dB" and 0.003 < (moved - values).std() < 0.01
    assert len(moved.T.reshape(-1, 3).unique(dim=0)) == len(values.T.reshape(-1, 3).unique(dim=0)) == 42
    cloud = torch.rand(6, 50)
    ((_, other),) = disturbances(Mesh(), cloud, 0)
    assert torch.equal(other[3:], cloud[3:]) and not torch.equal(other[:3], cloud[:3])


def test_a_tokenizer_is_measured() -> None:
    model = tokenizer()
    report = measure_codes(model, list(pictures(6, 16, 12)), disturbed=3)
    assert (report.samples, report.heldout, report.tokens) == (6, 3, 6 * 48)
    assert report.rates["nominal"] == 8 * 48 / (16 * 12)
    assert report.rates["order 0"] <= report.rates["nominal"] * 1.02
    assert list(report.flips) == ["noise of 1/255", "noise of 4/255", "shift by 1", "JPEG of quality 90", "JPEG of quality 50"]
    assert 0 <= report.flips["noise of 1/255"] <= report.flips["noise of 4/255"] <= 1 and report.flips["shift by 1"] > 0.3
    with pytest.raises(InputError, match="1 samples; one half is held out"):
        measure_codes(model, list(pictures(1)))


def test_the_command(tmp_path: Path) -> None:
    tokenizer().save(tmp_path / "model")
    for index, values in enumerate(pictures(3, 16, 12)):
        Image.fromarray((values * 255).byte().permute(1, 2, 0).numpy()).save(tmp_path / f"{index}.png")
    done = CliRunner().invoke(
        app, ["bench", "codes", str(tmp_path / "model"), str(tmp_path), "--device", "cpu", "--json", f"{tmp_path}/c.json"]
    )
    assert done.exit_code == 0, done.output
    assert "bits/pixel" in done.output and "shift by 1" in done.output
    stored = json.loads((tmp_path / "c.json").read_text())
    assert stored["levels"][0]["size"] == 200 and stored["provenance"]["versions"]["tokkit"]
