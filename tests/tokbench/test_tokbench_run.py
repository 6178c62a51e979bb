"""The protocol as a whole: rendered data, codecs in the order that they must have, resuming, and the command."""

from __future__ import annotations

import dataclasses
import json
import random
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from tokkit.bench.journal import Journal
from tokkit.bench.tokbench.faces import AntelopeV2, Dlib, chip, dlib_models, dlib_module
from tokkit.bench.tokbench.fonts import find_fonts
from tokkit.bench.tokbench.generate import make_faces, make_text, render
from tokkit.bench.tokbench.layout import Annotated, Face, Part, Word, read_layout
from tokkit.bench.tokbench.methods import home_of, open_method
from tokkit.bench.tokbench.recognizers import Crop, Parseq, RapidOcr, Recognizer, build_recognizer
from tokkit.bench.tokbench.report import write_report
from tokkit.bench.tokbench.run import Method, Result, run
from tokkit.cli.main import app
from tokkit.errors import InputError


class Brightness(Recognizer):
    """Reads the mean brightness of a crop, in steps of 16, as its word."""

    name = "brightness"
    suffix = "/brightness"
    batch_size = 3

    def __init__(self) -> None:
        self.calls: list[int] = []

    def read(self, crops: Sequence[Crop], texts: Sequence[str]) -> list[str]:
        self.calls.append(len(crops))
        return [str(int(crop.mean()) // 16) for crop in crops]


@pytest.fixture(scope="module")
def rapid() -> Recognizer:
    try:
        return build_recognizer("rapidocr")
    except InputError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def rendered(rapid: Recognizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rendered")
    assert make_text(folder, rapid, images=3, words_each=10) > 15
    return folder


def grey_data(folder: Path, count: int = 4) -> list[Part]:
    """Pictures with two words each, of one brightness a picture, read right by `Brightness`."""
    images = []
    for index in range(count):
        value = 8 + 32 * index
        path = folder / "images" / "text_data" / "grey" / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 30), (value,) * 3).save(path)
        words = tuple(Word((x, 5, x + 10, 15), str(value // 16), ratio) for x, ratio in ((2, 0.025), (20, 0.035 + 0.01 * (index % 2))))
        images.append(Annotated(path.name, 40, 30, words=words))
    return [Part("text_data", "grey", folder / "images" / "text_data" / "grey", tuple(images))]


def read_scaled(parts: list[Part], factor: float) -> list[Part]:
    """The same words, annotated so many times as large."""

    def scaled(image: Annotated) -> Annotated:
        return dataclasses.replace(image, words=tuple(dataclasses.replace(word, ratio=word.ratio * factor) for word in image.words))

    return [dataclasses.replace(part, images=tuple(map(scaled, part.images))) for part in parts]


def test_rapidocr_reads_what_was_rendered_and_codecs_rank_as_they_must(rendered: Path, rapid: Recognizer, tmp_path: Path) -> None:
    parts = read_layout(rendered)

    def score(named: str) -> Result:
        home = tmp_path / named
        return run(open_method(named, home), parts, home / "512", setting=512, recognizer=rapid)

    originals = score("originals")
    assert set(originals.scores) == {"t_acc/rapidocr", "t_ned/rapidocr"}, "never under the published names"
    assert originals.scores["t_acc/rapidocr"].mean == originals.scores["t_ned/rapidocr"].mean == 1
    assert all(count >= 3 for count in originals.scores["t_acc/rapidocr"].counts.values())
    ned = {named: score(named).scores["t_ned/rapidocr"].mean or 0 for named in ("jpeg@10", "jpeg@30", "jpeg@90")}
    assert ned["jpeg@10"] < ned["jpeg@30"] < ned["jpeg@90"], ned
    assert ned["jpeg@10"] < 0.9 and ned["jpeg@90"] > 0.95, ned


def test_readings_do_not_depend_on_the_batch(rendered: Path, rapid: Recognizer) -> None:
    part = read_layout(rendered)[0]
    image = part.images[0]
    pixels = np.asarray(Image.open(part.folder / image.name))
    crops = [pixels[word.box[1] : word.box[3], word.box[0] : word.box[2]] for word in image.words if isinstance(word.box[1], int)]
    assert rapid.read(crops, []) == [rapid.read([crop], [])[0] for crop in crops]


def test_rendering_is_the_same_again_and_words_do_not_touch() -> None:
    fonts = find_fonts()
    first, again = (render(random.Random(5), fonts, 20, None) for _ in range(2))
    assert first[0].tobytes() == again[0].tobytes() and first[1] == again[1]
    boxes = [word.box for word in first[1]]
    assert len(boxes) > 8
    assert not any(a != b and a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3] for a in boxes for b in boxes)


def test_no_font_and_nothing_readable_are_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no usable fonts"):
        find_fonts([tmp_path])
    with pytest.raises(InputError, match="brightness read none of"):
        make_text(tmp_path, Brightness(), images=1)


def test_an_interrupted_run_goes_on_with_the_same_batches(tmp_path: Path) -> None:
    parts = grey_data(tmp_path)
    method = open_method("identity", tmp_path / "home")
    reader = Brightness()
    whole = run(method, parts, tmp_path / "whole", recognizer=reader)
    assert reader.calls == [3, 3, 2], "batches go across pictures"
    assert whole.scores["t_acc/brightness"].counts == {"small": 4, "medium": 2, "large": 2}
    assert whole.scores["t_acc/brightness"].mean == 1
    journal = tmp_path / "whole" / "brightness-grey.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[:3]) + lines[3][:20])
    (tmp_path / "home" / "reconstructions" / "text_data" / "grey_256" / "3.png").unlink()
    again = Brightness()
    resumed = run(method, parts, tmp_path / "whole", recognizer=again)
    assert again.calls == [2], "only the batch whose line was cut short"
    assert resumed.scores == whole.scores and journal.read_bytes() == b"".join(lines)
    with pytest.raises(InputError, match="belongs to another run"):
        run(open_method("jpeg@30", tmp_path / "home"), parts, tmp_path / "whole", recognizer=Brightness())


def test_words_that_no_bucket_counts_are_read_only_where_the_batch_matters(tmp_path: Path) -> None:
    parts = grey_data(tmp_path)
    parts = read_scaled(parts, 0.1)
    for matters, words in ((False, 0), (True, 8)):
        reader = Brightness()
        reader.batch_matters = matters  # type: ignore[misc]
        result = run(Method("originals", None, None), parts, tmp_path / str(matters), recognizer=reader)
        assert result.words == words == sum(reader.calls)


def test_what_cannot_be_judged_is_told_left_out_and_tried_again(tmp_path: Path) -> None:
    parts = grey_data(tmp_path)
    bad = parts[0].folder / "1.png"
    good = bad.read_bytes()
    bad.write_bytes(b"nothing")
    method = open_method("identity", tmp_path / "home")
    result = run(method, parts, tmp_path / "out", recognizer=Brightness(), batch_size=3)
    assert sum("1.png" in failure for failure in result.failures) == len(result.failures) == 3
    assert result.words == 6 and result.scores["t_acc/brightness"].counts == {"small": 3, "medium": 2, "large": 1}
    bad.write_bytes(good)
    assert run(method, parts, tmp_path / "out", recognizer=Brightness()).words == 8
    Image.new("RGB", (41, 30)).save(parts[0].folder / "2.png")
    wrong = run(Method("originals", None, None), parts, tmp_path / "more", recognizer=Brightness())
    assert "is 41 x 30, and the annotation says 40 x 30" in wrong.failures[0]
    empty = Part("text_data", "grey", parts[0].folder, (Annotated("0.png", 40, 30, words=(Word((5, 5, 5, 9), "x", 0.03),)),))
    assert "is empty" in run(Method("originals", None, None), [empty], tmp_path / "empty", recognizer=Brightness()).failures[0]


def test_the_report_shows_the_worst_words_of_each_bucket_with_what_was_read(tmp_path: Path) -> None:
    parts = grey_data(tmp_path)
    method = open_method("python:tests.tokbench.blurs:darker", tmp_path / "home")
    result = run(method, parts, tmp_path / "out", recognizer=Brightness())
    write_report(result, method, tmp_path / "r.html")
    page = (tmp_path / "r.html").read_text()
    assert page.count("misread") == sum(own.read != own.word.text for own in result.readings) > 0
    assert page.index("Small text") < page.index("Medium text") < page.index("Large text")
    assert "Of 4 words the 4 that were read worst, then 0 at random." in page
    assert "read: 3" in page and "http" not in page.replace("http://www.w3.org", "")
    if shutil.which("chromium") is None:
        pytest.skip("the report is right; no chromium on this machine to open it in")
    options = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--enable-logging=stderr",
        "--dump-dom",
        f"--user-data-dir={tmp_path / 'user'}",
    ]
    done = subprocess.run(["chromium", *options, (tmp_path / "r.html").as_uri()], capture_output=True, text=True, timeout=120, check=True)
    assert ":CONSOLE" not in done.stderr and "Large text" in done.stdout


def test_what_is_blurred_or_shuffled_scores_below_identity_on_every_score(
    rendered: Path, rapid: Recognizer, faces: Path, tmp_path: Path
) -> None:
    parts = [*read_layout(rendered), *read_layout(faces)]
    parts[0] = dataclasses.replace(parts[0], images=parts[0].images[:1])
    embedder = Dlib()

    def scores(named: str) -> dict[str, float]:
        home = tmp_path / named.replace(":", "-")
        found = run(open_method(named, home), parts, home / "256", recognizer=rapid, embedder=embedder).scores
        return {name: max(value for value in score.buckets.values() if value is not None) for name, score in found.items()}

    identity, blurred, shuffled = (
        scores(named) for named in ("identity", "python:tests.tokbench.blurs:blur", "python:tests.tokbench.blurs:shuffle")
    )
    for name in ("t_acc/rapidocr", "t_ned/rapidocr", "f_sim/dlib"):
        assert shuffled[name] < blurred[name] < identity[name], name


def test_bad_settings_and_journals_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="setting 300"):
        run(Method("originals", None, None), grey_data(tmp_path), tmp_path, setting=300, recognizer=Brightness())
    with pytest.raises(InputError, match="nothing to judge"):
        run(Method("originals", None, None), grey_data(tmp_path), tmp_path)
    (tmp_path / "j.jsonl").write_text("{}\nnothing\n")
    with pytest.raises(InputError, match="damaged"):
        Journal(tmp_path / "j.jsonl", {})


def test_weights_that_are_not_there_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"docTR is not installed|parseq-56125471\.pt"):
        Parseq(weights=str(tmp_path))
    with pytest.raises(InputError, match=r"glintr100\.onnx are not there"):
        AntelopeV2(weights=str(tmp_path))
    with pytest.raises(InputError, match="no recognizer 'easyocr'; there are parseq, rapidocr"):
        build_recognizer("easyocr")


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data with the faces of scikit-image's photograph of Eileen Collins."""
    skimage_data = pytest.importorskip("skimage.data")
    try:
        dlib_module(), dlib_models()
    except InputError as error:
        pytest.skip(str(error))
    folder = tmp_path_factory.mktemp("faces")
    (folder / "photos").mkdir()
    Image.fromarray(skimage_data.astronaut()[:280, 80:360]).save(folder / "photos" / "a.png")
    assert make_faces(folder / "data", folder / "photos") == 1
    return folder / "data"


