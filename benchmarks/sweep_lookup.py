"""Block shapes of the lookup kernels against each other: times, kernel times, and rows where the result is not the first shape's.

    python benchmarks/sweep_lookup.py --out sweep.json

Of every case the first shape is what tokkit uses. A shape that does not compile, or needs too much of something, says why.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from tokkit.bench.lookup import RVQ, datasets, residual_addmm
from tokkit.bench.lookup_methods import Clock
from tokkit.evaluate.provenance import provenance
from tokkit.ops.codebook_lookup.launch import Config, default_config, triton_lookup
from tokkit.ops.residual_lookup import triton as residual

CHANGES: dict[int, list[dict[str, int | None]]] = {
    8: [{"scan_rows": 16}, {"rows": 128}, {"rescore_rows": 16}, {"scan_codes": 128}],
    32: [{"scan_rows": 16, "scan_unroll": 8}, {"scan_rows": 8}, {"scan_codes": 256, "scan_blocks": 1}],
    64: [{"scan_codes": 128, "scan_rows": 16}, {"scan_codes": 256}, {"scan_rows": 16}, {"scan_unroll": 16}],
    128: [
        {"rescore_rows": 4, "rescore_warps": 2},
        {"rescore_rows": 4, "rescore_warps": 1},
        {"slots": 16},
        {"scan_rows": 4},
        {"candidates": 3},
        {"rows": 64, "warps": 2},
    ],
    256: [{"scan_codes": 256}, {"scan_codes": 64}, {"scan_codes": 256, "scan_unroll": 16}],
}
"""Changes of a width's shapes to try."""
SINGLE = [(65536, 8, 16384), (65536, 32, 8192), (65536, 256, 1024), (65536, 256, 16384), (262144, 64, 65536)]


def kernel_times(call: Callable[[], object]) -> dict[str, float]:
    """ms on the GPU by kernel, of one call."""
    with profile(activities=[ProfilerActivity.CUDA]) as seen:
        for _ in range(5):
            call()
        torch.cuda.synchronize()
    return {event.key: event.device_time_total / 5e3 for event in seen.key_averages() if event.device_time_total > 5}


def tried(width: int, lookup: Callable[[Config], Tensor], clock: Clock) -> list[dict[str, Any]]:
    """A row a shape, the one in use first."""
    rows: list[dict[str, Any]] = []
    used = default_config(width)
    expected = lookup(used)
    for change in [{}, *CHANGES[width]]:
        config = replace(used, **change)
        row: dict[str, Any] = {"change": change}
        try:
            row["differ"] = int((lookup(config) != expected).sum())
            row["ms"] = [clock.median(lambda config=config: lookup(config)) for _ in range(3)]
            row["kernels"] = kernel_times(lambda config=config: lookup(config))
        except Exception as error:
            row["why"] = f"{type(error).__name__}: {error}"[:300]
        print(width, {name: value for name, value in row.items() if name != "kernels"}, flush=True)
        rows.append(row)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--samples", type=int, default=20)
    given = parser.parse_args()
    device = torch.device("cuda")
    clock = Clock(device, given.samples)
    found: dict[str, Any] = {"bench": "lookup-sweep", **provenance(), "cases": {}}

    def keep(name: str, rows: object) -> None:
        found["cases"][name] = rows
        given.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")

    rows, width, size, levels = RVQ
    x = datasets(rows, width, 1, device)["gaussian"][0]
    books = torch.stack([datasets(size, width, 1, device)["gaussian"][0] * 0.7**level for level in range(levels)])

    def eight_levels(config: Config) -> Tensor:
        with mock.patch.object(residual, "default_config", lambda width: config):
            return residual.triton_residual(x, books, True)[0]

    keep(f"residual {RVQ}", tried(width, eight_levels, clock))
    keep("addmm fp32 loop", [clock.median(lambda: residual_addmm(x, books)) for _ in range(3)])
    for shape in SINGLE:
        points, codes = datasets(*shape, device)["gaussian"]
        keep(f"lookup {shape}", tried(shape[1], lambda config, p=points, c=codes: triton_lookup(p, c, "euclidean", True, config), clock))


if __name__ == "__main__":
    main()
