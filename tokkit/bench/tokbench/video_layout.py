"""The published layout of videos: folders of clips and JSON annotations of their frames.

    <data>/videos/text_data/<set>/<video_name>.mp4         <data>/video_annotations/text_<set>.json
    <data>/videos/face_data/face_clip_3s/<video_name>      <data>/video_annotations/videoface_meta.json

Text has one entry a frame, "...-frame<k>.jpg" being frame k, counted from 1; faces have a list of frames for each clip.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from tokkit.bench.tokbench.layout import Face, Word, inside, read_box, read_keypoints
from tokkit.errors import InputError

TEXT_SETS = ("ch3", "ds")
"""The published text sets, in the order that they are pooled in; sets with other names follow, sorted."""
FACE_SET = "face_clip_3s"
SUFFIX = ".mp4"
_FRAME = re.compile(r"-frame(\d+)(?:\.\w+)?$")


@dataclass(frozen=True)
class Clip:
    """One video.

    Attributes:
        file: its name below the folder of its set.
        words: by frame, counted from 0; frames without words are not there.
        faces: alike.
        frames: how many frames it must have; None where the annotation does not say.
    """

    file: str
    width: int
    height: int
    words: dict[int, tuple[Word, ...]]
    faces: dict[int, tuple[Face, ...]]
    frames: int | None = None

    @property
    def annotated(self) -> set[int]:
        """The frames that something is in."""
        return set(self.words) | set(self.faces)


@dataclass(frozen=True)
class VideoPart:
    """One set of clips, in the order of the annotations; see `Part`."""

    kind: str
    name: str
    folder: Path
    clips: tuple[Clip, ...]

    def reconstructions(self, root: Path, size: int) -> Path:
        """Where the reconstructions at one setting are."""
        return root / self.kind / f"{self.name}_{size}"


def read_video_layout(data: str | Path, *, sets: tuple[str, ...] | None = None) -> list[VideoPart]:
    """Every set of videos that is there: text sets in the published order, then faces.

    Args:
        data: the folder that holds `videos` and `video_annotations`.
        sets: only these; "face_clip_3s" is the faces.

    Raises:
        InputError: there is no annotation, one is damaged, or a set that was asked for is not there.
    """
    data = Path(data)
    folder = data / "video_annotations"
    found = {path.stem.removeprefix("text_"): path for path in sorted(folder.glob("text_*.json"))}
    known = [name for name in TEXT_SETS if name in found] + [name for name in found if name not in TEXT_SETS]
    faces = folder / "videoface_meta.json"
    if faces.is_file():
        known.append(FACE_SET)
    if not known:
        raise InputError(f"{data}: no video_annotations/text_<set>.json and no video_annotations/videoface_meta.json")
    for name in sets or ():
        if name not in known:
            raise InputError(f"{data}: no set of videos {name!r}; there are {', '.join(known)}")
    parts = []
    for name in known:
        if sets is None or name in sets:
            kind, path, read = ("face_data", faces, _faces) if name == FACE_SET else ("text_data", found[name], _texts)
            parts.append(VideoPart(kind, name, data / "videos" / kind / name, _read(path, read)))
    return parts


def _read(path: Path, read: Callable[[Any], list[Clip]]) -> tuple[Clip, ...]:
    try:
        return tuple(read(json.loads(path.read_text(encoding="utf-8"))))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: not an annotation of TokBench's videos: {type(error).__name__}: {error}") from error


def _texts(entries: list[dict[str, Any]]) -> list[Clip]:
    clips = []
    for name, group in groupby(entries, key=lambda entry: str(entry["video_name"])):
        frames = list(group)
        words: dict[int, tuple[Word, ...]] = {}
        for entry in frames:
            found = tuple(Word(read_box(word["bbox"]), str(word["rec"]), float(word["ratio"])) for word in entry["annotations"])
            number = _frame_number(entry["file_name"])
            if found:
                words[number] = (*words.get(number, ()), *found)
        clips.append(Clip(_file(name), int(frames[0]["width"]), int(frames[0]["height"]), words, {}))
    names = [clip.file for clip in clips]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the frames of {twice} do not stand together")
    return clips


def _faces(entries: list[dict[str, Any]]) -> list[Clip]:
    clips = []
    for entry in entries:
        frames = [tuple(Face(read_keypoints(face["kps"]), float(face["ratio"])) for face in frame) for frame in entry["frame_anns"]]
        faces = {number: found for number, found in enumerate(frames) if found}
        size = int(entry["video_width"]), int(entry["video_height"])
        clips.append(Clip(_file(str(entry["video_name"])), *size, {}, faces, len(frames)))
    return clips


def _frame_number(name: str) -> int:
    match = _FRAME.search(name)
    if match is None or int(match[1]) < 1:
        raise ValueError(f"file name {name!r}: expected ...-frame<k>, k from 1 on")
    return int(match[1]) - 1


def _file(name: str) -> str:
    return inside(name if name.endswith(SUFFIX) else name + SUFFIX)