def test_faces_are_compared_by_their_annotated_keypoints(faces: Path, tmp_path: Path) -> None:
    part = read_layout(faces)[0]
    embedder = Dlib()
    similarity = {}
    for named in ("originals", "jpeg@10", "jpeg@90"):
        result = run(open_method(named, tmp_path / named), [part], tmp_path / named / "256", embedder=embedder)
        assert set(result.scores) == {"f_sim/dlib"}
        similarity[named] = result.scores["f_sim/dlib"].buckets["large"] or 0
    assert similarity["originals"] == pytest.approx(1, abs=1e-12)
    assert similarity["jpeg@10"] < similarity["jpeg@90"] < 1


def test_the_alignment_is_dlibs(faces: Path) -> None:
    part = read_layout(faces)[0]
    pixels = np.asarray(Image.open(part.folder / part.images[0].name))
    dlib = dlib_module()
    found = dlib.get_frontal_face_detector()(pixels, 1)[0]
    landmarks = dlib.shape_predictor(str(dlib_models() / "shape_predictor_68_face_landmarks.dat"))(pixels, found)
    theirs = dlib.get_face_chip(pixels, landmarks, 150, 0.25).astype(float)
    ours = chip(pixels, part.images[0].faces[0]).astype(float)
    assert ours.shape == theirs.shape == (150, 150, 3)
    assert np.corrcoef(ours.ravel(), theirs.ravel())[0, 1] > 0.95
    with pytest.raises(InputError, match="are no face"):
        chip(pixels, Face(((1.0, 1.0),) * 5, 0.1))


