"""Makes data in TokBench's layout: text rendered with the fonts of this machine, and faces from any folder of photographs.

As in the published set, only words that the recognizer reads exactly right in the finished original are kept, so the originals score 1 by
construction, with that recognizer.
"""

from __future__ import annotations

import json
import os
import random
import string
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from tokkit.bench.tokbench.faces import dlib_models, dlib_module
from tokkit.bench.tokbench.fonts import find_fonts
from tokkit.bench.tokbench.layout import FACE_SET, Word
from tokkit.bench.tokbench.prepare import open_picture
from tokkit.bench.tokbench.recognizers import Recognizer, crop_word
from tokkit.bench.tokbench.scripts import SCRIPTS, Script
from tokkit.errors import InputError
from tokkit.files import replacing

SET = "rendered"
SIZES = ((1024, 768), (768, 1024), (800, 800), (640, 480), (1280, 720))
_RATIO_BANDS = ((0.006, 0.01), (0.01, 0.02), (0.02, 0.03), (0.03, 0.04), (0.04, 0.08))
_TRIES = 30
_THREADS = 8
_PHOTO_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")


@dataclass(frozen=True)
class _Placed:
    box: tuple[int, int, int, int]
    text: str


def make_text(
    out: str | Path,
    recognizer: Recognizer,
    *,
    images: int = 100,
    words_each: int = 24,
    seed: int = 0,
    script: Script = SCRIPTS["latin"],
    fonts: Sequence[Path] | None = None,
    words: Sequence[str] | None = None,
) -> int:
    """Render a text set into `out`: "rendered", or "rendered-greek" for another script; pictures that are there are made again.

    Args:
        out: the data folder.
        recognizer: reads the originals; what it reads wrong is not annotated.
        images: pictures.
        words_each: words that each picture has room for at most, their sizes spread over all buckets.
        seed: of every choice.
        script: what it is written in.
        fonts: files; those found on the machine when not given.
        words: what is written; the script's own when not given, in latin also numbers and random letters.

    Returns:
        How many words were kept.

    Raises:
        InputError: there are no fonts, or the recognizer reads nothing at all right.
    """
    out, fonts, name = Path(out), fonts or find_fonts(script=script), set_name(script)
    if words is None and script.name != "latin":
        words = script.words
    folder = out / "images" / "text_data" / name
    annotations: list[dict[str, Any]] = []
    rendered = 0

    def make(index: int) -> tuple[int, dict[str, Any] | None]:
        picture, placed = render(random.Random(f"{seed}-{index}"), fonts, words_each, words)
        path = folder / f"{index:05d}.jpg"
        with replacing(path) as part:
            picture.save(part, quality=95)
        kept = readable(path, placed, recognizer)
        if not kept:
            path.unlink()
            return len(placed), None
        entry = {"file_name": path.name, "height": picture.height, "width": picture.width}
        return len(placed), {**entry, "annotations": [_annotation(word, picture.size) for word in kept]}

    with ThreadPoolExecutor(min(_THREADS, os.cpu_count() or 1), "tokkit-render") as threads:
        for placed, entry in threads.map(make, range(images)):
            rendered += placed
            if entry is not None:
                annotations.append(entry)
    if not annotations:
        raise InputError(f"{script.name}: {recognizer.name} read none of {rendered} rendered words right; give another recognizer")
    count = sum(len(entry["annotations"]) for entry in annotations)
    files = [path.name for path in fonts]
    about = {"seed": seed, "script": script.name, "fonts": files, "recognizer": recognizer.name, "rendered": rendered, "kept": count}
    _write(out / "annotations" / f"about_{name}.json", about)
    _write(out / "annotations" / f"text_{name}.json", annotations)
    return count


def set_name(script: Script) -> str:
    """Of the text set in a script."""
    return SET if script.name == "latin" else f"{SET}-{script.name}"


def render(choice: random.Random, fonts: Sequence[Path], words_each: int, words: Sequence[str] | None) -> tuple[Image.Image, list[_Placed]]:
    """One picture with words that do not touch each other."""
    width, height = choice.choice(SIZES)
    dark = choice.random() < 0.5
    picture = _background(choice, width, height, dark)
    placed: list[_Placed] = []
    for number in range(words_each):
        text = choice.choice(words) if words is not None else _word(choice)
        low, high = _RATIO_BANDS[number % len(_RATIO_BANDS)]
        layer = _layer(choice, choice.choice(fonts), text, choice.uniform(low, high) * max(width, height), dark)
        if layer is None or layer.width > width - 8 or layer.height > height - 8:
            continue
        for _ in range(_TRIES):
            x, y = choice.randint(4, width - layer.width - 4), choice.randint(4, height - layer.height - 4)
            box = (x, y, x + layer.width, y + layer.height)
            if all(box[2] < b[0] or b[2] < box[0] or box[3] < b[1] or b[3] < box[1] for b in (other.box for other in placed)):
                picture.paste(layer, (x, y), layer)
                placed.append(_Placed(box, text))
                break
    return picture, placed


def readable(path: Path, placed: Sequence[_Placed], recognizer: Recognizer) -> list[_Placed]:
    """The words that the recognizer reads exactly right in the file."""
    pixels = np.asarray(open_picture(path))
    kept: list[_Placed] = []
    for start in range(0, len(placed), recognizer.batch_size):
        batch = placed[start : start + recognizer.batch_size]
        crops = [crop_word(pixels, Word(word.box, word.text, 0.0)) for word in batch]
        readings = recognizer.read(crops, [word.text for word in batch])
        kept += [word for word, read in zip(batch, readings or [], strict=bool(readings)) if read == word.text]
    return kept


