"""Tesseract as a recognizer: many scripts, from Debian's packages, with its own metric names."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from tokkit.bench.tokbench.recognizers import Crop, Recognizer
from tokkit.bench.tokbench.scripts import Script, script_of
from tokkit.errors import InputError

_HEIGHT, _BORDER = 48, 12
_SAME = {**dict.fromkeys((0x200C, 0x200D, 0x200E, 0x200F, 0x202A, 0x202B, 0x202C, 0x2066, 0x2067, 0x2069)), 0x00B5: 0x03BC}
"""Joiners and marks of direction, which no picture shows, go; the micro sign is a Greek mu."""


class Tesseract(Recognizer):
    """Tesseract's LSTM recognizer on one line of text (`--psm 7`), in the language of the true word's script.

    A crop is scaled to 48 pixels in height and gets a border of its own corner's colour: Tesseract wants room around letters. What is read
    is compared in Unicode's normal form C, without spaces and invisible marks.
    """

    name = "tesseract"
    suffix = "/tesseract"
    batch_size = 64

    def __init__(self) -> None:
        """
        Raises:
            InputError: Tesseract is not installed.
        """
        self._program = shutil.which("tesseract")
        if self._program is None:
            raise InputError("recognizer 'tesseract': the program is not installed (apt-get install tesseract-ocr)")
        told = subprocess.run([self._program, "--list-langs"], capture_output=True, text=True, check=False).stdout
        self.languages = set(told.split())

    def read(self, crops: Sequence[Crop], texts: Sequence[str]) -> list[str]:
        """
        Raises:
            InputError: the data of a language is not installed, or Tesseract fails.
        """
        found = [""] * len(crops)
        scripts = [script_of(text) for text in texts]
        for script in dict.fromkeys(scripts):
            places = [place for place, own in enumerate(scripts) if own is script]
            for place, read in zip(places, self._read([crops[place] for place in places], script), strict=True):
                found[place] = read
        return found

    def _read(self, crops: Sequence[Crop], script: Script) -> list[str]:
        language = script.tesseract
        if language not in self.languages:
            package = f"tesseract-ocr-{language.replace('_', '-')}"
            raise InputError(f"recognizer 'tesseract': no data for {script.name} ({language}); apt-get install {package}")
        with tempfile.TemporaryDirectory(prefix="tokkit-") as folder:
            files = [Path(folder) / f"{number}.png" for number in range(len(crops))]
            for file, crop in zip(files, crops, strict=True):
                framed(crop).save(file)
            listed = Path(folder) / "files.txt"
            listed.write_text("".join(f"{file}\n" for file in files), encoding="utf-8")
            command = [str(self._program), str(listed), "stdout", "-l", language, "--psm", "7"]
            done = subprocess.run(command, capture_output=True, env={**os.environ, "OMP_THREAD_LIMIT": "1"}, check=False)
        pages = done.stdout.decode("utf-8", "replace").split("\f")
        if done.returncode or len(pages) != len(crops):
            last = (done.stderr.decode("utf-8", "replace").strip().splitlines() or ["nothing on standard error"])[-1]
            raise InputError(f"recognizer 'tesseract': exit code {done.returncode}, {len(pages)} of {len(crops)} words: {last}")
        return [cleaned(page) for page in pages]


def framed(crop: Crop) -> Image.Image:
    """A crop as Tesseract gets it."""
    picture = Image.fromarray(crop)
    width = max(1, round(picture.width * _HEIGHT / picture.height))
    scaled = picture.resize((width, _HEIGHT), Image.Resampling.BICUBIC)
    corner = tuple(int(value) for value in np.asarray(scaled)[0, 0])
    return ImageOps.expand(scaled, _BORDER, fill=corner)


def cleaned(text: str) -> str:
    """What was read, as it is compared."""
    return unicodedata.normalize("NFC", "".join(text.split()).translate(_SAME))
