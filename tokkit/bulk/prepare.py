"""Mesh files to shards of shapes that training reads. Processes work side by side; a shard that is finished is never done again."""

from __future__ import annotations

import dataclasses
import io
import json
import multiprocessing
import os
import tarfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tokkit.bulk.files import Failure, Job, find_jobs
from tokkit.data.mesh_shards import FORMAT, MANIFEST, VERSION, read_manifest
from tokkit.data.shapes import NEAR, Counts, Prepared
from tokkit.errors import InputError
from tokkit.files import replacing
from tokkit.geometry import watertight
from tokkit.geometry.frame import Fit
from tokkit.geometry.parts import TOUCHING
from tokkit.geometry.shape import SHARP_ANGLE, Solid
from tokkit.modalities.mesh import Mesh, triangles_of

REPORT = "report.json"


@dataclass(frozen=True)
class PrepareOptions:
    """How to prepare.

    Attributes:
        counts: points of a shape.
        layers, fit: as the modality `mesh` of the recipe has them.
        seed: of every choice of points.
        workers: processes; 0: one a core.
        shard_size: shapes a tar file.
        force: start anew in a folder that holds shards.
        resume: keep the finished shards, and do the rest.
    """

    counts: Counts = field(default_factory=Counts)
    layers: int = 1
    fit: Fit = "cube"
    seed: int = 0
    workers: int = 0
    shard_size: int = 128
    force: bool = False
    resume: bool = False

    def manifest(self, jobs: list[Job]) -> dict[str, object]:
        """What a folder of shards says about how it was made; two runs with the same one give the same shards."""
        return {
            "format": FORMAT,
            "version": VERSION,
            "sign": "negative inside",
            "layers": self.layers,
            "fit": self.fit,
            "counts": dataclasses.asdict(self.counts),
            "seed": self.seed,
            "shard_size": self.shard_size,
            "near_sigmas": list(NEAR),
            "sharp_angle_degrees": SHARP_ANGLE,
            "touching": TOUCHING,
            "remesh": {
                "cells": watertight.RESOLUTION,
                "epsilon_cells": watertight.EPSILON,
                "smallest_part": watertight.SMALLEST_PART,
            },
            "inputs": [job.name for job in jobs],
        }


@dataclass
class PrepareSummary:
    """What was done.

    Attributes:
        done: shapes that are in shards now.
        skipped: of these, the ones that were there before.
        remeshed: names of shapes with open bodies, which were built anew: (share of the area, share of that which was lost).
        failures: files that are in no shard.
    """

    done: int = 0
    skipped: int = 0
    remeshed: dict[str, tuple[float, float]] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)


def prepare_files(
    inputs: list[str | Path],
    out: str | Path,
    options: PrepareOptions,
    *,
    progress: Callable[[int], object] = lambda done: None,
) -> PrepareSummary:
    """Prepare mesh files and folders of them.

    Args:
        inputs: files, and folders that are searched for meshes.
        out: receives shapes-00000.tar, ..., manifest.json and report.json (remeshed shapes and failures).
        options: see there.
        progress: called with the number of files that are finished, failures included.

    Raises:
        InputError: nothing to do; `out` holds shards and neither `force` nor `resume` is set; or those to resume were made with other
            options or of other files.
    """
    out = Path(out)
    jobs = find_jobs(inputs, tuple(suffix for suffix in Mesh.suffixes if suffix != ".npy"))
    manifest = json.loads(json.dumps(options.manifest(jobs)))
    present = sorted(out.glob("shapes-*.tar"))
    if (out / MANIFEST).exists() and options.resume:
        if read_manifest(out) != manifest:
            raise InputError(f"{out / MANIFEST}: made with other options or of other files; pass --force to start anew")
    elif present and not options.force:
        raise InputError(f"{out} holds {len(present)} shards; pass --resume to go on, --force to start anew, or another -o")
    else:
        for path in present:
            path.unlink()
    with replacing(out / MANIFEST) as part:
        part.write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    summary = PrepareSummary()
    with _mapping(options.workers) as mapped:
        for number, start in enumerate(range(0, len(jobs), options.shard_size)):
            path, batch = out / f"shapes-{number:05d}.tar", jobs[start : start + options.shard_size]
            if path.exists():
                _recall(path, summary)
            else:
                _write_shard(path, mapped(_Work(options), batch), summary, progress)
            progress(start + len(batch))
    report = {"done": summary.done, "remeshed": summary.remeshed, "failures": [dataclasses.asdict(failure) for failure in summary.failures]}
    with replacing(out / REPORT) as part:
        part.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return summary


@dataclass(frozen=True)
class _Result:
    """One file: its shape as bytes, or why there is none."""

    name: str
    data: bytes = b""
    remeshed: tuple[float, float] = (0.0, 0.0)
    reason: str = ""


@dataclass(frozen=True)
class _Work:
    """What a process does with a file."""

    options: PrepareOptions

    def __call__(self, job: Job) -> _Result:
        options = self.options
        try:
            values, label = Mesh().load(job.source)
            if len(values) != 9:
                raise InputError(f"{label}: a point cloud, whose inside is not known; training needs meshes")
            solid = Solid.of(triangles_of(values), fit=options.fit, layers=options.layers)
            shape = Prepared.of(solid, options.counts, layers=options.layers, seed=options.seed)
        except InputError as error:
            return _Result(job.name, reason=str(error))
        return _Result(job.name, shape.to_bytes(), (solid.repaired.remeshed, solid.repaired.dropped))


@contextmanager
def _mapping(workers: int) -> Iterator[Callable[[_Work, list[Job]], Iterator[_Result]]]:
    """`map` over so many processes; in this one when it is one."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    count = workers or cores
    if count == 1:
        yield map
        return
    with ProcessPoolExecutor(count, multiprocessing.get_context("spawn")) as pool:
        yield pool.map


def _write_shard(path: Path, results: Iterator[_Result], summary: PrepareSummary, progress: Callable[[int], object]) -> None:
    notes: dict[str, dict[str, object]] = {"remeshed": {}, "failures": {}}
    started = summary.done + len(summary.failures)
    with replacing(path) as part, tarfile.open(part, "w") as tar:
        for finished, result in enumerate(results, 1):
            if result.reason:
                notes["failures"][result.name] = result.reason
            else:
                _add(tar, f"{result.name}.npz", result.data)
            if result.remeshed[0]:
                notes["remeshed"][result.name] = list(result.remeshed)
            progress(started + finished)
        _add(tar, "notes.json", json.dumps(notes).encode())
        members = len(tar.getmembers()) - 1
    summary.done += members
    _take_notes(notes, summary)


def _recall(path: Path, summary: PrepareSummary) -> None:
    """What a finished shard holds."""
    try:
        with tarfile.open(path) as tar:
            notes = json.load(tar.extractfile("notes.json") or io.BytesIO())
            members = len(tar.getmembers()) - 1
    except (tarfile.TarError, KeyError, ValueError, OSError) as error:
        raise InputError(f"{path}: not a finished shard: {error}; remove it, or pass --force") from error
    summary.done += members
    summary.skipped += members
    _take_notes(notes, summary)


def _take_notes(notes: dict[str, dict[str, object]], summary: PrepareSummary) -> None:
    summary.remeshed.update(notes["remeshed"])  # type: ignore[arg-type]
    summary.failures.extend(Failure(name, str(reason)) for name, reason in notes["failures"].items())


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))