def make_faces(out: str | Path, photos: str | Path) -> int:
    """Annotate the faces of a folder of photographs as the set "wflw": keypoints by dlib's detector and its 68 landmarks.

    `ratio` is the longer side of the detected box over the longer side of the photograph.

    Returns:
        How many faces there are.

    Raises:
        InputError: dlib or its weights are not installed, or there is no face.
    """
    dlib = dlib_module()
    detect = dlib.get_frontal_face_detector()
    landmarks = dlib.shape_predictor(str(dlib_models() / "shape_predictor_68_face_landmarks.dat"))
    out = Path(out)
    entries: list[dict[str, Any]] = []
    for path in sorted(path for path in Path(photos).rglob("*") if path.suffix.lower() in _PHOTO_SUFFIXES):
        picture = open_picture(path)
        pixels, longer = np.asarray(picture), max(picture.size)
        faces = []
        for found in detect(pixels, 1):
            points = np.array([(point.x, point.y) for point in landmarks(pixels, found).parts()], dtype=float)
            keypoints = [points[36:42].mean(0), points[42:48].mean(0), points[30], points[48], points[54]]
            box = [found.left(), found.top(), found.right(), found.bottom()]
            ratio = max(found.width(), found.height()) / longer
            faces.append({"kps": [point.tolist() for point in keypoints], "ratio": ratio, "box": box, "gt": box})
        if faces:
            name = f"{len(entries):05d}-{path.name}"
            with replacing(out / "images" / "face_data" / FACE_SET / name) as part:
                part.write_bytes(path.read_bytes())
            entries.append({"image_name": name, "img_height": picture.height, "img_width": picture.width, "faces": faces})
    if not entries:
        raise InputError(f"{photos}: no photograph with a face that dlib finds")
    _write(out / "annotations" / "face_meta.json", entries)
    return sum(len(entry["faces"]) for entry in entries)


def _annotation(word: _Placed, size: tuple[int, int]) -> dict[str, Any]:
    """Its ratio is the mean width of a character over the longer side of the picture."""
    x1, y1, x2, y2 = word.box
    return {"bbox": [x1, y1, x2, y2], "rec": word.text, "ratio": max(x2 - x1, y2 - y1) / (len(word.text) * max(size))}


def _word(choice: random.Random) -> str:
    kind = choice.random()
    if kind < 0.6:
        return choice.choice((str.lower, str.upper, str.title))(choice.choice(SCRIPTS["latin"].words))
    if kind < 0.8:
        return f"{choice.randint(1, 9999)}.{choice.randint(0, 99):02d}" if choice.random() < 0.5 else str(choice.randint(100, 99999))
    return "".join(choice.choices(string.ascii_letters + string.digits, k=choice.randint(3, 8)))


def _background(choice: random.Random, width: int, height: int, dark: bool) -> Image.Image:
    """Two colours running into each other, with some grain."""
    low, high = (0, 90) if dark else (165, 255)
    first, second = (np.array([choice.randint(low, high) for _ in range(3)]) for _ in range(2))
    ramp = np.linspace(0, 1, width)[None, :, None] if choice.random() < 0.5 else np.linspace(0, 1, height)[:, None, None]
    grain = np.random.default_rng(choice.getrandbits(32)).normal(0, choice.uniform(0, 6), (height, width, 1))
    return Image.fromarray(np.clip(first + ramp * (second - first) + grain, 0, 255).astype(np.uint8))


def _layer(choice: random.Random, file: Path, text: str, character: float, dark: bool) -> Image.Image | None:
    """A word on a transparent ground, characters so wide on average: turned a little in space, and blurred a little."""
    probe = ImageFont.truetype(str(file), 100)
    measured = probe.getlength(text)
    if measured <= 0:
        return None
    points = 100 * character * len(text) / measured
    if points < 6:
        return None
    font = ImageFont.truetype(str(file), round(points))
    left, top, right, bottom = (round(value) for value in font.getbbox(text))
    margin = max(2, round(0.15 * points))
    size = (right - left + 2 * margin, bottom - top + 2 * margin)
    low, high = (170, 255) if dark else (0, 85)
    color = tuple(choice.randint(low, high) for _ in range(3))
    mask = Image.new("L", size)
    ImageDraw.Draw(mask).text((margin - left, margin - top), text, font=font, fill=255)
    if choice.random() < 0.5:
        mask = mask.transform(size, Image.Transform.PERSPECTIVE, _tilt(choice, *size), Image.Resampling.BICUBIC)
    if choice.random() < 0.5:
        mask = mask.filter(ImageFilter.GaussianBlur(choice.uniform(0, 0.03) * points))
    layer = Image.new("RGBA", size, (*color, 0))
    layer.putalpha(mask)
    return layer


def _tilt(choice: random.Random, width: int, height: int) -> tuple[float, ...]:
    """Pillow's eight numbers of a perspective that moves each corner inwards, by a tenth of the height at most."""
    corners = np.array([(0, 0), (width, 0), (width, height), (0, height)], dtype=float)
    inwards = np.array([(1, 1), (-1, 1), (-1, -1), (1, -1)]) * 0.1 * height
    moved = corners + inwards * np.array([(choice.random(), choice.random()) for _ in range(4)])
    rows, values = [], []
    for (x, y), (u, v) in zip(moved, corners, strict=True):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
        values += [u, v]
    return tuple(np.linalg.solve(np.array(rows), np.array(values)).tolist())


def _write(path: Path, value: Any) -> None:
    with replacing(path) as part:
        part.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