def test_the_command(rendered: Path, tmp_path: Path) -> None:
    few = tmp_path / "data"
    shutil.copytree(rendered, few)
    annotations = few / "annotations" / "text_rendered.json"
    annotations.write_text(json.dumps(json.loads(annotations.read_text())[:1]))
    arguments = [
        "bench",
        "tokbench",
        "jpeg@30",
        str(few),
        "--out",
        str(tmp_path / "out"),
        "--device",
        "cpu",
        "--json",
        str(tmp_path / "r.json"),
    ]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert "t_ned/rapidocr" in done.output
    stored = json.loads((tmp_path / "r.json").read_text())
    assert stored["format"] == "tokkit-tokbench" and stored["setting"] == 256
    assert stored["identity"]["named"] == "jpeg@30" and stored["provenance"]["machine"]["cores"] >= 1
    assert set(stored["scores"]["t_acc/rapidocr"]["buckets"]) == {"small", "medium", "large"}
    copied = CliRunner().invoke(
        app, ["bench", "tokbench", f"folder:{tmp_path}/out/reconstructions", str(few), "-o", str(tmp_path / "two"), "--device", "cpu"]
    )
    assert copied.exit_code == 0, copied.output
    assert json.loads((tmp_path / "two" / "256" / "result.json").read_text())["scores"] == stored["scores"]
    assert home_of("runs/my model") == Path("tokbench/runs-my-model")


def test_rapidocr_says_which_version_it_is(rapid: Recognizer) -> None:
    assert isinstance(rapid, RapidOcr) and rapid.version[0].isdigit()
