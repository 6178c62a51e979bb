"""TokBench's videos: layout, preparation, and the run as a whole, on clips made here."""

from __future__ import annotations

import json
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from typer.testing import CliRunner

from tokkit.bench.tokbench.faces import FaceEmbedder
from tokkit.bench.tokbench.layout import Face, Word
from tokkit.bench.tokbench.methods import open_method
from tokkit.bench.tokbench.recognizers import Crop, Recognizer
from tokkit.bench.tokbench.run import Result
from tokkit.bench.tokbench.scores import VIDEO_FACE_EDGES, VIDEO_TEXT_EDGES, bucket_of
from tokkit.bench.tokbench.video import run_video
from tokkit.bench.tokbench.video_layout import read_video_layout
from tokkit.bench.tokbench.video_prepare import clip_writer, fit_frame, open_clip, restore_frame, video_placement
from tokkit.cli.main import app
from tokkit.errors import InputError

pytest.importorskip("av")
FRAMES, WIDTH, HEIGHT = 5, 80, 56


class Brightness(Recognizer):
    """Reads the mean brightness of a crop, in steps of 32, as its word."""

    name = "brightness"
    suffix = "/brightness"
    batch_size = 4

    def __init__(self) -> None:
        self.calls: list[int] = []

    def read(self, crops: Sequence[Crop], texts: Sequence[str]) -> list[str]:
        self.calls.append(len(crops))
        return [str(int(crop.mean()) // 32) for crop in crops]


class Corner(FaceEmbedder):
    """The colour around the first keypoint, and a constant."""

    name = "corner"
    suffix = "/corner"

    def embed(self, pixels: Crop, face: Face) -> NDArray[np.float64]:
        x, y = (int(value) for value in face.keypoints[0])
        return np.append(pixels[y - 2 : y + 3, x - 2 : x + 3].mean((0, 1)), 100.0)


def word(text: str, box: list[int], ratio: float) -> dict[str, Any]:
    return {"bbox": box, "rec": text, "ratio": ratio}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two clips of text, whose left and right halves have a brightness each that grows by 32 a frame, and one of faces."""
    folder = tmp_path_factory.mktemp("videos")
    entries = []
    for clip in range(2):
        with clip_writer(folder / "videos" / "text_data" / "ds" / f"c{clip}.mp4", Fraction(25)) as put:
            for number in range(FRAMES):
                frame = np.full((HEIGHT, WIDTH, 3), 16 + 32 * number, np.uint8)
                frame[:, WIDTH // 2 :] = 16 + 32 * (number + 2 + clip)
                put(frame)
                left, right = (str(value) for value in (number, number + 2 + clip))
                words = [word(left, [4, 4, 30, 50], 0.015), word(right, [50, 4, 76, 50], 0.025 + 0.01 * (number % 2))]
                words += [word("x", [10, 10, 11, 40], 0.5), word("y", [4, 4, 9, 9], 0.001)]
                name = f"c{clip}-frame{number + 1}.jpg"
                about = {"file_name": name, "video_name": f"c{clip}", "height": HEIGHT, "width": WIDTH}
                entries.append({**about, "annotations": words if number != 3 else []})
    face = {"kps": [[60, 20], [70, 20], [65, 25], [60, 30], [70, 30]], "ratio": 0.15}
    with clip_writer(folder / "videos" / "face_data" / "face_clip_3s" / "f.mp4", Fraction(30)) as put:
        for number in range(FRAMES):
            frame = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
            frame[10:40, 50:78] = (200, 40 * number, 90)
            put(frame)
    frames: list[list[Any]] = [[], [face], [face], [], [face]]
    about = {"video_name": "f.mp4", "video_width": WIDTH, "video_height": HEIGHT}
    (folder / "video_annotations").mkdir()
    (folder / "video_annotations" / "text_ds.json").write_text(json.dumps(entries))
    (folder / "video_annotations" / "videoface_meta.json").write_text(json.dumps([{**about, "frame_anns": frames}]))
    return folder


def test_the_layout(data: Path) -> None:
    text, faces = read_video_layout(data)
    assert (text.kind, text.name, [clip.file for clip in text.clips]) == ("text_data", "ds", ["c0.mp4", "c1.mp4"])
    assert set(text.clips[0].words) == {0, 1, 2, 4}, "counted from 0; the fourth has none"
    assert text.clips[1].words[0][1] == Word((50, 4, 76, 50), "3", 0.025)
    assert (faces.name, faces.clips[0].frames, set(faces.clips[0].faces)) == ("face_clip_3s", 5, {1, 2, 4})
    assert text.reconstructions(Path("out"), 480) == Path("out/text_data/ds_480")
    assert [part.name for part in read_video_layout(data, sets=("face_clip_3s",))] == ["face_clip_3s"]
    with pytest.raises(InputError, match="no set of videos 'ch3'; there are ds, face_clip_3s"):
        read_video_layout(data, sets=("ch3",))


def test_damaged_annotations_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no video_annotations/text_<set>\.json"):
        read_video_layout(tmp_path)
    (tmp_path / "video_annotations").mkdir()
    file = tmp_path / "video_annotations" / "text_ds.json"
    frame = {"file_name": "a-frame1.jpg", "video_name": "a", "height": 4, "width": 4, "annotations": []}
    for entries, message in (
        ([frame, {**frame, "video_name": "b"}, frame], r"frames of a\.mp4 do not stand together"),
        ([{**frame, "file_name": "a-frame0.jpg"}], "k from 1 on"),
        ([{**frame, "video_name": "../a"}], "leaves its folder"),
        ([{"file_name": "a"}], "KeyError"),
    ):
        file.write_text(json.dumps(entries))
        with pytest.raises(InputError, match=message):
            read_video_layout(tmp_path)


@pytest.mark.parametrize(
    ("size", "scaled", "padded", "corner"),
    [
        ((1920, 1080), (455, 256), (480, 256), (12, 0)),
        ((1080, 1920), (256, 455), (256, 480), (0, 12)),
        ((100, 100), (256, 256), (256, 256), (0, 0)),
        ((333, 250), (341, 256), (352, 256), (5, 0)),
    ],
)
def test_the_shorter_side_is_the_setting_and_black_fills_up_to_32(
    size: tuple[int, int], scaled: tuple[int, int], padded: tuple[int, int], corner: tuple[int, int]
) -> None:
    placed = video_placement(*size, 256)
    assert (placed.scaled, placed.padded, placed.corner) == (scaled, padded, corner)
    frame = np.full((size[1], size[0], 3), 200, np.uint8)
    inside = fit_frame(frame, placed)
    assert inside.shape == (padded[1], padded[0], 3)
    assert (inside == 200).all(2).sum() == scaled[0] * scaled[1] and (restore_frame(inside, placed) == frame).all()


def test_clips_are_written_as_imageio_does(tmp_path: Path) -> None:
    with clip_writer(tmp_path / "c.mp4", Fraction(30000, 1001)) as put:
        for number in range(3):
            put(np.full((50, 70, 3), 60 * number, np.uint8))
    frames, rate = open_clip(tmp_path / "c.mp4")
    found = list(frames)
    assert rate == Fraction(30000, 1001) and [frame.shape for frame in found] == [(64, 80, 3)] * 3, "multiples of 16"
    assert [abs(int(frame.mean()) - 60 * number) <= 3 for number, frame in enumerate(found)] == [True] * 3


def test_buckets_of_videos() -> None:
    assert bucket_of(0.01, VIDEO_TEXT_EDGES[256]) == "small" == bucket_of(0.05, VIDEO_FACE_EDGES[256])
    assert bucket_of(0.02, VIDEO_TEXT_EDGES[480]) == "large" == bucket_of(0.1, VIDEO_FACE_EDGES[480])


def judge(data: Path, named: str, home: Path, *, modality: str = "image", reader: Brightness | None = None) -> Result:
    method = open_method(named, home, modality=modality)
    parts = read_video_layout(data)
    return run_video(method, parts, home / "256", recognizer=reader or Brightness(), embedder=Corner(), batch_size=2)


def test_words_and_faces_of_frames_are_judged(data: Path, tmp_path: Path) -> None:
    reader = Brightness()
    found = judge(data, "identity", tmp_path, reader=reader)
    assert not found.failures and (found.words, found.faces) == (16, 3), "without words of one pixel, and of no bucket"
    assert reader.calls == [4, 4, 4, 4], "batches end with their clip"
    assert set(found.scores) == {"video_t_acc/brightness", "video_t_ned/brightness", "video_f_sim/corner"}
    assert found.scores["video_t_acc/brightness"].counts == {"small": 8, "medium": 6, "large": 2}
    assert found.scores["video_t_acc/brightness"].mean == 1
    assert found.scores["video_f_sim/corner"].buckets["medium"] == pytest.approx(1, abs=1e-3)
    darker = judge(data, "python:tests.tokbench.blurs:darker", tmp_path / "darker")
    assert (darker.scores["video_t_acc/brightness"].mean or 0) < 0.5
    assert (darker.scores["video_f_sim/corner"].buckets["medium"] or 0) < 0.99


def test_a_tokenizer_of_video_gets_whole_clips(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "their_video.py").write_text("shapes = []\n\ndef same(clips):\n    shapes.append(tuple(clips.shape))\n    return clips\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    found = judge(data, "python:their_video:same", tmp_path / "home", modality="video")
    import their_video  # type: ignore[import-not-found]

    assert their_video.shapes == [(1, 3, FRAMES, 256, 320)] * 3, "of files of 80 x 64"
    assert found.scores["video_t_acc/brightness"].mean == 1


def test_an_interrupted_run_goes_on_and_other_numbers_of_frames_fail(data: Path, tmp_path: Path) -> None:
    whole = judge(data, "identity", tmp_path)
    reader = Brightness()
    (tmp_path / "reconstructions" / "text_data" / "ds_256" / "c1.mp4").unlink()
    again = judge(data, "identity", tmp_path, reader=reader)
    assert again.scores == whole.scores and reader.calls == []
    (tmp_path / "256" / "video-corner-face_clip_3s.jsonl").unlink()
    with clip_writer(tmp_path / "reconstructions" / "face_data" / "face_clip_3s_256" / "f.mp4", Fraction(30)) as put:
        put(np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    short = judge(data, "identity", tmp_path)
    assert len(short.failures) == 1 and "1 frames, and the annotation has 5" in short.failures[0]
    with pytest.raises(InputError, match="setting 512: TokBench's videos have 256, 480"):
        run_video(open_method("originals", tmp_path), read_video_layout(data), tmp_path, setting=512, recognizer=Brightness())


def test_the_command(data: Path, tmp_path: Path) -> None:
    given = ["bench", "tokbench", "identity", str(data), "--video", "--recognizer", "none", "--faces", "none", "--out", str(tmp_path)]
    refused = CliRunner().invoke(app, given)
    assert refused.exit_code and "nothing to judge" in str(refused.exception)
    torch.manual_seed(0)
    report = CliRunner().invoke(app, [*given, "--report", str(tmp_path / "r.html")])
    assert report.exit_code and "leave it out" in str(report.exception)
