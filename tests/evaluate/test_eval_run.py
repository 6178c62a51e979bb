from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from eval_fakes import Fake, OnlyLarge, brighter, pictures

import tokkit
from tests.small import tokenizer
from tokkit.errors import InputError
from tokkit.evaluate.result import Skipped
from tokkit.evaluate.run import Options, evaluate, extent_of, unit_of
from tokkit.evaluate.systems import TokenizerSystem, few
from tokkit.modalities.base import Sample

QUICK = Options(curve_samples=0, worst=2, others=1)


def test_every_sample_gets_a_row_for_every_system() -> None:
    evaluation = evaluate(Fake(brighter(0.1)), pictures(3), metrics=["psnr", "mae"], baselines=["jpeg", "webp"], options=QUICK)
    assert evaluation.systems == ["fake", "jpeg@same-bytes", "webp@same-bytes"]
    assert [(row.sample, row.system) for row in evaluation.rows] == [(f"picture-{i}", s) for i in range(3) for s in evaluation.systems]
    own = evaluation.rows[0]
    assert own.values["mae"] == pytest.approx(0.1, abs=1e-6)
    assert own.values["psnr"] == pytest.approx(20, abs=1e-4)
    assert (own.file_bytes, own.payload_bits, own.payload_rate) == (500, 3920, 3920 / 48**2)


def test_a_codec_at_the_same_bytes_stays_within_the_file_of_the_tokens_or_says_so() -> None:
    for size in (450, 1200):
        rows = evaluate(Fake(brighter(0.1), file_bytes=size), pictures(3), metrics=["psnr"], baselines=["jpeg"], options=QUICK).rows
        for row in rows[1::2]:
            assert row.over_budget == (row.file_bytes > size)
            assert row.setting.startswith("quality ")
            assert row.payload_bits == 8 * row.file_bytes
    assert not any(row.over_budget for row in rows)


def test_failures_of_a_metric_are_counted_and_not_averaged() -> None:
    mixed = [*pictures(2), Sample(torch.rand(3, 12, 12), "small")]
    evaluation = evaluate(Fake(brighter(0.2)), mixed, metrics=[OnlyLarge()], options=QUICK)
    column = evaluation.summary()[0].metrics["only_large"]
    assert (column.interval.n, column.n_failed) == (2, 1)
    assert column.interval.mean == pytest.approx(0.2, abs=1e-6)
    assert evaluation.rows[2].failures == {"only_large": "too small"}
    assert evaluation.rows[2].values == {}


def test_a_reconstruction_that_is_not_finite_is_a_failure() -> None:
    evaluation = evaluate(Fake(lambda values: values * math.nan), pictures(1), metrics=["psnr", "ssim", "mae"], options=QUICK)
    assert set(evaluation.rows[0].failures) == {"psnr", "ssim", "mae"}


def test_perfect_pictures_are_counted_apart() -> None:
    evaluation = evaluate(Fake(lambda values: values), pictures(2), metrics=["psnr", "ssim"], options=QUICK)
    metrics = evaluation.summary()[0].metrics
    assert (metrics["psnr"].interval.n, metrics["psnr"].n_infinite) == (0, 2)
    assert metrics["ssim"].interval.mean == pytest.approx(1)


def test_files_that_cannot_be_read_are_named_and_the_others_evaluated(tmp_path: Path) -> None:
    image = tokkit.build("modality", "image")
    image.write(tmp_path / "good.png", pictures(1)[0].values)
    (tmp_path / "bad.png").write_bytes(b"no picture")
    inputs = [tmp_path / "bad.png", tmp_path / "good.png", tmp_path / "missing.png"]
    evaluation = evaluate(Fake(brighter(0.1)), inputs, metrics=["psnr"], options=QUICK)
    assert [row.sample for row in evaluation.rows] == ["good"]
    assert [Path(skipped.sample).name for skipped in evaluation.skipped] == ["bad.png", "missing.png"]
    assert evaluation.summary()[0].n_skipped == 2


