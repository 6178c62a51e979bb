"""The published data layout: folders of pictures and JSON annotations. Knows nothing of tokenizers and recognizers.

    <data>/images/text_data/<set>/<file_name>         <data>/annotations/text_<set>.json
    <data>/images/face_data/wflw/<image_name>         <data>/annotations/face_meta.json

Reconstructions mirror it under the same file names: <root>/text_data/<set>_<R>/<file_name> and <root>/face_data/wflw_<R>/<image_name>.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokkit.errors import InputError

TEXT_SETS = ("ic13", "ic15", "tt", "textocr", "cord", "sroie", "infograph", "docvqa")
"""The published text sets, in the order that they are pooled in; sets with other names follow, sorted."""

FACE_SET = "wflw"


@dataclass(frozen=True)
class Word:
    """One annotated word.

    Attributes:
        box: (x1, y1, x2, y2), or four corners ((x, y), ...), in pixels of the original, truncated to whole numbers.
        text: what stands there.
        ratio: its size relative to the picture, as the annotation says; never recomputed.
    """

    box: tuple[int, ...] | tuple[tuple[int, int], ...]
    text: str
    ratio: float


@dataclass(frozen=True)
class Face:
    """One annotated face: five keypoints (left eye, right eye, nose, left and right corner of the mouth), (x, y) each, and its ratio."""

    keypoints: tuple[tuple[float, float], ...]
    ratio: float


@dataclass(frozen=True)
class Annotated:
    """One picture with its words or faces, in the order of the annotations."""

    name: str
    width: int
    height: int
    words: tuple[Word, ...] = ()
    faces: tuple[Face, ...] = ()


@dataclass(frozen=True)
class Part:
    """One set of pictures.

    Attributes:
        kind: "text_data" or "face_data".
        name: such as "ic13".
        folder: of the originals.
        images: in the order of the annotations.
    """

    kind: str
    name: str
    folder: Path
    images: tuple[Annotated, ...]

    def reconstructions(self, root: Path, size: int) -> Path:
        """Where the reconstructions at one setting are."""
        return root / self.kind / f"{self.name}_{size}"


def read_layout(data: str | Path, *, sets: tuple[str, ...] | None = None) -> list[Part]:
    """Every set that is there: text sets in the published order, then faces.

    Args:
        data: the folder that holds `images` and `annotations`.
        sets: only these; "wflw" is the faces.

    Raises:
        InputError: there is no annotation, one is damaged, or a set that was asked for is not there.
    """
    data = Path(data)
    found = {path.stem.removeprefix("text_"): path for path in sorted((data / "annotations").glob("text_*.json"))}
    faces = data / "annotations" / "face_meta.json"
    known = [name for name in TEXT_SETS if name in found] + [name for name in found if name not in TEXT_SETS]
    if faces.is_file():
        known.append(FACE_SET)
    if not known:
        raise InputError(f"{data}: no annotations/text_<set>.json and no annotations/face_meta.json; give the folder of TokBench's data")
    for name in sets or ():
        if name not in known:
            raise InputError(f"{data}: no set {name!r}; there are {', '.join(known)}")
    wanted = [name for name in known if sets is None or name in sets]
    return [_faces(faces, data) if name == FACE_SET else _text(found[name], name, data) for name in wanted]


def _text(path: Path, name: str, data: Path) -> Part:
    def image(entry: dict[str, Any]) -> Annotated:
        words = tuple(Word(read_box(word["bbox"]), str(word["rec"]), float(word["ratio"])) for word in entry["annotations"])
        return Annotated(inside(entry["file_name"]), int(entry["width"]), int(entry["height"]), words=words)

    return Part("text_data", name, data / "images" / "text_data" / name, _read(path, image))


def _faces(path: Path, data: Path) -> Part:
    def image(entry: dict[str, Any]) -> Annotated:
        faces = tuple(Face(read_keypoints(face["kps"]), float(face["ratio"])) for face in entry["faces"])
        name = inside(entry["image_name"]).removeprefix(f"{FACE_SET}/")
        return Annotated(name, int(entry["img_width"]), int(entry["img_height"]), faces=faces)

    return Part("face_data", FACE_SET, data / "images" / "face_data" / FACE_SET, _read(path, image))


def _read(path: Path, image: Any) -> tuple[Annotated, ...]:
    try:
        return tuple(image(entry) for entry in json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: not an annotation of TokBench: {type(error).__name__}: {error}") from error


def read_box(stored: list[Any]) -> tuple[int, ...] | tuple[tuple[int, int], ...]:
    """A box or four corners, truncated to whole pixels."""
    if len(stored) != 4:
        raise ValueError(f"bbox {stored}: expected x1, y1, x2, y2 or four corners")
    if isinstance(stored[0], list):
        return tuple((int(x), int(y)) for x, y in stored)
    return tuple(int(value) for value in stored)


def read_keypoints(stored: list[list[float]]) -> tuple[tuple[float, float], ...]:
    """Five points."""
    if len(stored) != 5:
        raise ValueError(f"{len(stored)} keypoints: expected five")
    return tuple((float(x), float(y)) for x, y in stored)


def inside(name: str) -> str:
    """A file name that stays inside its folder: reconstructions are written under it."""
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise ValueError(f"file name {name!r} leaves its folder")
    return name
