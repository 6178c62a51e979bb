"""Each step of TokBench's protocol by itself, on annotations made by hand."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tokkit.bench.tokbench.layout import Word, read_layout
from tokkit.bench.tokbench.prepare import fit, open_picture, placement, restore, save_picture
from tokkit.bench.tokbench.recognizers import Parseq, crop_word, fit_crop
from tokkit.bench.tokbench.scores import FACE_EDGES, TEXT_EDGES, accuracy, bucket_of, bucket_scores, edit_distance, similarity
from tokkit.errors import InputError


def write_data(folder: Path, **sets: list[dict[str, Any]]) -> Path:
    """Annotations alone; a set "faces" is that of faces."""
    (folder / "annotations").mkdir(parents=True)
    for name, entries in sets.items():
        file = "face_meta.json" if name == "faces" else f"text_{name}.json"
        (folder / "annotations" / file).write_text(json.dumps(entries))
    return folder


def test_the_layout_is_read_in_the_published_order(tmp_path: Path) -> None:
    word = {"bbox": [1.9, 2.2, 30, 40.99], "rec": "Hi!", "ratio": 0.037}
    polygon = {"bbox": [[0, 0], [9.7, 0], [9, 5], [0, 5]], "rec": "x", "ratio": 0.5}
    image = {"file_name": "a.jpg", "height": 50, "width": 90, "annotations": [word, polygon]}
    face = {"kps": [[1, 2], [3, 4], [5, 6.5], [7, 8], [9, 10]], "ratio": 0.21, "box": [0, 0, 9, 9], "gt": "someone"}
    portrait = {"image_name": "wflw/p.jpg", "img_height": 8, "img_width": 9, "faces": [face]}
    data = write_data(tmp_path, mine=[image], cord=[image], ic13=[image], faces=[portrait])
    parts = read_layout(data)
    assert [part.name for part in parts] == ["ic13", "cord", "mine", "wflw"]
    assert parts[0].images[0].words == (Word((1, 2, 30, 40), "Hi!", 0.037), Word(((0, 0), (9, 0), (9, 5), (0, 5)), "x", 0.5))
    assert parts[0].folder == tmp_path / "images" / "text_data" / "ic13"
    assert parts[0].reconstructions(Path("out"), 256) == Path("out/text_data/ic13_256")
    assert parts[3].images[0].name == "p.jpg" and parts[3].images[0].faces[0].keypoints[2] == (5.0, 6.5)
    assert parts[3].reconstructions(Path("out"), 512) == Path("out/face_data/wflw_512")
    assert [part.name for part in read_layout(data, sets=("cord",))] == ["cord"]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"file_name": "a.jpg"}, "KeyError: 'annotations'"),
        ({"file_name": "../a.jpg", "height": 1, "width": 1, "annotations": []}, "leaves its folder"),
        ({"file_name": "a", "height": 1, "width": 1, "annotations": [{"bbox": [1, 2], "rec": "x", "ratio": 1}]}, "expected x1, y1, x2, y2"),
    ],
)
def test_damaged_annotations_are_named(tmp_path: Path, entry: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_layout(write_data(tmp_path, ic13=[entry]))


def test_missing_sets_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no annotations/text_<set>\.json"):
        read_layout(tmp_path)
    with pytest.raises(InputError, match="no set 'ic15'; there are ic13"):
        read_layout(write_data(tmp_path, ic13=[]), sets=("ic15",))


def test_buckets_are_half_open() -> None:
    edges = TEXT_EDGES[256]
    at = {0.0199: None, 0.02: "small", 0.0299: "small", 0.03: "medium", 0.04: "large", 0.9: "large", 1.0: None}
    assert {ratio: bucket_of(ratio, edges) for ratio in at} == at
    assert bucket_of(0.01, TEXT_EDGES[512]) == "small" and bucket_of(0.005, TEXT_EDGES[1024]) == "small"
    assert bucket_of(0.1, FACE_EDGES[256]) == "small", "the table of June"
    assert bucket_of(0.3, FACE_EDGES[256]) == "large" and bucket_of(0.1, FACE_EDGES[1024]) == "large"


def test_the_score_is_the_unweighted_mean_of_the_buckets() -> None:
    scores = bucket_scores([(0.02, 1.0), (0.025, 0.0), (0.035, 1.0), (0.5, 0.0), (0.6, 0.0), (0.7, 0.0), (0.001, 1.0)], TEXT_EDGES[256])
    assert scores.buckets == {"small": 0.5, "medium": 1.0, "large": 0.0}
    assert scores.counts == {"small": 2, "medium": 1, "large": 3}
    assert scores.mean == 0.5, "not 2 / 6"
    partial = bucket_scores([(0.02, 1.0)], TEXT_EDGES[256])
    assert partial.mean is None and partial.buckets["large"] is None, "no mean over fewer buckets"


def test_words_are_compared_with_case_and_punctuation() -> None:
    assert (accuracy("Hi!", "Hi!"), accuracy("Hi!", "hi!"), accuracy("Hi!", "Hi")) == (1.0, 0.0, 0.0)
    assert [edit_distance(*pair) for pair in (("kitten", "sitting"), ("", "abc"), ("abc", "abc"), ("ab", "ba"))] == [3, 3, 0, 2]
    assert similarity("kitten", "sitting") == pytest.approx(1 - 3 / 7)
    assert similarity("Hi!", "") == 0 and similarity("Hi!", "hi!") == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("size", "scaled", "corner"),
    [
        ((640, 480), (256, 192), (0, 32)),
        ((480, 641), (192, 256), (32, 0)),
        ((10, 5), (256, 128), (0, 64)),
        ((333, 100), (256, 77), (0, 89)),
    ],
)
def test_pictures_are_fitted_with_sizes_rounded_up(size: tuple[int, int], scaled: tuple[int, int], corner: tuple[int, int]) -> None:
    placed = placement(*size, 256)
    assert (placed.original, placed.scaled, placed.corner) == (size, scaled, corner)


def test_the_longer_side_fills_the_square_whatever_its_length() -> None:
    assert all(max(placement(length, 90, size).scaled) == size for length in range(91, 3000) for size in (256, 512, 1024))


def test_the_square_is_black_around_the_picture_and_comes_back_whole() -> None:
    picture = Image.new("RGB", (200, 100), (10, 200, 30))
    square, placed = fit(picture, 64)
    pixels = np.asarray(square)
    assert pixels.shape == (64, 64, 3)
    assert not pixels[:16].any() and not pixels[48:].any()
    assert (pixels[16:48] == (10, 200, 30)).all()
    assert np.array_equal(np.asarray(restore(square, placed)), np.asarray(picture))


def test_jpeg_files_are_compressed_again_as_pillow_does_by_default(tmp_path: Path) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8))
    save_picture(noise, tmp_path / "deep" / "a.jpg")
    expected = io.BytesIO()
    noise.save(expected, "JPEG", quality=75)
    assert (tmp_path / "deep" / "a.jpg").read_bytes() == expected.getvalue()
    save_picture(noise, tmp_path / "a.png")
    assert np.array_equal(np.asarray(open_picture(tmp_path / "a.png")), np.asarray(noise))
    (tmp_path / "bad.jpg").write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"bad\.jpg: cannot read the picture"):
        open_picture(tmp_path / "bad.jpg")


def test_words_are_cut_out_without_a_margin() -> None:
    pixels = np.arange(20 * 30 * 3, dtype=np.uint8).reshape(20, 30, 3)
    assert np.array_equal(crop_word(pixels, Word((3, 4, 13, 9), "x", 0)), pixels[4:9, 3:13])
    assert crop_word(pixels, Word((3, 4, 3, 9), "x", 0)).size == 0


def test_four_corners_are_turned_straight() -> None:
    pytest.importorskip("cv2")
    pixels = np.random.default_rng(0).integers(0, 255, (20, 30, 3), dtype=np.uint8)
    upright = crop_word(pixels, Word(((3, 4), (13, 4), (13, 9), (3, 9)), "x", 0))
    assert upright.shape == (5, 10, 3)
    assert np.array_equal(upright[0, 0], pixels[4, 3]), "the first corner comes first"
    quarter = crop_word(pixels, Word(((13, 4), (13, 14), (8, 14), (8, 4)), "x", 0))
    assert quarter.shape == (5, 10, 3) and np.array_equal(quarter[0, 0], pixels[4, 13])
    assert crop_word(pixels, Word(((3, 4), (3, 4), (3, 9), (3, 9)), "x", 0)).size == 0


@pytest.mark.parametrize(("shape", "scaled"), [((16, 32), (32, 64)), ((10, 100), (12, 128)), ((50, 20), (32, 12)), ((32, 128), (32, 128))])
def test_crops_are_fitted_into_the_recognizers_input(shape: tuple[int, int], scaled: tuple[int, int]) -> None:
    fitted = fit_crop(np.full((*shape, 3), 255, np.uint8))
    assert fitted.shape == (3, 32, 128)
    expected = torch.zeros(3, 32, 128)
    expected[:, : scaled[0], : scaled[1]] = 1
    assert torch.allclose(fitted, expected, atol=1e-5)


class Stub:
    """Stands for docTR's model: remembers what it was given."""

    vocab = "abc"
    cfg = {"mean": (0.694, 0.695, 0.693), "std": (0.299, 0.296, 0.301)}  # noqa: RUF012

    def __call__(self, batch: torch.Tensor, texts: list[str], return_preds: bool) -> dict[str, Any]:
        assert return_preds
        self.batch = batch
        longest = max(map(len, texts))
        return {"preds": [("abcabc"[:longest], 1.0) for _ in texts]}


def test_parseq_is_given_the_true_words_so_readings_depend_on_the_batch() -> None:
    reader = Parseq.__new__(Parseq)
    reader.model, reader.device = Stub(), torch.device("cpu")
    white = np.full((16, 32, 3), 255, np.uint8)
    assert reader.read([white], ["a"]) == ["a"]
    assert reader.read([white, white], ["a", "abcc"]) == ["abca", "abca"], "as far as the longest word of the batch"
    assert reader.read([white, white], ["a", "ø"]) is None, "the batch is left out whole"
    assert reader.model.batch[0, :, 0, 0].tolist() == pytest.approx([(1 - 0.694) / 0.299, (1 - 0.695) / 0.296, (1 - 0.693) / 0.301])
    assert Parseq.batch_size == 64 and reader.metric_names() == ("t_acc", "t_ned")
