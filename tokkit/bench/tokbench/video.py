"""TokBench's video part: clips through a tokenizer, the words and faces of their annotated frames judged as those of pictures are.

Its scores have "video_" before their names. Memory holds the annotations, a piece of a clip, the crops of one clip and the numbers.
Finished clips are remembered.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from tokkit.bench.journal import Journal
from tokkit.bench.tokbench.faces import FaceEmbedder
from tokkit.bench.tokbench.layout import Word
from tokkit.bench.tokbench.recognizers import Crop, Recognizer, crop_word
from tokkit.bench.tokbench.run import Method, Progress, Result, chunks, digest, processor_seconds, to_judge
from tokkit.bench.tokbench.scores import VIDEO_FACE_EDGES, VIDEO_TEXT_EDGES, bucket_of, bucket_scores
from tokkit.bench.tokbench.video_layout import Clip, VideoPart
from tokkit.bench.tokbench.video_prepare import (
    Frame,
    VideoPlacement,
    at_size,
    clip_writer,
    fit_frame,
    open_clip,
    restore_frame,
    video_placement,
)
from tokkit.errors import InputError, TokkitError
from tokkit.evaluate.systems import System
from tokkit.modalities.base import Sample

PIECE = 96
"""Frames that a tokenizer of video gets at once; longer clips are coded in pieces."""


def run_video(
    method: Method,
    parts: list[VideoPart],
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
        method: what is judged; its tokenizer is of video, or of pictures, which then codes frame by frame.
        parts: of the data, from `read_video_layout`.
        out: where finished work is remembered; the same folder goes on with an interrupted run.
        setting: length of the shorter side, 256 or 480.
        recognizer: None leaves the text sets out.
        embedder: None leaves the faces out.
        batch_size: frames a pass of a tokenizer of pictures.
        progress: called with the number of reconstructed clips.

    Raises:
        InputError: there is no such setting, `out` belongs to another run, or nothing is left to judge.
    """
    if setting not in VIDEO_TEXT_EDGES:
        raise InputError(f"setting {setting}: TokBench's videos have {', '.join(map(str, VIDEO_TEXT_EDGES))}")
    before = processor_seconds()
    parts = to_judge(parts, recognizer, embedder)
    annotations = digest([(part.kind, part.name, part.clips) for part in parts])
    identity = {"method": method.name, **method.identity, "video": True, "setting": setting, "data": annotations}
    result = Result(method.name, setting, identity, images=sum(len(part.clips) for part in parts))
    started = time.perf_counter()
    if method.system is not None:
        assert method.root is not None
        result.failures += reconstruct_clips(method.system, parts, method.root, setting, batch_size, progress)
        result.seconds["reconstruct"] = time.perf_counter() - started
    words: list[tuple[float, str, str, str]] = []
    faces: list[tuple[float, float, str]] = []
    for part in parts:
        started = time.perf_counter()
        folder = part.folder if method.root is None else part.reconstructions(method.root, setting)
        if part.kind == "text_data":
            assert recognizer is not None
            own = {**identity, "set": part.name, "recognizer": recognizer.name, "batch": recognizer.batch_size}
            with Journal(out / f"video-{recognizer.name}-{part.name}.jsonl", own) as journal:
                words += read_clips(part, folder, recognizer, VIDEO_TEXT_EDGES[setting], journal, result.failures)
        else:
            assert embedder is not None
            own = {**identity, "set": part.name, "embedder": embedder.name}
            with Journal(out / f"video-{embedder.name}-{part.name}.jsonl", own) as journal:
                faces += compare_clips(part, folder, embedder, journal, result.failures)
        result.seconds[part.kind] = result.seconds.get(part.kind, 0.0) + time.perf_counter() - started
    result.words, result.faces = len(words), len(faces)
    if recognizer is not None:
        acc, ned = (f"video_{name}" for name in recognizer.metric_names())
        result.score_words((acc, ned), words, VIDEO_TEXT_EDGES[setting])
    if embedder is not None and faces:
        result.scores[f"video_{embedder.metric_name()}"] = bucket_scores(faces, VIDEO_FACE_EDGES[setting])
    result.measure(before)
    return result


def reconstruct_clips(system: System, parts: list[VideoPart], root: Path, setting: int, batch_size: int, progress: Progress) -> list[str]:
    """Write the reconstruction of every clip that has none yet; what failed and why."""
    failures: list[str] = []
    done = 0
    for part in parts:
        target = part.reconstructions(root, setting)
        for clip in part.clips:
            if not (target / clip.file).exists():
                try:
                    _reconstruct(system, part.folder / clip.file, target / clip.file, setting, batch_size)
                except TokkitError as error:
                    failures.append(f"{part.name}/{clip.file}: {error}")
            done += 1
            progress(done)
    return failures


