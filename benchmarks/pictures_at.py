"""What several tokenizers make of few tokens, side by side: a row a picture, the original first, then a column a tokenizer and length.

python benchmarks/pictures_at.py runs/nested-1d runs/flow-1d --num-tokens 8,64 --scale 256 --size 128 --out docs/at-8-tokens.png

The pictures are those that come with scikit-image (--names picks some), or those of a tar file: scaled, cut in the middle. Prints what the
metrics say of them, and with --json writes it.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

import tokkit
from tokkit.data.base import Split
from tokkit.evaluate.provenance import provenance
from tokkit.metrics.base import MetricFailure

METRICS = ("psnr", "patch_spectrum")
SPLITS: tuple[Split, Split] = ("val", "train")


def pictures_of(tar: str | None, names: Sequence[str], count: int, scale: int, size: int) -> tuple[Tensor, list[str]]:
    """[B, 3, size, size], the middle of pictures whose short side was scaled to `scale`, and their names."""
    image = tokkit.build("modality", "image")
    found: dict[str, Tensor] = {}
    for split in SPLITS[:1] if tar else SPLITS:
        options = {"name": "shards", "path": tar} if tar else {"name": "samples"}
        source = tokkit.build("data", options.pop("name"), size=scale, resize=True, **options).open(image, split=split)
        for index in range(len(source)):
            name = Path(source.sample(index).name).stem
            if name in names or (not names and len(found) < count):
                found[name] = source[index]
    if missing := set(names) - found.keys():
        raise SystemExit(f"no picture is called {', '.join(sorted(missing))}")
    chosen = list(names) or list(found)
    start = (scale - size) // 2
    return torch.stack([found[name][:, start : start + size, start : start + size] for name in chosen]), chosen


def means(originals: Tensor, others: Tensor, folder: Path) -> dict[str, float]:
    """Each metric's mean over the pictures."""
    values = {}
    for metric in (tokkit.build("metric", name) for name in METRICS):
        try:
            each = [metric(original, other) for original, other in zip(originals, others, strict=True)]
        except MetricFailure as failure:
            raise SystemExit(f"{folder}: {failure}") from failure
        values[metric.name] = sum(each) / len(each)
    return values


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--num-tokens", required=True, help="lengths with commas between")
    parser.add_argument("--size", type=int, default=128, help="side of what is cut out of the middle")
    parser.add_argument("--scale", type=int, help="the short side of a picture before it is cut; --size when not given")
    parser.add_argument("--count", type=int, default=6)
    parser.add_argument("--names", help="of pictures, without suffix, with commas between")
    parser.add_argument("--data", help="a tar file of pictures")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--out", type=Path, help="a .png file; mind the pictures' licence")
    given = parser.parse_args()
    names = given.names.split(",") if given.names else []
    originals, names = pictures_of(given.data, names, given.count, given.scale or given.size, given.size)
    columns, rows = [originals], []
    for folder in given.models:
        tokenizer = tokkit.Tokenizer.from_pretrained(folder, device=given.device)
        for length in map(int, given.num_tokens.split(",")):
            columns.append(tokenizer.decode(tokenizer.encode(originals, num_tokens=length)).cpu())
            rows.append({"model": folder.name, "num_tokens": length, **means(originals, columns[-1], folder)})
            said = ", ".join(f"{name} {rows[-1][name]:.3f}" for name in METRICS)
            print(f"{folder.name} at {length} tokens: {said} over {len(originals)} pictures")
    if given.json:
        source = given.data or "the pictures of scikit-image"
        told = {"bench": "pictures-at", **provenance(), "data": Path(source).name, "pictures": names, "rows": rows}
        given.json.write_text(json.dumps(told, indent=1) + "\n")
    if given.out:
        grid = torch.cat([torch.cat(list(column), 1) for column in columns], 2)
        tokkit.build("modality", "image").write(given.out, grid, force=True)


if __name__ == "__main__":
    main()
