"""Charts as one file: valid SVG that stands alone; and the picture, table and findings of ordered tokens, from stored evaluations."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

import tokkit
from tests.small import pictures, tokenizer
from tokkit.evaluate.drawing import Panel, drawing
from tokkit.evaluate.run import Options, evaluate
from tokkit.evaluate.svg import Mark, Series

SVG = "{http://www.w3.org/2000/svg}"
SCRIPT = Path(__file__).parents[2] / "benchmarks" / "rate_distortion.py"


def test_a_drawing_stands_alone() -> None:
    line = Series("a < b", [Mark(1, 2), Mark(2, 3), Mark(4, 5)], 0)
    found = ElementTree.fromstring(drawing([Panel([line, Series("dot", [Mark(2, 2)], 1)], "x", "y"), Panel([line], "x", "z", log_x=True)]))
    assert found.tag == f"{SVG}svg" and len(list(found.iter(f"{SVG}circle"))) == 4 + 3
    charts = list(found.iter(f"{SVG}svg"))[1:]
    assert [chart.get("x") for chart in charts] == ["0", "720"]
    assert [text.text for text in found.findall(f"{SVG}text")] == ["a < b", "dot"]
    style = found.find(f"{SVG}style")
    assert style is not None and style.text is not None and "--series-1" in style.text and ".chart .line" in style.text
    assert drawing([Panel([], "x", "y")]) == ""


@pytest.fixture
def stored(tmp_path: Path) -> dict[str, Path]:
    inner = tokkit.build("quantizer", "fsq", levels=(8, 5, 5))
    systems = {
        "plain": tokenizer(inner, name="one"),
        "nested": tokenizer(tokkit.build("quantizer", "nested", quantizer=inner, num_tokens=256)),
    }
    for name, system in systems.items():
        found = evaluate(system, pictures(3, 32, 32), metrics=["psnr", "patch_spectrum"], options=Options(worst=0))
        found.write_json(tmp_path / f"{name}.json")
    return {name: tmp_path / f"{name}.json" for name in systems}


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["rate_distortion.py", *map(str, arguments)])
    runpy.run_path(str(SCRIPT), run_name="__main__")


def test_picture_and_table_of_stored_evaluations(
    stored: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(monkeypatch, *(f"{name}={path}" for name, path in stored.items()), "--out", tmp_path / "rd.svg")
    circles = ElementTree.parse(tmp_path / "rd.svg").getroot().iter(f"{SVG}circle")
    assert len(list(circles)) == 2 * (1 + 9)
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "| tokens | plain psnr | nested psnr | plain patch_spectrum | nested patch_spectrum |"
    assert [line.split(" | ")[0] for line in printed[2:11]] == [f"| {2**power}" for power in range(9)]
    assert [line.split(" | ")[1] for line in printed[2:10]] == [""] * 8, "a system without order has its whole length only"
    last = [float(cell) for cell in printed[10].strip("| ").split(" | ")[1:]]
    assert last[0] == last[1] and last[2] == last[3], "all tokens of the nested one are those of the plain one, with the same weights"
    assert any("dB from 4 to 256 tokens" in line for line in printed) and "nested: +0.00 dB beside plain at 256 tokens" in printed


def test_evaluations_that_cannot_be_compared(stored: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit, match="no evaluation has ssim; they have psnr, patch_spectrum"):
        run(monkeypatch, f"plain={stored['plain']}", "--metrics", "ssim", "--out", tmp_path / "rd.svg")
    fewer = evaluate(tokenizer(), pictures(2, 32, 32), metrics=["psnr"], options=Options(worst=0))
    fewer.write_json(tmp_path / "fewer.json")
    with pytest.raises(SystemExit, match="of different samples: plain 3, fewer 2"):
        run(monkeypatch, f"plain={stored['plain']}", f"fewer={tmp_path / 'fewer.json'}", "--out", tmp_path / "rd.svg")
