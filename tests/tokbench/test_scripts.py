"""Text in many scripts: fonts that can write them, shaping, and Tesseract, which reads them."""

from __future__ import annotations

import json
import random
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFont
from typer.testing import CliRunner

from tokkit.bench.tokbench import fonts as fonts_module
from tokkit.bench.tokbench import generate, recognizers
from tokkit.bench.tokbench.fonts import find_fonts
from tokkit.bench.tokbench.generate import make_text, render
from tokkit.bench.tokbench.layout import read_layout
from tokkit.bench.tokbench.methods import open_method
from tokkit.bench.tokbench.recognizers import Crop, Recognizer, build_recognizer
from tokkit.bench.tokbench.run import run
from tokkit.bench.tokbench.scripts import SCRIPTS, find_script, script_of
from tokkit.bench.tokbench.tesseract import Tesseract, cleaned
from tokkit.cli.main import app
from tokkit.errors import InputError


class Believer(Recognizer):
    """Reads what stands there, whatever it is."""

    name = "believer"
    suffix = "/believer"
    batch_size = 8

    def read(self, crops: Sequence[Crop], texts: Sequence[str]) -> list[str]:
        return list(texts)


@pytest.fixture(scope="module")
def tesseract() -> Tesseract:
    try:
        found = build_recognizer("tesseract")
    except InputError as error:
        pytest.skip(str(error))
    assert isinstance(found, Tesseract)
    return found


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=lambda script: script.name)
def test_every_word_is_of_its_script_and_in_normal_form(script: generate.Script) -> None:
    assert len(script.words) >= 20 and len(set(script.words)) == len(script.words)
    assert all(script_of(word) is script for word in script.words)
    assert all(unicodedata.is_normalized("NFC", word) for word in script.words)
    assert all(script_of(letter) is script for letter in script.probe if not letter.isdigit())


def test_fonts_are_those_that_have_the_letters(tmp_path: Path) -> None:
    latin, greek = find_fonts(), find_fonts(script=find_script("greek"))
    assert greek and set(greek) <= set(latin)
    with pytest.raises(InputError, match=r"no usable fonts for hangul in .*apt-get install fonts-noto-cjk"):
        find_fonts([tmp_path], script=find_script("hangul"))
    with pytest.raises(InputError, match="no script 'klingon'; there are latin, greek"):
        find_script("klingon")


def test_letters_are_shaped_or_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    font = next(path for path in find_fonts(script=find_script("arabic")) if path.name == "DejaVuSans.ttf")
    shaped, alone = (ImageFont.truetype(str(font), 40, layout_engine=engine) for engine in (None, ImageFont.Layout.BASIC))
    assert shaped.getlength("\u0628\u064a\u062a") < 0.8 * alone.getlength("\u0628\u064a\u062a"), "joined letters are narrower"
    monkeypatch.setattr(fonts_module.features, "check", lambda name: False)
    with pytest.raises(InputError, match="arabic: Pillow here is without Raqm"):
        find_fonts(script=find_script("arabic"))
    assert find_fonts(script=find_script("greek"))


def test_each_script_is_a_set_of_its_own_in_the_layout(tmp_path: Path) -> None:
    for name in ("latin", "cyrillic"):
        assert make_text(tmp_path, Believer(), images=1, words_each=6, script=find_script(name)) > 2
    parts = read_layout(tmp_path)
    assert [part.name for part in parts] == ["rendered-cyrillic", "rendered"]
    assert {word.text for word in parts[0].images[0].words} <= set(find_script("cyrillic").words)
    assert json.loads((tmp_path / "annotations" / "about_rendered-cyrillic.json").read_text())["script"] == "cyrillic"


def test_tesseract_reads_greek_and_latin_alike(tesseract: Tesseract) -> None:
    if "ell" not in tesseract.languages:
        pytest.skip("no data for Greek; apt-get install tesseract-ocr-ell")
    files = [path for path in find_fonts(script=find_script("greek")) if path.name == "DejaVuSans.ttf"]
    crops, texts = [], []
    for words in (find_script("greek").words, find_script("latin").words):
        picture, placed = render(random.Random(3), files, 10, words)
        large = [word for word in placed if word.box[3] - word.box[1] > 40][:3]
        crops += [np.asarray(picture)[word.box[1] : word.box[3], word.box[0] : word.box[2]] for word in large]
        texts += [word.text for word in large]
    assert tesseract.read(crops, texts) == texts
    assert tesseract.metric_names() == ("t_acc/tesseract", "t_ned/tesseract")


def test_tesseract_scores_what_was_rendered_and_ranks_codecs(tesseract: Tesseract, tmp_path: Path) -> None:
    make_text(tmp_path, tesseract, images=2, words_each=12)
    parts = read_layout(tmp_path)
    scores = []
    for named in ("originals", "jpeg@5"):
        found = run(open_method(named, tmp_path / named), parts, tmp_path / named / "512", setting=512, recognizer=tesseract)
        scores.append(found.scores["t_ned/tesseract"].mean)
    assert scores[0] == 1 and scores[1] < 0.95, scores


def test_what_tesseract_lacks_is_told(tesseract: Tesseract, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tesseract, "languages", {"eng"})
    with pytest.raises(InputError, match=r"no data for devanagari \(hin\); apt-get install tesseract-ocr-hin"):
        tesseract.read([np.zeros((9, 9, 3), np.uint8)], ["\u092a\u093e\u0928\u0940"])
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(InputError, match="apt-get install tesseract-ocr"):
        build_recognizer("tesseract")


def test_what_no_picture_shows_is_not_compared() -> None:
    assert cleaned(" a\u200f b\u0301\n") == "ab\u0301" and cleaned("e\u0301") == "\u00e9"


def test_the_command_makes_what_it_can(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recognizers, "build_recognizer", lambda name, **options: Believer())
    fonts = tmp_path / "fonts"
    fonts.mkdir()
    source = next(path for path in find_fonts() if path.name == "DejaVuSans.ttf")
    (fonts / source.name).write_bytes(source.read_bytes())
    arguments = ["bench", "tokbench", "--make-data", str(tmp_path / "data"), "--images", "1", "--fonts", str(fonts)]
    done = CliRunner().invoke(app, [*arguments, "--scripts", "all"])
    assert done.exit_code == 0, done.output
    assert "words in latin, 1 fonts" in done.output
    assert "tokkit: left out: no usable fonts for han" in done.output
    asked = CliRunner().invoke(app, [*arguments, "--scripts", "hangul"])
    assert asked.exit_code and "no usable fonts for hangul" in str(asked.exception)
    assert Image.open(tmp_path / "data" / "images" / "text_data" / "rendered" / "00000.jpg").size in generate.SIZES
