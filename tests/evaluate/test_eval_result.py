from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import pytest

from tokkit.errors import InputError
from tokkit.evaluate.result import Curve, Evaluation, MetricInfo, Point, Row, Skipped


@pytest.fixture
def evaluation() -> Evaluation:
    """Three samples through a tokenizer, two of them through JPEG; small enough to reckon by hand."""

    def row(sample: str, system: str, file_bytes: int, psnr: float | None, *, over_budget: bool = False) -> Row:
        values = {} if psnr is None else {"psnr": psnr}
        failures = {"psnr": "no pixels"} if psnr is None else {}
        return Row(
            sample=sample,
            system=system,
            extent=100.0,
            payload_bits=8 * file_bytes - 80,
            file_bytes=file_bytes,
            over_budget=over_budget,
            values=values,
            failures=failures,
        )

    return Evaluation(
        model={"name": "tok"},
        modality="image",
        unit="pixel",
        metrics=[MetricInfo("psnr", "dB", True)],
        settings={"seed": 0, "level": 0.95, "baselines": ["jpeg"]},
        rows=[
            row("a", "tok", 20, 30.0),
            row("a", "jpeg@same-bytes", 19, 25.0),
            row("b", "tok", 30, 34.0),
            row("b", "jpeg@same-bytes", 60, None, over_budget=True),
            row("c", "tok", 40, math.inf),
        ],
        skipped=[Skipped("c", "jpeg@same-bytes", "too large"), Skipped("d", "", "damaged")],
        usage=[{"size": 4, "tokens": 9, "used": 0.75, "entropy": 1.5, "perplexity": 2.8}],
        curves=[Curve("jpeg", "quality", [Point(5, 0.2, 19.0, 2, {"psnr": 25.0})])],
    )


def test_the_summary_is_what_one_reckons(evaluation: Evaluation) -> None:
    own, jpeg = evaluation.summary()
    assert (own.system, own.n, own.n_skipped, own.n_over_budget) == ("tok", 3, 1, 0)
    assert own.file_bytes.mean == pytest.approx(30)
    assert own.file_rate.mean == pytest.approx(8 * 30 / 100)
    assert own.payload_rate.mean == pytest.approx((8 * 30 - 80) / 100)
    psnr = own.metrics["psnr"]
    assert (psnr.interval.mean, psnr.interval.n, psnr.n_infinite, psnr.n_failed) == (32.0, 2, 1, 0)
    assert (jpeg.n, jpeg.n_skipped, jpeg.n_over_budget) == (2, 2, 1)
    failed = jpeg.metrics["psnr"]
    assert (failed.interval.mean, failed.interval.n, failed.n_failed) == (25.0, 1, 1)
    assert jpeg.file_bytes.mean == pytest.approx(39.5)


def test_the_json_file_has_everything_and_comes_back(evaluation: Evaluation, tmp_path: Path) -> None:
    path = tmp_path / "e.json"
    evaluation.write_json(path)

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    stored = json.loads(path.read_text(), parse_constant=refuse)
    assert (stored["format"], stored["version"]) == ("tokkit-evaluation", 1)
    keys = {
        "model",
        "modality",
        "unit",
        "metrics",
        "settings",
        "summary",
        "rows",
        "skipped",
        "usage",
        "sets",
        "set_metrics",
        "folds",
        "curves",
        "provenance",
        "notes",
    }
    assert set(stored) == keys | {"format", "version"}
    assert stored["summary"][0]["metrics"]["psnr"]["interval"]["mean"] == 32.0
    assert stored["rows"][4]["values"] == {"psnr": "inf"}
    assert stored["rows"][3]["failures"] == {"psnr": "no pixels"}
    assert Evaluation.from_json(path).to_dict() == evaluation.to_dict()


def test_the_csv_file_leaves_failures_empty(evaluation: Evaluation, tmp_path: Path) -> None:
    path = tmp_path / "e.csv"
    evaluation.write_csv(path)
    lines = list(csv.DictReader(path.open(encoding="utf-8", newline="")))
    assert [line["psnr"] for line in lines] == ["30.0", "25.0", "34.0", "", "inf"]
    assert lines[3]["failures"] == "psnr: no pixels"
    assert lines[3]["over_budget"] == "1"
    assert lines[0]["payload_bits_per_pixel"] == "0.8"


def test_results_are_not_replaced_unasked(evaluation: Evaluation, tmp_path: Path) -> None:
    path = tmp_path / "e"
    path.write_text("mine")
    for write in (evaluation.write_json, evaluation.write_csv):
        with pytest.raises(InputError, match="exists"):
            write(path)
    assert path.read_text() == "mine"
    evaluation.write_json(path, force=True)
    assert path.read_text() != "mine"


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"format": "tokkit-evaluation", "version": 1}', '{"format": "tokkit-evaluation", "version": 2}']
)
def test_another_file_is_refused(content: str, tmp_path: Path) -> None:
    path = tmp_path / "other.json"
    path.write_text(content)
    with pytest.raises(InputError, match=r"other\.json"):
        Evaluation.from_json(path)


def test_a_damaged_row_is_refused(evaluation: Evaluation, tmp_path: Path) -> None:
    stored = evaluation.to_dict()
    stored["rows"][0]["values"] = {"psnr": "high"}
    path = tmp_path / "e.json"
    path.write_text(json.dumps(stored))
    with pytest.raises(InputError, match="damaged"):
        Evaluation.from_json(path)