def _reconstruct(system: System, source: Path, target: Path, setting: int, batch_size: int) -> None:
    frames, rate = open_clip(source)
    of_video = system.modality.rank == 3
    with clip_writer(target, rate) as put:
        placed: VideoPlacement | None = None
        while piece := list(islice(frames, PIECE if of_video else batch_size)):
            placed = placed or video_placement(piece[0].shape[1], piece[0].shape[0], setting)
            values = torch.from_numpy(np.stack([fit_frame(frame, placed) for frame in piece])).permute(3, 0, 1, 2).float() / 255
            for frame in _coded(system, values, source.stem, float(rate)):
                put(restore_frame(frame, placed))


def _coded(system: System, values: torch.Tensor, name: str, rate: float) -> Iterator[Frame]:
    """The reconstruction of frames [3, T, H, W], one by one."""
    if system.modality.rank == 3:
        found = system.code([Sample(values, name, (rate,))])[0].values
        if found.shape != values.shape:
            raise InputError(f"{system.name}: gave {list(found.shape)} for {list(values.shape)}")
    else:
        samples = [Sample(frame, f"{name}-{number}") for number, frame in enumerate(values.unbind(1))]
        found = torch.stack([coded.values for coded in system.code(samples)], 1)
    yield from found.clamp(0, 1).mul(255).round().byte().permute(1, 2, 3, 0).cpu().numpy()


def read_clips(
    part: VideoPart, folder: Path, recognizer: Recognizer, edges: Sequence[float], journal: Journal, failures: list[str]
) -> Iterator[tuple[float, str, str, str]]:
    """(ratio, word, what was read, clip) of every word of a set; a crop with a side of one pixel or less is left out, as published.

    Words go to the recognizer in the order of the frames, in batches that end with their clip.
    """
    for clip in part.clips:
        if clip.file not in journal.done:
            try:
                journal.add(clip.file, _read_clip(clip, folder / clip.file, recognizer, edges))
            except InputError as error:
                failures.append(f"{part.name}/{clip.file}: {error}")
                continue
        for ratio, text, read in journal.done[clip.file]:
            if read is None:
                failures.append(f"{part.name}/{clip.file}: {text!r}: a symbol of its batch is not in the recognizer's vocabulary")
            else:
                yield ratio, text, read, f"{part.name}/{clip.file}"


def _read_clip(clip: Clip, file: Path, recognizer: Recognizer, edges: Sequence[float]) -> list[tuple[float, str, str | None]]:
    words: list[Word] = []
    crops: list[Crop] = []
    frames, _ = open_clip(file)
    for number, frame in _annotated(clip, frames, file):
        for word in clip.words[number]:
            if recognizer.batch_matters or bucket_of(word.ratio, edges) is not None:
                crop = crop_word(frame, word)
                if min(crop.shape[:2]) > 1:
                    words.append(word)
                    crops.append(crop.copy())
    found: list[tuple[float, str, str | None]] = []
    for batch in chunks(list(zip(words, crops, strict=True)), recognizer.batch_size):
        texts = [word.text for word, _ in batch]
        read: Sequence[str | None] = recognizer.read([crop for _, crop in batch], texts) or [None] * len(batch)
        found += [(word.ratio, word.text, own) for (word, _), own in zip(batch, read, strict=True)]
    return found


def compare_clips(
    part: VideoPart, folder: Path, embedder: FaceEmbedder, journal: Journal, failures: list[str]
) -> Iterator[tuple[float, float, str]]:
    """(ratio, similarity, clip) of every face of every frame; a clip with another number of frames is a failure, as published."""
    for clip in part.clips:
        if clip.file not in journal.done:
            try:
                files = part.folder / clip.file, folder / clip.file
                first, second = (_annotated(clip, open_clip(file)[0], file) for file in files)
                found = [
                    (face.ratio, embedder.similarity(original, reconstruction, face))
                    for (number, original), (_, reconstruction) in zip(first, second, strict=True)
                    for face in clip.faces[number]
                ]
                journal.add(clip.file, found)
            except InputError as error:
                failures.append(f"{part.name}/{clip.file}: {error}")
                continue
        yield from ((ratio, value, f"{part.name}/{clip.file}") for ratio, value in journal.done[clip.file])


def _annotated(clip: Clip, frames: Iterator[Frame], file: Path) -> Iterator[tuple[int, Frame]]:
    """The annotated frames of a file, at the annotated size."""
    count = 0
    wanted = clip.annotated
    for number, frame in enumerate(frames):
        count += 1
        if number in wanted:
            yield number, at_size(frame, (clip.width, clip.height))
    if clip.frames is not None and count != clip.frames:
        raise InputError(f"{file}: {count} frames, and the annotation has {clip.frames}")
    if wanted and count <= max(wanted):
        raise InputError(f"{file}: {count} frames, and frame {max(wanted) + 1} is annotated")
