from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from eval_fakes import Fake, brighter, noisy, pictures
from typer.testing import CliRunner

from tokkit.cli.main import app
from tokkit.errors import InputError
from tokkit.evaluate.compare import compare
from tokkit.evaluate.result import Evaluation
from tokkit.evaluate.run import Options, evaluate

OPTIONS = Options(curve_samples=0)


def run(fake: Fake, count: int = 30) -> Evaluation:
    return evaluate(fake, pictures(count, size=24), metrics=["psnr", "mae", "ssim"], options=OPTIONS)


@pytest.fixture(scope="module")
def before() -> Evaluation:
    return run(Fake(noisy(0.05, seed=1)))


def test_other_noise_of_the_same_strength_is_no_regression(before: Evaluation) -> None:
    found = compare(before, run(Fake(noisy(0.05, seed=2))))
    assert found.n == 30
    assert [difference.name for difference in found.differences if difference.noticeable] == []
    assert found.regressions == []


def test_a_little_more_noise_is_a_regression_of_every_metric(before: Evaluation) -> None:
    found = compare(before, run(Fake(noisy(0.053, seed=2))))
    assert {difference.name for difference in found.regressions} == {"psnr", "mae", "ssim"}
    back = compare(run(Fake(noisy(0.053, seed=2))), before)
    assert back.regressions == []
    assert {difference.name for difference in back.differences if difference.better} == {"psnr", "mae", "ssim"}


def test_pairing_finds_what_the_spread_of_the_pictures_hides(before: Evaluation) -> None:
    spread = [{**row.values, "psnr": row.values["psnr"] + 20 * (index % 7)} for index, row in enumerate(before.rows)]

    def with_psnr(lowered: float) -> Evaluation:
        values = [{**each, "psnr": each["psnr"] - lowered} for each in spread]
        rows = [dataclasses.replace(row, values=own) for row, own in zip(before.rows, values, strict=True)]
        return dataclasses.replace(before, rows=rows)

    found = compare(with_psnr(0), with_psnr(0.1))
    assert [difference.name for difference in found.regressions] == ["psnr"]
    assert found.regressions[0].interval.mean == pytest.approx(-0.1)


def test_larger_files_are_a_regression(before: Evaluation) -> None:
    larger = [dataclasses.replace(row, file_bytes=row.file_bytes + 1) for row in before.rows]
    found = compare(before, dataclasses.replace(before, rows=larger))
    assert [difference.name for difference in found.regressions] == ["file_bytes"]


def test_unknown_sizes_of_files_are_not_compared(before: Evaluation) -> None:
    unknown = dataclasses.replace(before, rows=[dataclasses.replace(row, file_bytes=0) for row in before.rows])
    for pair, which in (((before, unknown), "second"), ((unknown, before), "first")):
        found = compare(*pair)
        assert "file_bytes" not in {difference.name for difference in found.differences} and not found.regressions
        assert found.notes == [f"file_bytes is not compared: the {which} evaluation does not know the size of its code"]
    assert not compare(unknown, unknown).notes


def test_new_failures_and_lost_perfection_are_regressions() -> None:
    perfect, lossy = run(Fake(lambda values: values), 6), run(Fake(brighter(0.1)), 6)
    found = compare(perfect, lossy)
    assert "psnr" in {difference.name for difference in found.regressions}
    failing = dataclasses.replace(lossy, rows=[dataclasses.replace(row, values={}, failures={"psnr": "no"}) for row in lossy.rows])
    assert {difference.name for difference in compare(lossy, failing).regressions} == {"psnr", "mae", "ssim"}
    assert compare(failing, lossy).regressions == []


def test_samples_are_paired_by_name_not_by_place(before: Evaluation) -> None:
    turned = dataclasses.replace(before, rows=before.rows[::-1][:-3])
    found = compare(before, turned)
    assert (found.n, found.only_before, found.only_after) == (27, 3, 0)
    assert not any(difference.noticeable for difference in found.differences)


def test_what_cannot_be_compared_is_refused(before: Evaluation) -> None:
    with pytest.raises(InputError, match="2 samples have the same names"):
        compare(before, run(Fake(brighter(0.1)), 2))
    with pytest.raises(InputError, match="no metric in common"):
        compare(before, dataclasses.replace(before, metrics=[]))
    with pytest.raises(InputError, match="of image, the other of audio"):
        compare(before, dataclasses.replace(before, modality="audio"))


def test_the_command_exits_1_on_a_regression_only(before: Evaluation, tmp_path: Path) -> None:
    good, bad = tmp_path / "good.json", tmp_path / "bad.json"
    before.write_json(good)
    run(Fake(noisy(0.1, seed=3))).write_json(bad)
    same = CliRunner().invoke(app, ["compare", str(good), str(good)])
    assert (same.exit_code, "no difference" in same.output) == (0, True)
    worse = CliRunner().invoke(app, ["compare", str(good), str(bad)])
    assert worse.exit_code == 1
    assert "psnr" in worse.output
    assert "worse" in worse.output
    assert CliRunner().invoke(app, ["compare", str(bad), str(good)]).exit_code == 0
