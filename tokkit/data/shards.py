"""Tar files as webdataset writes them, read by random access: the order is the loader's, so a run resumes exactly."""

from __future__ import annotations

import functools
import io
from pathlib import Path, PurePosixPath

from braceexpand import braceexpand
from torch import Tensor

from tokkit.data.base import Crop, Source, Split
from tokkit.data.captions import clean
from tokkit.data.tar_index import Member, members
from tokkit.errors import InputError
from tokkit.modalities.base import Modality, Sample
from tokkit.registry import register


@register("data", "shards")
class Shards(Source):
    """Every file in local tar files whose suffix the modality knows (of a webdataset sample: the picture, not its .json or .txt).

    A plain tar of any size is read in place. A compressed one (.tar.gz) is read into memory when it is opened.
    """

    def __init__(
        self,
        *,
        path: str | tuple[str, ...],
        val: str | tuple[str, ...] | None = None,
        size: int = 256,
        crop: Crop = "random",
        resize: bool = False,
        flip: bool = False,
        cache: bool = False,
        captions: bool = False,
    ):
        """
        Args:
            path: tar files: one or several paths, each with braces ("train-{000..099}.tar") and wildcards ("train-*.tar") if wanted.
            val: those of the held-out split "val"; without it, that split is `path` too.
            size, crop, resize, flip, cache, captions: see `Source`; the caption of 7.jpg is the member 7.txt.
        """
        super().__init__(size=size, crop=crop, resize=resize, flip=flip, cache=cache, captions=captions)
        self.path = path
        self.val = val

    def find(self, modality: Modality, split: Split) -> list[Member]:
        patterns = self.val if split == "val" and self.val is not None else self.path
        tars = expand((patterns,) if isinstance(patterns, str) else patterns)
        found = [member for tar in tars for member in members(tar) if member.name.lower().endswith(modality.suffixes)]
        if not found:
            looked_for = ", ".join(modality.suffixes)
            raise InputError(f"{', '.join(map(str, tars))}: no {modality.name} files in there (looked for {looked_for})")
        return found

    def load(self, item: Member, modality: Modality) -> Sample:
        sample = modality.read(io.BytesIO(item.read()), name=f"{item.tar}:{item.name}")
        sample.name = PurePosixPath(item.name).with_suffix("").as_posix()
        return sample

    def load_example(self, item: Member, modality: Modality) -> Tensor:
        stream = io.BytesIO(item.read())
        return modality.read_example(stream, name=f"{item.tar}:{item.name}", smallest=self.smallest())

    def caption(self, item: Member) -> str:
        text = _texts(item.tar).get(_sample_of(item.name))
        if text is None:
            raise InputError(f"{item.tar}: no caption {_sample_of(item.name)}.txt in there")
        return clean(text.read())


@functools.lru_cache(maxsize=1024)
def _texts(tar: str) -> dict[str, Member]:
    """The caption files of a tar by the sample they belong to."""
    return {_sample_of(member.name): member for member in members(Path(tar)) if member.name.lower().endswith(".txt")}


def _sample_of(name: str) -> str:
    """webdataset's key: the path up to the first dot of its last part."""
    folder, _, last = name.rpartition("/")
    return f"{folder}/{last.partition('.')[0]}".lstrip("/")


def expand(patterns: tuple[str, ...]) -> list[Path]:
    """The files that paths with braces and wildcards stand for, in their order, each once.

    Raises:
        InputError: a path or pattern that stands for nothing, a folder or an address.
    """
    found: dict[Path, None] = {}
    for pattern in patterns:
        if "://" in pattern or pattern.startswith("pipe:"):
            raise InputError(f"{pattern}: shards are read by random access from local files; copy it here first")
        try:
            paths = list(braceexpand(pattern))
        except ValueError as error:
            raise InputError(f"{pattern}: braces that do not match") from error
        for path in map(Path, paths):
            matches = _matches(path.expanduser())
            if not matches:
                raise InputError(f"{path}: no file matches")
            found |= dict.fromkeys(matches)
    for file in found:
        if not file.exists():
            raise InputError(f"{file}: no such file")
        if file.is_dir():
            raise InputError(f"{file}: a folder, expected tar files: {file}/*.tar for those in it, or the data source `folder`")
    return list(found)


def _matches(path: Path) -> list[Path]:
    """The path itself, or what its wildcards match, sorted."""
    if not set(str(path)) & set("*?["):
        return [path]
    return sorted(Path(path.anchor).glob(str(path.relative_to(path.anchor))))
