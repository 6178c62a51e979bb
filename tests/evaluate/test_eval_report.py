from __future__ import annotations

import base64
import io
import re
import shutil
import subprocess
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch
from eval_fakes import Fake, OnlyLarge, brighter, pictures
from PIL import Image

import tokkit
from tests.small import tokenizer
from tokkit.errors import InputError
from tokkit.evaluate.exhibit import data_uri
from tokkit.evaluate.report import render, write_report
from tokkit.evaluate.result import Evaluation, Skipped
from tokkit.evaluate.run import Options, evaluate
from tokkit.evaluate.svg import Mark, Series, line_chart, log_ticks, ticks
from tokkit.modalities.base import Sample

HOSTILE = "<script>alert(1)</script>\"'&"
VOID = {"meta", "link", "img", "br", "hr", "input"}


class Page(HTMLParser):
    """Collects what a page loads, its text, and tags that do not match."""

    def __init__(self, page: str):
        super().__init__()
        self.addresses: list[str] = []
        self.handlers: list[str] = []
        self.text: list[str] = []
        self.tags: list[str] = []
        self.open: list[str] = []
        self.alone: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)
        for name, value in attrs:
            if name in ("src", "href", "srcset", "action", "data", "poster", "xlink:href"):
                self.addresses.append(value or "")
            if name.startswith("on"):
                self.handlers.append(name)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.alone.append(tag)

    def handle_data(self, data: str) -> None:
        self.text.append(data)


@pytest.fixture(scope="module")
def evaluation() -> Evaluation:
    samples = pictures(3)
    samples[0].name = HOSTILE
    model = tokenizer(tokkit.build("quantizer", "rvq", dim=8, levels=2, codebook_size=16), name=HOSTILE)
    found = evaluate(
        model,
        [*samples, Sample(torch.rand(3, 15, 15), "tiny"), f"{HOSTILE}.png"],
        metrics=["psnr", "ssim", OnlyLarge()],
        baselines=["jpeg", "webp"],
        options=Options(worst=2, others=1),
    )
    found.notes.append(HOSTILE)
    found.provenance["command"] = f"tokkit eval {HOSTILE}"
    return found


@pytest.fixture(scope="module")
def page(evaluation: Evaluation) -> Page:
    return Page(render(evaluation))


def test_nothing_is_loaded_from_elsewhere(evaluation: Evaluation, page: Page) -> None:
    assert page.addresses
    assert all(address.startswith("data:") for address in page.addresses)
    style = "".join(re.findall(r"<style>(.*?)</style>", render(evaluation), re.DOTALL))
    assert "url(" not in style
    assert "@import" not in style
    script = "".join(re.findall(r"<script>(.*?)</script>", render(evaluation), re.DOTALL))
    assert not re.search(r"https?:|fetch\(|XMLHttpRequest|import\(", script)


def test_names_are_text_and_never_markup(page: Page) -> None:
    assert page.tags.count("script") == 1
    assert page.handlers == []
    said = "".join(page.text)
    assert said.count(HOSTILE) >= 5
    assert "alert(1)" in said


def test_the_tags_match(page: Page) -> None:
    assert page.open == []
    assert page.alone == []


def test_it_shows_all_that_was_measured(evaluation: Evaluation, page: Page) -> None:
    said = " ".join(page.text)
    for part in ("Summary", "Rate and distortion", "Fewer tokens", "Codebook", "Pictures", "Skipped", "How this was made"):
        assert part in said
    for system in evaluation.systems:
        assert system in said
    assert "1 failed" in said
    assert page.tags.count("figure") == 3 * 5
    assert page.tags.count("svg") == 3 + 3


def test_the_worst_case_comes_first(evaluation: Evaluation) -> None:
    psnr = {row.sample: row.values["psnr"] for row in evaluation.rows if row.system == evaluation.model["name"]}
    assert evaluation.cases[0].sample == min(psnr, key=lambda sample: psnr[sample])
    assert [case.worst for case in evaluation.cases] == [True, True, False]


def test_pictures_are_shown_without_loss() -> None:
    values = torch.randint(0, 256, (3, 7, 9), dtype=torch.uint8)
    data = base64.b64decode(data_uri(values).removeprefix("data:image/png;base64,"))
    shown = torch.tensor(list(Image.open(io.BytesIO(data)).tobytes()), dtype=torch.uint8).view(7, 9, 3)
    assert torch.equal(shown.permute(2, 0, 1), values)


def test_an_evaluation_without_curves_pictures_or_tokens_has_a_report_too() -> None:
    options = Options(curve_samples=0, worst=0, others=0)
    page = Page(render(evaluate(Fake(lambda values: values), pictures(1), metrics=["psnr"], options=options)))
    assert "svg" not in page.tags
    assert "figure" not in page.tags
    assert "1 infinite" in " ".join(page.text)


def test_many_skipped_files_do_not_fill_the_page() -> None:
    found = evaluate(Fake(brighter(0.1)), pictures(1), metrics=["psnr"], options=Options(curve_samples=0))
    found.skipped = [Skipped(f"bad-{index}", "", "damaged") for index in range(1000)]
    said = " ".join(Page(render(found)).text)
    assert "bad-199" in said
    assert "bad-200" not in said
    assert "and 800 more" in said


def test_a_report_is_not_replaced_unasked(evaluation: Evaluation, tmp_path: Path) -> None:
    write_report(evaluation, tmp_path / "r.html")
    with pytest.raises(InputError, match="exists"):
        write_report(evaluation, tmp_path / "r.html")
    write_report(evaluation, tmp_path / "r.html", force=True)


@pytest.mark.skipif(shutil.which("chromium") is None, reason="no chromium on this machine")
def test_a_browser_opens_it_without_an_error_or_a_request(evaluation: Evaluation, tmp_path: Path) -> None:
    page = tmp_path / "r.html"
    act = "document.querySelector('button.open').click(); document.querySelector('dialog .in').click(); console.log('acted')"
    page.write_text(render(evaluation).replace("</body>", f"<script>{act}</script></body>"), encoding="utf-8")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--dump-dom", f"--user-data-dir={tmp_path}"]
    done = subprocess.run(["chromium", *options, page.as_uri()], capture_output=True, text=True, timeout=120, check=True)
    console = [line for line in done.stderr.splitlines() if ":CONSOLE" in line]
    assert len(console) == 1
    assert '"acted"' in console[0]
    assert re.search(r"<dialog[^>]* open", done.stdout)


def test_charts_are_well_formed_and_put_points_where_they_belong() -> None:
    line = Series("a & <b>", [Mark(1, 10, "low"), Mark(4, 20, "high")], 0, strong=True)
    chart = line_chart([line, Series("empty", [], 1)], x_label="x", y_label="y", log_x=True)
    svg = ElementTree.fromstring(chart.partition("<ul")[0])
    circles = [element for element in svg.iter() if element.tag == "circle"]
    (x0, y0), (x1, y1) = [(float(circle.get("cx", "")), float(circle.get("cy", ""))) for circle in circles]
    assert x0 < x1
    assert y0 > y1
    assert circles[0][0].text == "a & <b>: low"
    assert "empty" not in chart
    assert line_chart([], x_label="x", y_label="y") == ""
    assert line_chart([Series("one", [Mark(3, 3)], 0)], x_label="x", y_label="y")


def test_ticks_are_round() -> None:
    assert ticks(0, 1) == [0, 0.2, 0.4, 0.6, 0.8, 1]
    assert ticks(23.4, 31.2) == [24, 26, 28, 30]
    assert log_ticks(-2, 1) == [0.25, 0.5, 1, 2]
