"""What several tokenizers make of few tokens, side by side: a row a picture, the original first, then a column a tokenizer.

python benchmarks/pictures_at.py runs/nested-1d runs/flow-1d --num-tokens 8 --size 128 --out docs/at-8-tokens.png

The pictures are those that come with scikit-image, cut in the middle, unless --data names a tar file of others.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

import tokkit
from tokkit.metrics.base import MetricFailure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--num-tokens", type=int, required=True)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--count", type=int, default=6)
    parser.add_argument("--data", help="a tar file of pictures")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, required=True, help="a .png file")
    given = parser.parse_args()
    image = tokkit.build("modality", "image")
    options = {"name": "shards", "path": given.data} if given.data else {"name": "samples"}
    source = tokkit.build("data", options.pop("name"), size=given.size, resize=True, **options).open(image, split="val")
    pictures = torch.stack([source[index] for index in range(min(given.count, len(source)))])
    metrics = [tokkit.build("metric", name) for name in ("psnr", "patch_spectrum")]
    columns = [pictures]
    for folder in given.models:
        tokenizer = tokkit.Tokenizer.from_pretrained(folder, device=given.device)
        columns.append(tokenizer.decode(tokenizer.encode(pictures, num_tokens=given.num_tokens)).cpu())
        for metric in metrics:
            values = []
            for original, found in zip(pictures, columns[-1], strict=True):
                try:
                    values.append(metric(original, found))
                except MetricFailure as failure:
                    raise SystemExit(f"{folder}: {failure}") from failure
            print(f"{folder.name} at {given.num_tokens} tokens: {metric.name} {sum(values) / len(values):.3f} over {len(values)} pictures")
    grid = torch.cat([torch.cat(list(column), 1) for column in columns], 2)
    image.write(given.out, grid, force=True)


if __name__ == "__main__":
    main()
