"""Runs the protocol: reconstruct every picture at one setting, read its words, compare its faces, and score. Resumable at every step.

Memory holds the annotations, one batch of pictures and the numbers.
"""

from __future__ import annotations

import hashlib
import json
import os
import resource
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from tokkit.baselines.pictures import from_picture, to_picture
from tokkit.bench.journal import Journal
from tokkit.bench.tokbench.faces import FaceEmbedder
from tokkit.bench.tokbench.layout import Annotated, Part, Word
from tokkit.bench.tokbench.prepare import Placement, fit, open_picture, restore, save_picture
from tokkit.bench.tokbench.recognizers import Recognizer, crop_word
from tokkit.bench.tokbench.scores import FACE_EDGES, TEXT_EDGES, BucketScores, accuracy, bucket_of, bucket_scores, similarity
from tokkit.errors import InputError, TokkitError
from tokkit.evaluate.provenance import provenance
from tokkit.evaluate.systems import Coded, System
from tokkit.files import replacing
from tokkit.modalities.base import Sample

FORMAT = "tokkit-tokbench"
THREADS = 8
"""That prepare and save pictures."""
T = TypeVar("T")


class Kinded(Protocol):
    """A part of pictures or of videos."""

    @property
    def kind(self) -> str: ...


P = TypeVar("P", bound=Kinded)
Progress = Callable[[int], object]


@dataclass(frozen=True)
class Method:
    """What is judged.

    Attributes:
        system: codes squares; None where the reconstructions are there already.
        root: of the reconstructions; None judges the originals themselves.
        identity: what tells it from others.
    """

    name: str
    system: System | None
    root: Path | None
    identity: dict[str, Any] = field(default_factory=dict)

    def folder(self, part: Part, setting: int) -> Path:
        return part.folder if self.root is None else part.reconstructions(self.root, setting)


@dataclass(frozen=True)
class Reading:
    """One word and what was read of it."""

    part: Part
    image: Annotated
    word: Word
    read: str

    @property
    def place(self) -> str:
        """The picture that it is in."""
        return f"{self.part.name}/{self.image.name}"


