"""Clips out of long videos, none of which is ever read as a whole."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from tokkit.data.base import Crop, Source, Split, log
from tokkit.data.folder import File, Folder
from tokkit.errors import InputError
from tokkit.modalities.base import Modality, Sample
from tokkit.modalities.video import Video
from tokkit.registry import register


class Window(NamedTuple):
    """Some frames of a file."""

    file: File
    start: int
    frames: int


@register("data", "clips")
class Clips(Source):
    """Windows of the videos in a folder: each is as many examples as its length gives, and every place in it is as likely as any other.

    An example is `clip` frames (an option of the modality) out of a window of twice as many; windows follow each other by `clip` frames.
    Reading one seeks to its key frame. Only the headers are read when the source is opened.
    """

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
    ):
        """
        Args:
            path: the folder.
            val: the folder of the held-out split "val"; without it, that split is `path` too.
            recursive: look into sub-folders.
            size, crop, resize, flip, cache: see `Source`; the cache holds the windows.
        """
        super().__init__(size=size, crop=crop, resize=resize, flip=flip, cache=cache)
        self.folder = Folder(path=path, val=val, recursive=recursive)

    def find(self, modality: Modality, split: Split) -> list[Window]:
        if not isinstance(modality, Video):
            raise InputError(f"the data source `clips` cuts video, and the modality is {modality.name}")
        clip = modality.clip or self.size
        windows = []
        reason: InputError | None = None
        for file in self.folder.find(modality, split):
            try:
                frames = modality.about(Path(file.folder) / file.path).frames
            except InputError as error:
                reason = error
                log.warning("leaving out a video: %s", error)
                continue
            starts = range(0, max(1, (frames or 1) - clip + 1), clip)
            windows += [Window(file, start, 2 * clip - 1) for start in starts]
        if not windows:
            raise InputError(f"none of the videos can be read; the last: {reason}")
        return windows

    def load(self, item: Window, modality: Modality) -> Sample:
        assert isinstance(modality, Video)
        path = Path(item.file.folder) / item.file.path
        values = modality.read_clip(path, item.start, item.frames).float().div_(255)
        name = f"{Path(item.file.path).with_suffix('').as_posix()}@{item.start}"
        return Sample(values, name, (float(modality.frame_rate or modality.about(path).rate),))

    def load_example(self, item: Window, modality: Modality) -> Tensor:
        assert isinstance(modality, Video)
        return modality.read_clip(Path(item.file.folder) / item.file.path, item.start, item.frames, smallest=self.smallest())
