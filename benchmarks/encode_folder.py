"""How near encoding a folder comes to the pace of the network: as files and as shards, on each file system, and without the network.

    python benchmarks/encode_folder.py photos/ runs/vq runs/gq --out encode.json --storage /tmp,/dev/shm --precision bf16

`tokkit bench encode` for several tokenizers in one process. "pipeline" is the same way from files to tokens with a network that costs
nothing (the codes of the first batch, again and again): reading, the copy to the device and back, packing and writing, in files a second.
The number of reading threads is the one of --workers with which that is fastest.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from tokkit.bench.encode import file_system, measure_encode
from tokkit.bulk.encode import EncodeOptions, encode_files
from tokkit.bulk.files import find_jobs
from tokkit.evaluate.provenance import provenance
from tokkit.tokenizer import Tokenizer


def pipeline(tokenizer: Tokenizer, folder: Path, options: EncodeOptions, storage: Path, runs: int) -> list[float]:
    """Files a second without the network, after one run that is not counted."""
    first = find_jobs([folder], tokenizer.modality.suffixes)[0].source
    codes = tokenizer.encode(first).codes.to(tokenizer.device).expand(options.batch_size, -1, -1).contiguous()
    grid = tokenizer.encode(first).grid
    rates = []
    with mock.patch.object(tokenizer, "codes_of", lambda values: (codes[: len(values)], grid)):
        for _ in range(runs + 1):
            home = Path(tempfile.mkdtemp(dir=storage))
            started = time.perf_counter()
            done = encode_files(tokenizer, [folder], home / "tokens", options).done
            rates.append(done / (time.perf_counter() - started))
            shutil.rmtree(home)
    return rates[1:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="files of one size")
    parser.add_argument("models", nargs="+", type=Path, help="folders of tokenizers")
    parser.add_argument("--out", type=Path, required=True, help="JSON file, written after every measurement")
    parser.add_argument("--storage", default="/tmp,/dev/shm", help="folders with commas between; shards are written to the first only")
    parser.add_argument("--workers", default="4,8,16")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="bf16")
    given = parser.parse_args()
    storages = [Path(name) for name in given.storage.split(",")]
    ways = [(storage, False) for storage in storages] + [(storages[0], True)]
    found: list[dict[str, Any]] = []
    for model in given.models:
        tokenizer = Tokenizer.from_pretrained(model, device=given.device, precision=given.precision)
        alone: dict[int, dict[str, list[float]]] = {}
        for workers in map(int, given.workers.split(",")):
            alone[workers] = {}
            for storage, shards in ways:
                options = EncodeOptions(batch_size=given.batch_size, workers=workers, shards=shards)
                way = f"{'shards' if shards else 'files'} on {file_system(storage)}"
                alone[workers][way] = pipeline(tokenizer, given.folder, options, storage, given.runs)
                print(
                    f"{tokenizer.name} pipeline, {workers} readers, {way}: {', '.join(f'{r:.0f}' for r in alone[workers][way])}/s",
                    flush=True,
                )
        best = max(alone, key=lambda workers: max(max(rates) for rates in alone[workers].values()))
        for storage, shards in ways:
            options = EncodeOptions(batch_size=given.batch_size, workers=best, shards=shards)
            rates = measure_encode(tokenizer, given.folder, options, runs=given.runs, out=storage)
            found.append({"tokenizer": tokenizer.name, "options": asdict(options), "pipeline": alone, **asdict(rates)})
            whole = ", ".join(f"{rate:.0f}" for rate in rates.end_to_end)
            way = f"{tokenizer.name} {'shards' if shards else 'files'} on {rates.storage}, {best} readers"
            print(f"{way}: network {rates.network[-1]:.0f}/s, end to end {whole}/s = {rates.ratio:.1%}", flush=True)
            stored = {"bench": "encode", "precision": given.precision, **provenance(), "results": found}
            given.out.parent.mkdir(parents=True, exist_ok=True)
            given.out.write_text(json.dumps(stored, indent=1) + "\n", encoding="utf-8")
        del tokenizer
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
