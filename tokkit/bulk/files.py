"""Which files there are to work on, and where their results go."""

from __future__ import annotations

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
    """The given files, and everything below the given folders that has one of the suffixes, in sorted order; a folder for which `is_job`
    holds counts as a file.

    Raises:
        InputError: an input is not there, or a folder holds nothing that fits.
    """
    accepted = tuple(suffixes)
    jobs: list[Job] = []
    for given in map(Path, inputs):
        if given.is_dir() and not is_job(given):
            below = sorted(p for p in given.rglob("*") if (is_job(p) if p.is_dir() else p.suffix.lower() in accepted and p.is_file()))
            if not below:
                raise InputError(f"{given}: no file below it ends in {', '.join(accepted)}")
            jobs.extend(Job(path, path.relative_to(given).as_posix()) for path in below)
        elif given.exists():
            jobs.append(Job(given, given.name))
        else:
            raise InputError(f"{given}: no such file or folder")
    return jobs


def targets(names: Sequence[str], out: Path, suffix: str) -> list[Path]:
    """Where each result goes: the tree of the inputs below `out`, with another suffix; where two would meet, behind the old suffix."""
    replaced = [str(Path(name).with_suffix(suffix)) for name in names]
    meeting = {target for target, count in Counter(replaced).items() if count > 1}
    chosen = [out / (name + suffix if target in meeting else target) for name, target in zip(names, replaced, strict=True)]
    twice = [str(path) for path, count in Counter(chosen).items() if count > 1]
    if twice:
        raise InputError(
            f"{len(twice)} results would get the same name, {twice[0]} first; give the folders one by one with an -o of their own"
        )
    return chosen


def refuse_existing(paths: Sequence[Path], *, force: bool, hint: str) -> None:
    """Refuse to start when a result is there already and `force` is not set."""
    present = [path for path in paths if path.exists()]
    if present and not force:
        raise InputError(f"{len(present)} of {len(paths)} results exist, {present[0]} first; pass --force to replace them{hint}")
