"""Trained mesh tokenizers on held-out meshes, Draco and other codecs at the bytes of their token files beside them.

python benchmarks/mesh_eval.py runs/vat-512B runs/vat-4KB --data meshes-val/ --workers 2 --out benchmarks/results/mesh.json
"""

from __future__ import annotations

import argparse
import functools
import json
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch

import tokkit
from tokkit.evaluate.provenance import provenance
from tokkit.evaluate.run import Options, evaluate
from tokkit.metrics.base import MetricFailure
from tokkit.tokenizer import Tokenizer

METRICS = ("fscore_0.02", "fscore_0.01", "fscore_0.05", "chamfer_l1", "chamfer_l1_sum", "chamfer_l2", "normal_consistency")
IOU = ("iou_volume", "iou_near")
BASELINES = ("draco", "quantized_mesh", "decimated_mesh")


def judge(task: tuple[str, list[str], tuple[str, ...], tuple[str, ...], str]) -> tuple[list[dict[str, Any]], list[str]]:
    """The rows of some files, and what was skipped."""
    folder, files, metrics, baselines, device = task
    torch.set_num_threads(1)
    tokenizer = _loaded(folder, device)
    result = evaluate(tokenizer, files, metrics=metrics, baselines=baselines, options=Options(curve_samples=0, batch_size=1))
    rows = [
        {
            "sample": row.sample,
            "system": "tokens" if row.system == tokenizer.name else row.system,
            "payload_bytes": row.payload_bits / 8,
            "file_bytes": row.file_bytes,
            "over_budget": row.over_budget,
            "values": row.values,
            "failures": row.failures,
        }
        for row in result.rows
    ]
    return rows, [f"{entry.sample}: {entry.reason}" for entry in result.skipped]


@functools.lru_cache(maxsize=1)
def _loaded(folder: str, device: str) -> Tokenizer:
    return Tokenizer.from_pretrained(folder, device=device)


def against_itself(task: tuple[list[str], tuple[str, ...]]) -> list[dict[str, float]]:
    """What the originals score against themselves: the ceiling that 100,000 random points leave."""
    files, names = task
    modality = tokkit.build("modality", "mesh")
    metrics = [tokkit.build("metric", name) for name in names]
    rows = []
    for file in files:
        values = modality.load(file)[0]
        again = values.clone()
        row = {}
        for metric in metrics:
            try:
                row[metric.name] = metric(values, again)
            except MetricFailure:
                continue
        rows.append(row)
    return rows


def table(rows: list[dict[str, Any]], metrics: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """Means by system; a metric that failed is counted."""
    result: dict[str, dict[str, Any]] = {}
    for system in dict.fromkeys(row["system"] for row in rows):
        mine = [row for row in rows if row["system"] == system]
        line: dict[str, Any] = {
            "n": len(mine),
            "payload_bytes": float(np.mean([row["payload_bytes"] for row in mine])),
            "file_bytes": float(np.mean([row["file_bytes"] for row in mine])),
            "file_bytes_max": max(row["file_bytes"] for row in mine),
            "over_budget": sum(row["over_budget"] for row in mine),
        }
        for metric in metrics:
            found = [row["values"][metric] for row in mine if metric in row["values"]]
            line[metric] = float(np.mean(found)) if found else None
            line[f"{metric}_failed"] = sum(metric in row["failures"] for row in mine)
        result[system] = line
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--data", required=True, help="folder of mesh files")
    parser.add_argument("--limit", type=int, default=None)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--device", default="cpu", help="of the networks, which all workers share")
    parser.add_argument("--iou", action="store_true", help="also the intersections over union: a few seconds a shape more")
    parser.add_argument("--baselines", default=",".join(BASELINES))
    parser.add_argument("--out", type=Path, default=None)
    arguments = parser.parse_args()
    files = sorted(str(path) for path in Path(arguments.data).rglob("*") if path.suffix in (".obj", ".ply", ".stl", ".off", ".glb"))
    files = files[: arguments.limit]
    metrics = METRICS + IOU if arguments.iou else METRICS
    baselines = tuple(name for name in arguments.baselines.split(",") if name)
    parts = [files[start :: 4 * arguments.workers] for start in range(4 * arguments.workers)]
    parts = [part for part in parts if part]
    report: dict[str, Any] = {"provenance": provenance(), "data": arguments.data, "shapes": len(files), "models": {}}
    with ProcessPoolExecutor(arguments.workers, get_context("spawn")) as pool:
        own = [row for rows in pool.map(against_itself, [(part, metrics) for part in parts]) for row in rows]
        report["original_against_itself"] = {
            name: float(np.mean([row[name] for row in own if name in row])) for name in metrics if any(name in row for row in own)
        }
        print("original against itself", {name: round(value, 4) for name, value in report["original_against_itself"].items()})
        for model in arguments.models:
            started = time.perf_counter()
            done = list(pool.map(judge, [(model, part, metrics, baselines, arguments.device) for part in parts]))
            rows = [row for found, _ in done for row in found]
            lines = table(rows, metrics)
            report["models"][model] = {"table": lines, "rows": rows, "skipped": [entry for _, skipped in done for entry in skipped]}
            print(f"{model} ({time.perf_counter() - started:.0f} s)")
            for system, line in lines.items():
                shown = "  ".join(f"{name} {line[name]:.4f}" if line[name] is not None else f"{name} none" for name in metrics)
                print(f"  {system:28} n {line['n']}  payload {line['payload_bytes']:.0f} B  file {line['file_bytes']:.0f} B  {shown}")
            if arguments.out is not None:  # after each, so that what was judged is there when the rest is stopped
                arguments.out.parent.mkdir(parents=True, exist_ok=True)
                arguments.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