def test_a_sample_that_the_system_refuses_takes_no_other_with_it() -> None:
    samples = pictures(4)
    samples[1].name = "refused"
    evaluation = evaluate(Fake(brighter(0.1)), samples, metrics=["psnr"], options=QUICK)
    assert [row.sample for row in evaluation.rows] == ["picture-0", "picture-2", "picture-3"]
    assert evaluation.skipped == [Skipped("refused", "fake", "this one is refused")]


def test_a_sample_too_large_for_a_codec_is_missing_there_only() -> None:
    evaluation = evaluate(Fake(brighter(0.1)), [Sample(torch.rand(3, 11, 17_000), "wide")], metrics=["psnr"], baselines=["webp"])
    assert [row.system for row in evaluation.rows] == ["fake"]
    assert [skipped.system for skipped in evaluation.skipped] == ["webp@same-bytes"]
    assert evaluation.summary()[1].metrics["psnr"].interval.mean is None


def test_nothing_to_evaluate_is_an_error() -> None:
    with pytest.raises(InputError, match=r"none of 1 samples could be used; the first: .*nowhere"):
        evaluate(Fake(brighter(0.1)), ["nowhere.png"], metrics=["psnr"])


@pytest.mark.parametrize(("metrics", "baselines"), [(["psnrr"], []), ([], ["jpg"])])
def test_unknown_names_are_refused(metrics: list[str], baselines: list[str]) -> None:
    with pytest.raises(tokkit.TokkitError, match=r"did you mean '(psnr|jpeg)'"):
        evaluate(Fake(brighter(0.1)), pictures(1), metrics=metrics, baselines=baselines)


def test_wrong_options_are_refused() -> None:
    for wrong in ({"batch_size": 0}, {"limit": 0}, {"level": 1.0}):
        with pytest.raises(InputError):
            Options(**wrong)


def test_a_source_is_read_whole_and_up_to_the_limit() -> None:
    source = tokkit.build("data", "synthetic", size=16, count=5).open(tokkit.build("modality", "image"))
    seen: list[int] = []
    evaluation = evaluate(Fake(brighter(0.1)), source, metrics=["psnr"], options=Options(limit=3, batch_size=2), progress=seen.append)
    assert (len(evaluation.rows), seen) == (3, [2, 3])


def test_a_tokenizer_goes_through_real_token_files(tmp_path: Path) -> None:
    model = tokenizer()
    samples = [*pictures(2, size=13), *pictures(1, size=16)]
    evaluation = evaluate(model, samples, metrics=["psnr"], options=QUICK)
    for sample, row in zip(samples, evaluation.rows, strict=True):
        tokens = model.encode_samples([sample])
        tokens.save(tmp_path / "one.tok", force=True)
        expected = tokkit.build("metric", "psnr")(sample.values, model.decode(tokens)[0])
        assert row.file_bytes == (tmp_path / "one.tok").stat().st_size
        assert row.payload_bits == tokens.payload_bits
        assert row.values["psnr"] == pytest.approx(expected, abs=1e-4)
    counted = evaluation.usage[0]
    assert counted["tokens"] == 2 * 7 * 7 + 8 * 8
    assert counted["size"] == 200
    assert evaluation.model["fingerprint"] == model.fingerprint


def test_residual_levels_and_nested_tokens_give_curves() -> None:
    residual = tokenizer(tokkit.build("quantizer", "rvq", dim=8, levels=3, codebook_size=16))
    curves = {curve.axis: curve for curve in evaluate(residual, pictures(2, size=16), metrics=["psnr"]).curves}
    assert [point.setting for point in curves["levels"].points] == [1, 2, 3]
    assert [point.payload_rate for point in curves["levels"].points] == [1, 2, 3]
    assert curves["levels"].points[-1].values == pytest.approx(curves[""].points[0].values)
    inner = tokkit.build("quantizer", "fsq", levels=(4, 4))
    nested = tokenizer(tokkit.build("quantizer", "nested", quantizer=inner, num_tokens=64))
    curves = {curve.axis: curve for curve in evaluate(nested, pictures(2, size=16), metrics=["psnr"]).curves}
    assert [point.setting for point in curves["tokens"].points] == [1, 2, 4, 8, 16, 32, 64]
    assert curves["tokens"].points[-1].values == pytest.approx(curves[""].points[0].values)