@dataclass
class Result:
    """Everything that one run found.

    Attributes:
        scores: metric -> its buckets and their mean.
        failures: pictures, words and faces that have no value, and why; they are in no mean.
        seconds: step -> wall time in this process; a resumed run counts only what it did itself.
        cpu_seconds: processor time of all steps; on a machine that does nothing else, the cores share it.
        readings: every word; only in memory, the journals have them on the disk.
    """

    method: str
    setting: int
    identity: dict[str, Any]
    scores: dict[str, BucketScores] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    images: int = 0
    words: int = 0
    faces: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    cpu_seconds: float = 0.0
    peak_bytes: dict[str, int] = field(default_factory=dict)
    readings: list[Reading] = field(default_factory=list, repr=False)

    def score_words(self, names: tuple[str, str], words: Sequence[tuple[float, str, str, str]], edges: Sequence[float]) -> None:
        """Accuracy and similarity, by these names, of words (ratio, text, what was read, where); nothing where there are none."""
        if words:
            for name, compare in zip(names, (accuracy, similarity), strict=True):
                self.scores[name] = bucket_scores(((ratio, compare(text, read), place) for ratio, text, read, place in words), edges)

    def measure(self, before: float) -> None:
        """Note what the run took of the machine: its processor time, from `processor_seconds` at its start, and its memory."""
        self.cpu_seconds = processor_seconds() - before
        self.peak_bytes["process"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        if torch.cuda.is_available():
            self.peak_bytes["cuda"] = torch.cuda.max_memory_allocated()

    def write_json(self, path: Path) -> None:
        plain = {entry.name: getattr(self, entry.name) for entry in fields(self) if entry.name not in ("readings", "scores")}
        scores = {name: asdict(score) for name, score in self.scores.items()}
        stored = {"format": FORMAT, "version": 1, **plain, "scores": scores, "provenance": provenance()}
        with replacing(path) as part:
            part.write_text(json.dumps(stored, indent=1) + "\n", encoding="utf-8")


def run(
    method: Method,
    parts: list[Part],
    out: Path,
    *,
    setting: int = 256,
    recognizer: Recognizer | None = None,
    embedder: FaceEmbedder | None = None,
    batch_size: int = 8,
    progress: Progress = lambda done: None,
) -> Result:
    """Judge one method at one setting.

    Args:
        method: what is judged.
        parts: of the data, from `read_layout`.
        out: where finished work is remembered; the same folder goes on with an interrupted run.
        setting: side of the square, 256, 512 or 1024.
        recognizer: None leaves the text sets out.
        embedder: None leaves the faces out.
        batch_size: squares a pass of the tokenizer.
        progress: called with the number of finished pictures.

    Raises:
        InputError: there is no such setting, `out` belongs to another run, or nothing is left to judge.
    """
    if setting not in TEXT_EDGES:
        raise InputError(f"setting {setting}: TokBench has {', '.join(map(str, TEXT_EDGES))}")
    before = processor_seconds()
    parts = to_judge(parts, recognizer, embedder)
    annotations = digest([(part.kind, part.name, part.images) for part in parts])
    identity = {"method": method.name, **method.identity, "setting": setting, "data": annotations}
    result = Result(method.name, setting, identity, images=sum(len(part.images) for part in parts))
    started = time.perf_counter()
    if method.system is not None:
        assert method.root is not None
        result.failures += reconstruct(method.system, parts, method.root, setting, batch_size, progress)
        result.seconds["reconstruct"] = time.perf_counter() - started
    faces: list[tuple[float, float, str]] = []
    for part in parts:
        started = time.perf_counter()
        if part.kind == "text_data":
            assert recognizer is not None
            own = {**identity, "set": part.name, "recognizer": recognizer.name, "batch": recognizer.batch_size}
            with Journal(out / f"{recognizer.name}-{part.name}.jsonl", own) as journal:
                result.readings += read_words(part, method.folder(part, setting), recognizer, TEXT_EDGES[setting], journal, result.failures)
        else:
            assert embedder is not None
            own = {**identity, "set": part.name, "embedder": embedder.name}
            with Journal(out / f"{embedder.name}-{part.name}.jsonl", own) as journal:
                faces += compare_faces(part, method.folder(part, setting), embedder, journal, result.failures)
        result.seconds[part.kind] = result.seconds.get(part.kind, 0.0) + time.perf_counter() - started
    result.words, result.faces = len(result.readings), len(faces)
    if recognizer is not None:
        words = [(own.word.ratio, own.word.text, own.read, own.place) for own in result.readings]
        result.score_words(recognizer.metric_names(), words, TEXT_EDGES[setting])
    if embedder is not None and faces:
        result.scores[embedder.metric_name()] = bucket_scores(faces, FACE_EDGES[setting])
    result.measure(before)
    return result


def to_judge(parts: Iterable[P], recognizer: Recognizer | None, embedder: FaceEmbedder | None) -> list[P]:
    """The parts that something here can judge. Raises InputError where nothing can."""
    judged = [part for part in parts if (recognizer if part.kind == "text_data" else embedder) is not None]
    if not judged:
        raise InputError("nothing to judge: no set of words with a recognizer, and no faces with an embedder")
    return judged


def processor_seconds() -> float:
    """Processor time of this process until now."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def digest(annotations: list[tuple[Any, ...]]) -> str:
    """16 hexadecimal digits that name the annotations."""
    return hashlib.sha256(repr(annotations).encode()).hexdigest()[:16]


def reconstruct(system: System, parts: list[Part], root: Path, setting: int, batch_size: int, progress: Progress) -> list[str]:
    """Write the reconstruction of every picture that has none yet; what failed and why."""
    failures: list[str] = []
    done = 0
    with ThreadPoolExecutor(min(THREADS, os.cpu_count() or 1), "tokkit-pictures") as threads:
        for part in parts:
            target = part.reconstructions(root, setting)
            missing = [image for image in part.images if not (target / image.name).exists()]
            done += len(part.images) - len(missing)
            batches = list(chunks(missing, batch_size))
            opened: deque[list[Future[_Prepared]]] = deque()
            for number, batch in enumerate(batches):
                for following in batches[number + len(opened) : number + 2]:  # the next is read while this one is coded
                    opened.append([threads.submit(_prepare, part, image, setting) for image in following])
                failures += _reconstruct(system, part, target, batch, opened.popleft(), threads)
                done += len(batch)
                progress(done)
    return failures


_Prepared = tuple[Sample, Placement]


def _prepare(part: Part, image: Annotated, setting: int) -> _Prepared:
    square, placed = fit(open_picture(part.folder / image.name), setting)
    return Sample(from_picture(square), Path(image.name).stem), placed


def _reconstruct(
    system: System, part: Part, target: Path, batch: list[Annotated], opened: list[Future[_Prepared]], threads: ThreadPoolExecutor
) -> list[str]:
    """One batch at once; when that fails, picture by picture."""
    try:
        prepared = [future.result() for future in opened]
        coded = system.code([sample for sample, _ in prepared])
    except TokkitError as error:
        if len(batch) == 1:
            return [f"{part.name}/{batch[0].name}: {error}"]
        each = zip(batch, opened, strict=True)
        return [failure for image, own in each for failure in _reconstruct(system, part, target, [image], [own], threads)]

    def save(image: Annotated, placed: Placement, code: Coded) -> None:
        save_picture(restore(to_picture(code.values).convert("RGB"), placed), target / image.name)

    list(threads.map(save, batch, (placed for _, placed in prepared), coded))
    return []


def read_words(
    part: Part, folder: Path, recognizer: Recognizer, edges: Sequence[float], journal: Journal, failures: list[str]
) -> Iterator[Reading]:
    """Every word of a set with what was read, batch by batch in the order of the annotations; failures are told and left out."""
    listed = [
        (image, word)
        for image in part.images
        for word in image.words
        if recognizer.batch_matters or bucket_of(word.ratio, edges) is not None
    ]
    pictures = _Pictures(folder)
    for number, batch in enumerate(chunks(listed, recognizer.batch_size)):
        readings = journal.done.get(str(number))
        if readings is None:
            readings = _read_batch(batch, pictures, recognizer)
            if not any(why for _, why in readings):  # what failed is tried again by the next run
                journal.add(str(number), readings)
        for (image, word), (read, why) in zip(batch, readings, strict=True):
            if read is None:
                failures.append(f"{part.name}/{image.name}: {word.text!r}: {why}")
            else:
                yield Reading(part, image, word, read)


def _read_batch(batch: list[tuple[Annotated, Word]], pictures: _Pictures, recognizer: Recognizer) -> list[tuple[str | None, str]]:
    """For each word what was read, or None and why not."""
    found: list[tuple[str | None, str]] = [(None, "")] * len(batch)
    crops: dict[int, NDArray[np.uint8]] = {}
    for i, (image, word) in enumerate(batch):
        try:
            crop = crop_word(pictures.pixels(image), word)
        except InputError as error:
            found[i] = (None, str(error))
            continue
        if crop.size:
            crops[i] = crop
        else:
            found[i] = (None, f"the box {word.box} is empty")
    readings = recognizer.read(list(crops.values()), [batch[i][1].text for i in crops]) if crops else []
    for position, i in enumerate(crops):
        found[i] = (None, "a symbol of its batch is not in the recognizer's vocabulary") if readings is None else (readings[position], "")
    return found


def compare_faces(
    part: Part, folder: Path, embedder: FaceEmbedder, journal: Journal, failures: list[str]
) -> Iterator[tuple[float, float, str]]:
    """(ratio, similarity, picture) of every face; failures are told and left out."""
    originals, reconstructions = _Pictures(part.folder), _Pictures(folder)
    for image in part.images:
        if image.name not in journal.done:
            try:
                first, second = originals.pixels(image), reconstructions.pixels(image)
                journal.add(image.name, [embedder.similarity(first, second, face) for face in image.faces])
            except InputError as error:
                failures.append(f"{part.name}/{image.name}: {error}")
                continue
        for face, value in zip(image.faces, journal.done[image.name], strict=True):
            yield face.ratio, value, f"{part.name}/{image.name}"


class _Pictures:
    """Files as pixels [H, W, 3], the last one kept: words of a picture follow each other."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._last: tuple[str, NDArray[np.uint8]] | None = None

    def pixels(self, image: Annotated) -> NDArray[np.uint8]:
        """
        Raises:
            InputError: the file is not there, damaged, or of another size than the annotation says.
        """
        if self._last is None or self._last[0] != image.name:
            pixels = np.asarray(open_picture(self.folder / image.name))
            if pixels.shape[:2] != (image.height, image.width):
                size = f"{pixels.shape[1]} x {pixels.shape[0]}"
                raise InputError(f"{self.folder / image.name} is {size}, and the annotation says {image.width} x {image.height}")
            self._last = image.name, pixels
        return self._last[1]


def chunks(items: list[T], size: int) -> Iterator[list[T]]:
    """Neighbours together, `size` at a time."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
