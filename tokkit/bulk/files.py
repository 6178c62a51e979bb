"""Which files there are to work on, and where their results go."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from tokkit import chunking, footage
from tokkit.errors import InputError
from tokkit.modalities.video import Video
from tokkit.tokenizer import Tokenizer


@dataclass(frozen=True)
class Job:
    """One file to work on. `name` is its path below the folder that was given, with forward slashes."""

    source: Path
    name: str


@dataclass(frozen=True)
class Failure:
    """A file that could not be worked on, and why."""

    name: str
    reason: str


def by_pieces(tokenizer: Tokenizer) -> ModuleType:
    """The module that works on long samples piece by piece."""
    return footage if isinstance(tokenizer.modality, Video) else chunking


def find_jobs(inputs: Sequence[str | Path], suffixes: Iterable[str], is_job: Callable[[Path], bool] = lambda folder: False) -> list[Job]:
    """The given files, and everything below the given folders that has one of the suffixes and is not hidden, in sorted order; a folder
    for which `is_job` holds counts as a file.

    Raises:
        InputError: an input is not there, or a folder holds nothing that fits.
    """
    accepted = frozenset(suffixes)
    jobs: list[Job] = []
    for given in map(Path, inputs):
        if given.is_dir() and not is_job(given):
            below = _below(given, accepted, is_job)
            if not below:
                raise InputError(f"{given}: no file below it ends in {', '.join(sorted(accepted))}")
            jobs.extend(below)
        elif given.exists():
            jobs.append(Job(given, given.name))
        else:
            raise InputError(f"{given}: no such file or folder")
    return jobs


def _below(top: Path, suffixes: frozenset[str], is_job: Callable[[Path], bool]) -> list[Job]:
    """What of a folder's tree is to be worked on, in the order of its paths' parts. Hidden files and folders are not: macOS leaves a
    ._cat.jpg that is no picture beside each cat.jpg."""
    found: list[Job] = []
    for folder, folders, files in os.walk(top):
        folders[:] = [name for name in folders if not name.startswith(".")]
        inside = os.path.relpath(folder, top).replace(os.sep, "/")
        prefix = "" if inside == "." else f"{inside}/"
        found += [Job(place, prefix + name) for name in folders if is_job(place := Path(folder, name))]
        places = ((Path(folder, name), prefix + name) for name in files if not name.startswith("."))
        found += [Job(place, name) for place, name in places if place.suffix.lower() in suffixes and place.is_file()]
    return sorted(found, key=lambda job: job.name.split("/"))


def targets(names: Sequence[str], out: Path, suffix: str) -> list[Path]:
    """Where each result goes: the tree of the inputs below `out`, with another suffix; where two would meet, behind the old suffix."""
    replaced = [str(Path(name).with_suffix(suffix)) for name in names]
    meeting = {target for target, count in Counter(replaced).items() if count > 1}
    chosen = [out / (name + suffix if target in meeting else target) for name, target in zip(names, replaced, strict=True)]
    _refuse_twice(map(str, chosen), "results would get")
    return chosen


def refuse_same_names(jobs: Sequence[Job]) -> None:
    """Raises InputError where two samples of one folder of shards could not be told apart."""
    _refuse_twice((job.name for job in jobs), "samples would have")


def _refuse_twice(names: Iterable[str], what: str) -> None:
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise InputError(f"{len(twice)} {what} the same name, {twice[0]} first; give the folders one by one with an -o of their own")


def refuse_existing(paths: Sequence[Path], *, force: bool, hint: str) -> None:
    """Refuse to start when a result is there already and `force` is not set."""
    present = [path for path in paths if path.exists()]
    if present and not force:
        raise InputError(f"{len(present)} of {len(paths)} results exist, {present[0]} first; pass --force to replace them{hint}")
