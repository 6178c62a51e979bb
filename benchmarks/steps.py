"""What the benchmarks of training steps share: a step, how long it takes, and rivals that take turns in one process."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from tokkit.evaluate.provenance import provenance

Step = Callable[[torch.Tensor], None]
WARM_UP = 5


def set_up(device: torch.device) -> None:
    """What both sides' trainers turn on."""
    if device.type == "cuda":
        torch.backends.cudnn.benchmark = True
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True


def stepper(parameters: Iterable[torch.nn.Parameter], loss_of: Callable[[torch.Tensor], torch.Tensor], device: torch.device) -> Step:
    """Forward under bf16 autocast, backward, fused AdamW."""
    optimizer = torch.optim.AdamW(list(parameters), lr=1e-4, betas=(0.9, 0.95), fused=True)

    def step(batch: torch.Tensor) -> None:
        with torch.autocast(device.type, torch.bfloat16):
            loss = loss_of(batch)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def time_steps(step: Step, batch: torch.Tensor, samples: int) -> list[float]:
    """Milliseconds of each step: by device events on a GPU, by the clock elsewhere."""
    times = []
    for _ in range(samples):
        if batch.device.type == "cuda":
            start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            start.record()
            step(batch)
            end.record()
            end.synchronize()
            times.append(start.elapsed_time(end))
        else:
            started = time.perf_counter()
            step(batch)
            times.append(1000 * (time.perf_counter() - started))
    return times


def compare(
    ways: Mapping[str, Callable[[], Step]],
    batch: torch.Tensor,
    *,
    samples: int,
    runs: int,
    what: str = "images",
    rows: dict[str, dict[str, Any]] | None = None,
    keep: Callable[[], None] = lambda: None,
) -> dict[str, dict[str, Any]]:
    """Build every way, then let them take turns: `runs` rounds of the median of `samples` steps each. One that fails is left out.

    Args:
        rows: where the result goes, for a `keep` that is called whenever there is more of it.

    Returns:
        For each way `ms` (a median a round), `images_per_second` (of its best round; `what` they are) and, on a GPU, `peak_gib`: the most
        memory that it held beyond what the ways built before it hold. Of one that fails, `error`.
    """
    steps: dict[str, Step] = {}
    rows = {} if rows is None else rows
    on_gpu = batch.device.type == "cuda"
    for name, make in ways.items():
        held = torch.cuda.memory_allocated() if on_gpu else 0
        started = time.perf_counter()
        try:
            step = make()
            if on_gpu:
                torch.cuda.reset_peak_memory_stats()
            time_steps(step, batch, min(WARM_UP, samples))
        except Exception as error:
            rows[name] = {"error": f"{type(error).__name__}: {error}"[:2000]}
            print(f"{name}: {rows[name]['error'][:300]}", flush=True)
            continue
        steps[name], rows[name] = step, {"ms": [], "seconds_to_start": time.perf_counter() - started}
        print(f"{name}: started in {rows[name]['seconds_to_start']:.0f} s", flush=True)
        if on_gpu:
            rows[name]["peak_gib"] = (torch.cuda.max_memory_allocated() - held) / 2**30
    for _ in range(runs):
        for name, step in steps.items():
            row = rows[name]
            row["ms"].append(statistics.median(time_steps(step, batch, samples)))
            row[f"{what}_per_second"] = 1000 * len(batch) / min(row["ms"])
            keep()
    for name in steps:
        row = rows[name]
        memory = f"  {row['peak_gib']:.1f} GiB" if on_gpu else ""
        print(f"{name:32} {min(row['ms']):8.2f} ms  {row[f'{what}_per_second']:8.1f} {what}/s{memory}", flush=True)
    return rows


def write(out: Path, bench: str, batch: torch.Tensor, rows: dict[str, dict[str, Any]], who: Iterable[str]) -> None:
    """One json file: where it ran, every row, and the best of each of `who`, whose rows begin with the name."""
    fastest = {
        each: max((row.get("images_per_second", 0.0) for name, row in rows.items() if name.startswith(each)), default=0.0) for each in who
    }
    result = {"bench": bench, **provenance(), "batch": list(batch.shape), "rows": rows, "images_per_second": fastest}
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=1) + "\n")
