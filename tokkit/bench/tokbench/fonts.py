"""Finds fonts that can write a script: those of the machine and those that come with matplotlib."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable
from pathlib import Path

from PIL import ImageFont, features

from tokkit.bench.tokbench.scripts import SCRIPTS, Script
from tokkit.errors import InputError

_FOLDERS = ("/usr/share/fonts", "/usr/local/share/fonts", "~/.fonts", "~/.local/share/fonts", "/Library/Fonts", "C:/Windows/Fonts")
_SUFFIXES = (".ttf", ".otf", ".ttc")


def find_fonts(folders: Iterable[str | Path] | None = None, *, script: Script = SCRIPTS["latin"]) -> list[Path]:
    """Font files with a different glyph for each of some letters of a script, sorted by path; one of each file name.

    Args:
        folders: where to look; the machine's and matplotlib's when not given.
        script: that they have to write.

    Raises:
        InputError: there are none, or Pillow cannot shape the script.
    """
    if script.shaped and not features.check("raqm"):
        raise InputError(f"{script.name}: Pillow here is without Raqm, which shapes its letters; Pillow's own wheels have it")
    places = [Path(folder).expanduser() for folder in (folders if folders is not None else _default_folders())]
    candidates = {path.name: path for place in places for path in sorted(place.rglob("*")) if path.suffix.lower() in _SUFFIXES}
    usable = sorted(path for path in candidates.values() if writes(path, script.probe))
    if not usable:
        looked = ", ".join(map(str, places))
        raise InputError(f"no usable fonts for {script.name} in {looked}; install some (apt-get install {script.package}) or name a folder")
    return usable


def writes(path: Path, characters: str) -> bool:
    """Whether a font has glyphs of their own for all of these characters."""
    try:
        font = ImageFont.truetype(str(path), 24)
        missing = bytes(font.getmask("\uffff"))
        glyphs = [(font.getbbox(character), bytes(font.getmask(character))) for character in characters]
    except OSError:
        return False
    return len({repr(glyph) for glyph in glyphs}) == len(characters) and all(mask != missing for _, mask in glyphs)


def _default_folders() -> list[Path]:
    folders = [Path(folder).expanduser() for folder in _FOLDERS]
    spec = importlib.util.find_spec("matplotlib")
    if spec is not None and spec.origin is not None:
        folders.append(Path(spec.origin).parent / "mpl-data" / "fonts")
    return [folder for folder in folders if folder.is_dir()]
