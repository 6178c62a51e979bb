"""Held-out clips of the data source `moving` as lossless files, for `tokkit eval` of a tokenizer trained on it.

python benchmarks/video_clips.py RECIPE OUT [COUNT]
"""

from __future__ import annotations

import sys
from pathlib import Path

from tokkit.recipe import Recipe


def main(recipe: str, out: str, count: str = "24") -> None:
    loaded = Recipe.load(recipe)
    modality = loaded.part("modality").build()
    source = loaded.section("data").build().open(modality, split="val")
    for index in range(min(int(count), len(source))):
        modality.write(Path(out) / f"{index:03d}.mkv", source[index], force=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
