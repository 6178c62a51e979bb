"""Large evaluations: several processes, interruptions and any number of restarts give what one process gives."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from eval_fakes import Fake, noisy, pictures
from scale_cases import CASE, samples
from typer.testing import CliRunner

import tokkit
from tokkit.cli.main import app
from tokkit.errors import InputError
from tokkit.evaluate import scale
from tokkit.evaluate.parts import Part
from tokkit.evaluate.result import Evaluation
from tokkit.evaluate.run import evaluate
from tokkit.evaluate.scale import Processes, evaluate_large
from tokkit.metrics.codebook_usage import CodebookUsage

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scale, "CHUNK", 4)


@pytest.fixture(scope="module")
def alone() -> Evaluation:
    return evaluate(CASE.system(), samples(), **CASE.options())


def assert_same(found: Evaluation, expected: Evaluation) -> None:
    assert found.skipped == expected.skipped
    for row, other in zip(found.rows, expected.rows, strict=True):
        assert replace(row, values={}) == replace(other, values={})
        assert row.values == pytest.approx(other.values, rel=1e-6), "a mean over pixels depends on how many threads add it up"
    assert found.usage == expected.usage and found.notes == expected.notes
    for curve, other in zip(found.curves, expected.curves, strict=True):
        assert (curve.system, curve.axis) == (other.system, other.axis)
        for point, wanted in zip(curve.points, other.points, strict=True):
            assert (point.n, point.values) == (wanted.n, pytest.approx(wanted.values, rel=1e-5))
    for system, values in expected.sets.items():
        assert found.sets[system] == pytest.approx(values, rel=1e-6)
        for name, folds in expected.folds[system].items():
            own = found.folds[system][name]
            assert [(fold.block, fold.n) for fold in own] == [(fold.block, fold.n) for fold in folds]
            np.testing.assert_allclose([fold.value for fold in own], [fold.value for fold in folds], rtol=1e-6)


def test_two_processes_find_what_one_finds(alone: Evaluation, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    worker = [sys.executable, str(Path(__file__).with_name("scale_worker.py")), str(tmp_path)]
    processes = [
        subprocess.Popen(
            worker,
            env={**os.environ, **shared, "PYTHONPATH": str(ROOT), "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        errors = [process.communicate(timeout=240)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], "\n".join(errors)
    assert [Part(tmp_path / "work", rank).finished for rank in range(2)] == [[0, 2, 4, 6], [1, 3, 5]]
    assert_same(Evaluation.from_json(tmp_path / "together.json"), alone)


def test_one_process_in_chunks_finds_the_same_and_shows_pictures(alone: Evaluation, tmp_path: Path) -> None:
    found = evaluate_large(CASE.system(), samples(), tmp_path, **CASE.options())
    assert found is not None
    assert_same(found, alone)
    assert [case.worst for case in found.cases] == [True, True, True, False, False]
    assert [case.sample for case in found.cases[:3]] == [case.sample for case in alone.cases[:3]]


def test_an_interruption_costs_what_was_not_saved_and_another_number_of_processes_goes_on(alone: Evaluation, tmp_path: Path) -> None:
    class Interrupted(Exception):
        pass

    def until(stop: int) -> list[object]:
        def progress(done: int) -> None:
            if done >= stop:
                raise Interrupted

        with pytest.raises(Interrupted):
            evaluate_large(CASE.system(), samples(), tmp_path, **CASE.options(), save_seconds=0, progress=progress)
        return []

    until(10)
    assert Part(tmp_path, 0).finished == [0, 1]
    with (tmp_path / "0.jsonl").open("a") as file:
        file.write('{"chunk": 2, "rows": [')  # the machine went down while writing
    until(6)
    assert Part(tmp_path, 0).finished == [0, 1, 2]
    second = Processes(1, 2, "cpu", lambda: None)
    assert evaluate_large(CASE.system(), samples(), tmp_path, **CASE.options(), processes=second) is None
    assert Part(tmp_path, 1).finished == [4, 6], "every second one of those that are left"
    found = evaluate_large(CASE.system(), samples(), tmp_path, **CASE.options())
    assert found is not None and Part(tmp_path, 0).finished == [0, 1, 2, 3, 5]
    assert_same(found, alone)
    again = evaluate_large(CASE.system(), samples(), tmp_path, **CASE.options(), progress=lambda done: pytest.fail("nothing is left"))
    assert again is not None
    assert_same(again, alone)


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    system, few = Fake(noisy(0.1, seed=0)), pictures(3, size=12)
    evaluate_large(system, few, tmp_path, metrics=["psnr"])
    with pytest.raises(InputError, match=r"belongs to another evaluation \(metrics differ\)"):
        evaluate_large(system, few, tmp_path, metrics=["mae"])
    with pytest.raises(InputError, match=r"\(inputs, samples differ\)"):
        evaluate_large(system, few[:2], tmp_path, metrics=["psnr"])
    (tmp_path / "0.jsonl").write_text("")
    with pytest.raises(InputError, match=r"rows of 1 finished chunks are gone"):
        evaluate_large(system, few, tmp_path, metrics=["psnr"])
    (tmp_path / "0.safetensors").write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"0\.safetensors: damaged"):
        evaluate_large(system, few, tmp_path, metrics=["psnr"])
    with pytest.raises(InputError, match="no samples were given"):
        evaluate_large(system, [], tmp_path / "none", metrics=["psnr"])


def test_histograms_of_codes_join() -> None:
    sizes = (7, 2**40)
    codes = torch.stack([torch.randint(size, (50,), generator=torch.Generator().manual_seed(0)) for size in (7, 9)], -1)
    whole, first, second = (CodebookUsage(sizes) for _ in range(3))
    whole.update(codes)
    first.update(codes[:20])
    second.update(codes[20:])
    joined = CodebookUsage(sizes)
    for part in (first, second):
        joined.join(part.state())
    assert joined.compute() == whole.compute()


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = tokkit.build("modality", "image")
    for sample in pictures(6, size=16):
        image.write(tmp_path / "photos" / f"{sample.name}.png", sample.values)
    arguments = ["eval", "jpeg@30", str(tmp_path / "photos"), "--metrics", "psnr", "--device", "cpu", "--work", str(tmp_path / "work")]
    first = CliRunner().invoke(app, [*arguments, "--json", str(tmp_path / "one.json")])
    assert first.exit_code == 0, first.output
    again = CliRunner().invoke(app, [*arguments, "--json", str(tmp_path / "two.json")])
    assert again.exit_code == 0, again.output
    assert Evaluation.from_json(tmp_path / "one.json").rows == Evaluation.from_json(tmp_path / "two.json").rows
    monkeypatch.setattr(Processes, "join", lambda device: Processes(0, 2, "cpu", lambda: None))
    refused = CliRunner().invoke(app, arguments[:-2])
    assert refused.exit_code and "2 processes: give --work" in str(refused.exception)
