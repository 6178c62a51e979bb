"""Seconds that `import tokkit` adds to bare Python, and that `tokkit list` takes, as medians of runs in processes of their own.

python benchmarks/startup.py --out benchmarks/results/startup.json
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

from tokkit.evaluate.provenance import provenance

COMMANDS = {
    "bare python": [sys.executable, "-c", "pass"],
    "import tokkit": [sys.executable, "-c", "import tokkit"],
    "tokkit list": [sys.executable, "-m", "tokkit", "list"],
    "tokkit --help": [sys.executable, "-m", "tokkit", "--help"],
}


def seconds(command: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--runs", type=int, default=15)
    arguments = parser.parse_args()
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(arguments.runs):
        for name, command in COMMANDS.items():
            times[name].append(seconds(command))
    medians = {name: statistics.median(values) for name, values in times.items()}
    added = medians["import tokkit"] - medians["bare python"]
    for name, value in medians.items():
        print(f"{name:<14} {value:.3f} s")
    print(f"import tokkit adds {added:.3f} s")
    result = {"bench": "startup", **provenance(), "median_seconds": medians, "import_adds_seconds": added, "runs": times}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