def test_codecs_are_swept_over_the_first_samples() -> None:
    evaluation = evaluate(Fake(brighter(0.1)), pictures(3), metrics=["psnr"], baselines=["jpeg"], options=Options(curve_samples=2))
    own, jpeg = evaluation.curves
    assert (own.system, own.axis, own.points[0].n) == ("fake", "", 2)
    assert (jpeg.system, jpeg.axis) == ("jpeg", "quality")
    rates = [point.payload_rate for point in jpeg.points]
    assert rates == sorted(rates)
    quality = [point.values["psnr"] for point in jpeg.points]
    assert quality == sorted(quality)


def test_only_the_pictures_of_the_report_are_kept() -> None:
    amounts = iter([0.1, 0.4, 0.2, 0.05, 0.3, 0.15])
    evaluation = evaluate(Fake(lambda values: values + next(amounts)), pictures(6), metrics=["psnr"], options=Options(worst=2, others=3))
    worst = [case.sample for case in evaluation.cases if case.worst]
    assert worst == ["picture-1", "picture-4"]
    assert len(evaluation.cases) == 5
    assert len({case.sample for case in evaluation.cases}) == 5
    again = iter([0.1, 0.4, 0.2, 0.05, 0.3, 0.15])
    repeated = evaluate(Fake(lambda values: values + next(again)), pictures(6), metrics=["psnr"], options=Options(worst=2, others=3))
    assert [case.sample for case in repeated.cases] == [case.sample for case in evaluation.cases]


def test_of_a_large_picture_the_part_with_the_largest_error_is_shown() -> None:
    def spoil(values: torch.Tensor) -> torch.Tensor:
        spoiled = values.clone()
        spoiled[:, 1000, 50] += 0.5
        return spoiled

    evaluation = evaluate(Fake(spoil), [Sample(torch.zeros(3, 1100, 900), "large")], metrics=["mae"], options=QUICK)
    case = evaluation.cases[0]
    assert case.original.shape == (3, 768, 768)
    assert case.reconstructions["fake"].int().sum() == 3 * 128


def test_the_default_metrics_without_weights_leave_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object, **__: object) -> Path:
        raise InputError("weights alex.pth are not there")

    monkeypatch.setattr("tokkit.weights.find_weights", missing)
    evaluation = evaluate(Fake(brighter(0.1)), pictures(1), options=QUICK)
    assert [metric.name for metric in evaluation.metrics] == ["psnr", "ssim"]
    assert evaluation.notes == ["lpips_alex is left out: weights alex.pth are not there"]
    with pytest.raises(InputError, match="alex"):
        evaluate(Fake(brighter(0.1)), pictures(1), metrics=["lpips_alex"])


def test_units() -> None:
    image = tokkit.build("modality", "image")
    assert (unit_of(image), extent_of(image, torch.zeros(3, 4, 5))) == ("pixel", 20)
    image.sample_rate = 8000
    assert (unit_of(image), extent_of(image, torch.zeros(1, 4000))) == ("second", 0.5)


def test_few() -> None:
    assert few(range(1, 11)) == [1, 2, 4, 8, 10]
    assert few([7]) == [7]
    assert few([1, 5, 14, 30, 55]) == [1, 5, 14, 30, 55]


def test_a_system_describes_itself() -> None:
    described = TokenizerSystem(tokenizer()).describe()
    assert described["codebook_sizes"] == [200]
    assert described["bits_per_token"] == 8
