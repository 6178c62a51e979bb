"""A folder of files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from tokkit.data.base import Crop, Source, Split
from tokkit.data.captions import clean, librispeech
from tokkit.errors import InputError
from tokkit.modalities.base import Modality, Sample
from tokkit.registry import register


class File(NamedTuple):
    """A file: the folder, and its path in there with "/"."""

    folder: str
    path: str


@register("data", "folder")
class Folder(Source):
    """Every file in a folder whose suffix the modality knows (and folder of frames, of video), sorted by path; hidden ones are left out."""

    def __init__(
        self,
        *,
        path: str,
        val: str | None = None,
        recursive: bool = True,
        size: int = 256,
        crop: Crop = "random",
        resize: bool = False,
        flip: bool = False,
        cache: bool = False,
        captions: bool = False,
    ):
        """
        Args:
            path: the folder.
            val: the folder of the held-out split "val"; without it, that split is `path` too.
            recursive: look into sub-folders.
            size, crop, resize, flip, cache, captions: see `Source`; the caption of cat.jpg is in cat.txt.
        """
        super().__init__(size=size, crop=crop, resize=resize, flip=flip, cache=cache, captions=captions)
        self.path = path
        self.val = val
        self.recursive = recursive

    def find(self, modality: Modality, split: Split) -> list[File]:
        root = Path(self.val if split == "val" and self.val is not None else self.path).expanduser()
        if not root.exists():
            raise InputError(f"{root}: no such folder")
        if not root.is_dir():
            hint = "; use the data source `shards` for tar files" if ".tar" in root.name else ""
            raise InputError(f"{root}: a file, expected a folder{hint}")
        found = []
        for folder, below, files in os.walk(root, onerror=_refuse):
            below[:] = [name for name in below if self.recursive and not name.startswith(".")]
            inside = Path(folder).relative_to(root)
            whole = [name for name in below if modality.is_folder(Path(folder) / name)]
            below[:] = [name for name in below if name not in whole]
            found += [File(str(root), (inside / name).as_posix()) for name in whole]
            for name in files:
                if name.lower().endswith(modality.suffixes) and not name.startswith("."):
                    found.append(File(str(root), (inside / name).as_posix()))
        if not found:
            raise InputError(f"{root}: no {modality.name} files in this folder (looked for {', '.join(modality.suffixes)})")
        return sorted(found)

    def load(self, item: File, modality: Modality) -> Sample:
        sample = modality.read(Path(item.folder) / item.path)
        sample.name = Path(item.path).with_suffix("").as_posix()
        return sample

    def load_example(self, item: File, modality: Modality) -> Tensor:
        return modality.read_example(Path(item.folder) / item.path, smallest=self.smallest())

    def caption(self, item: File) -> str:
        file = Path(item.folder) / item.path
        path = file.with_suffix(".txt")
        try:
            return clean(path.read_bytes())
        except OSError as error:
            if (text := librispeech(file)) is not None:
                return text
            raise InputError(f"{path}: no caption there: {error.strerror or error}") from error


def _refuse(error: OSError) -> None:
    raise InputError(f"{error.filename}: cannot look into the folder: {error.strerror}") from error
