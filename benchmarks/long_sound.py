"""Peak memory and time of encoding and decoding long files, each in a process of its own.

    python benchmarks/long_sound.py --minutes 2,120 --out benchmarks/results/long-sound.json

A causal tokenizer with fresh weights (they change neither time nor memory) works on a WAV file of noise that swells and fades.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

RATE = 16000
RECIPE = f"""\
# A small causal codec.
modality: {{name: audio, sample_rate: {RATE}}}
encoder: {{name: mimi, width: 4, strides: [5, 8, 8], resample: 1, dim: 32, depth: 1, heads: 2, context: 50}}
quantizer: {{name: rvq, dim: 32, levels: 4, codebook_size: 256}}
decoder: {{name: mimi, width: 4, strides: [5, 8, 8], resample: 1, dim: 32, depth: 1, heads: 2, context: 50}}
"""


def write_sound(path: Path, minutes: int) -> None:
    generator = np.random.default_rng(0)
    with soundfile.SoundFile(path, "w", RATE, 1, "PCM_16") as file:
        for minute in range(minutes):
            swell = np.abs(np.sin(np.linspace(minute, minute + 1, 60 * RATE) * 9))
            file.write((generator.standard_normal(60 * RATE) * 3000 * swell).clip(-32768, 32767).astype(np.int16))


def work(what: str, folder: Path, name: str) -> dict[str, Any]:
    """In a process of its own: peak memory before and after, and the time in between."""
    import torch

    from tokkit import chunking
    from tokkit.recipe import Recipe
    from tokkit.tokenizer import Tokenizer
    from tokkit.tokens import Tokens

    torch.manual_seed(0)
    tokenizer = Tokenizer.from_recipe(Recipe.load(folder / "small.yaml")).eval()
    before = peak()
    started, cpu = time.perf_counter(), time.process_time()
    if what == "encode":
        chunking.encode_file(tokenizer, folder / f"{name}.wav").save(folder / f"{name}.tok")
    else:
        chunking.decode_file(tokenizer, Tokens.load(folder / f"{name}.tok"), folder / f"{name}-back.wav")
    took = {"seconds": time.perf_counter() - started, "cpu_seconds": time.process_time() - cpu}
    return {**took, "peak_mib": peak(), "peak_before_mib": before}


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", default="2,120")
    parser.add_argument("--out", type=Path, default=Path("long-sound.json"))
    parser.add_argument("--work", nargs=3, metavar=("WHAT", "FOLDER", "NAME"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        what, folder, name = arguments.work
        print(json.dumps(work(what, Path(folder), name)))
        return
    from tokkit.evaluate.provenance import provenance

    rows = []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "small.yaml").write_text(RECIPE)
        for minutes in map(int, arguments.minutes.split(",")):
            name = str(minutes)
            write_sound(folder / f"{name}.wav", minutes)
            row: dict[str, Any] = {"minutes": minutes, "file_mib": (folder / f"{name}.wav").stat().st_size / 2**20}
            for what in ("encode", "decode"):
                command = [sys.executable, __file__, "--work", what, place, name]
                row[what] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            assert (folder / f"{name}-back.wav").stat().st_size == (folder / f"{name}.wav").stat().st_size
            row["token_bytes"] = (folder / f"{name}.tok").stat().st_size
            for file in folder.glob("*.wav"):
                file.unlink()
            rows.append(row)
            print(
                f"{minutes} minutes: "
                + ", ".join(f"{what} {row[what]['seconds']:.0f} s, {row[what]['peak_mib']:.0f} MiB" for what in ("encode", "decode")),
                flush=True,
            )
    result = {"bench": "long-sound", **provenance(), "load": list(os.getloadavg()), "recipe": RECIPE, "rows": rows}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
