"""tokkit's kernels against what users run today: `python -m tokkit.bench.lookup --json F [--quick]`.

One process, one machine: every method of a shape is timed by turns, `runs` times `samples` calls with the caches flushed between calls,
codebook preparation included. A row gives the median time, the extra memory of one call, the ratio to the fastest exact peer, the fraction
of a floor that no exact method goes below, and how many of at least 65,536 rows differ from float64 beyond the rounding of fp32.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tokkit import ops
from tokkit.bench.lookup_methods import Clock, Method, Row, addmm, lookup_methods, measure, tf32, vqp_module
from tokkit.evaluate.provenance import provenance
from tokkit.ops.snake import snake
from tokkit.ops.snake.reference import snake_reference

LOOKUPS = [(65536, 8, 16384), (65536, 32, 8192), (65536, 256, 1024), (65536, 256, 16384), (262144, 64, 65536), (1048576, 8, 1024)]
"""(N, d, K) on a GPU."""
CPU_LOOKUPS = [(16384, 8, 4096), (16384, 32, 8192), (16384, 256, 1024), (16384, 64, 8192)]
RVQ = (65536, 128, 1024, 8)
PACK = (1 << 20, 128)
ENTROPY = (65536, 128)
SNAKE = (72, 96, 9280)
STEPS = [(65536, 32, 8192), (65536, 256, 1024)]
CHECKED_ROWS = 65536


def datasets(rows: int, width: int, size: int, device: torch.device) -> dict[str, tuple[Tensor, Tensor]]:
    """Gaussian vectors, the same at unit length, and the same around 10."""
    generator = torch.Generator(device=device).manual_seed(0)
    x = torch.randn(rows, width, generator=generator, device=device)
    c = torch.randn(size, width, generator=generator, device=device)
    return {
        "gaussian": (x, c),
        "cosine": (torch.nn.functional.normalize(x, dim=1), torch.nn.functional.normalize(c, dim=1)),
        "offset": (x + 10, c + 10),
    }


def count_mismatches(found: Tensor, x: Tensor, c: Tensor) -> int:
    """Rows whose index is not float64's argmin, less those whose two distances fp32 cannot tell apart."""
    codes = c.double()
    mean = codes.mean(0)
    half = (codes - mean).square().sum(1) / 2
    wrong = 0
    for start in range(0, x.shape[0], 4096):
        part, index = x[start : start + 4096].double(), found[start : start + 4096]
        best = torch.addmm(half, part - mean, (codes - mean).T, alpha=-1).argmin(1)
        differ = (best != index).nonzero()[:, 0]
        near = (part[differ] - codes[best[differ]]).square().sum(1)
        far = (part[differ] - codes[index[differ]]).square().sum(1)
        wrong += int((far - near > (x.shape[1] + 16) * 2.0**-23 * near).sum())
    return wrong


def ceilings(device: torch.device) -> dict[str, float]:
    """Bytes a second of a large copy (read and write counted), and FLOP/s of a large bf16 product, on random numbers."""
    clock = Clock(device, 10)
    source, target = torch.randn(1 << 28, device=device), torch.empty(1 << 28, device=device)
    copy = clock.median(lambda: target.copy_(source))
    a, b = (torch.randn(8192, 8192, device=device, dtype=torch.bfloat16) for _ in range(2))
    product = clock.median(lambda: a @ b)
    return {"copy_bytes_per_s": 2 * source.numel() * 4 / copy * 1e3, "bf16_flop_per_s": 2 * 8192**3 / product * 1e3}


def lookup_floor(rows: int, width: int, size: int, limits: dict[str, float], levels: int = 1) -> float:
    """ms: the largest of bytes moved once, one half-precision product of d padded to 16, and one minimum a score.

    The last is a model: 64 minima a clock for each of 132 multiprocessors at 1.755 GHz, an H100's.
    """
    moved = (4 * rows * width + 4 * levels * size * width + 8 * rows * levels) / limits["copy_bytes_per_s"]
    product = 2 * rows * size * levels * (-(-width // 16) * 16) / limits["bf16_flop_per_s"]
    minima = rows * size * levels / (64 * 132 * 1.755e9)
    return 1e3 * max(moved, product, minima)


def bench_lookup(shape: tuple[int, int, int], clock: Clock, runs: int, limits: dict[str, float] | None, autotune: bool) -> list[Row]:
    """Rows of one (N, d, K)."""
    kinds = datasets(*shape, clock.device)
    x, c = kinds["gaussian"]
    methods = lookup_methods(x, c, autotune)
    rows = measure(f"lookup {shape}", methods, clock, runs, lookup_floor(*shape, limits) if limits else None)
    for row, method in zip(rows, methods, strict=True):
        if row.ms is None or method.lookup is None:
            continue
        for kind, (points, codes) in kinds.items():
            if kind == "gaussian" or method.name.startswith("tokkit"):
                some = points if method.name.startswith("compile") else points[: min(CHECKED_ROWS, shape[0])]
                with tf32(method.tf32), torch.no_grad():
                    found = method.lookup(some, codes)[:CHECKED_ROWS]
                row.mismatches[kind] = count_mismatches(found, points[:CHECKED_ROWS], codes)
    return rows


def residual_addmm(x: Tensor, books: Tensor) -> Tensor:
    """The loop that users write."""
    residual, codes = x, []
    for book in books:
        codes.append(addmm(residual, book))
        residual = residual - book[codes[-1]]
    return torch.stack(codes, 1)


def bench_residual(clock: Clock, runs: int, limits: dict[str, float] | None, shape: tuple[int, int, int, int]) -> list[Row]:
    """Rows of the residual lookup, N, d, K, levels."""
    rows, width, size, levels = shape
    x = datasets(rows, width, 1, clock.device)["gaussian"][0]
    books = torch.stack([datasets(size, width, 1, clock.device)["gaussian"][0] * 0.7**level for level in range(levels)])
    methods = [
        Method("tokkit", lambda: ops.residual_lookup(x, books)),
        Method("addmm fp32 loop", lambda: residual_addmm(x, books), needs_bytes=4 * rows * size),
        Method("addmm tf32 loop", lambda: residual_addmm(x, books), exact=False, tf32=True, needs_bytes=4 * rows * size),
    ]
    if clock.device.type == "cuda":
        compiled = torch.compile(residual_addmm, dynamic=False)
        methods.append(Method("compile tf32 loop", lambda: compiled(x, books), exact=False, tf32=True))
    if importlib.util.find_spec("vector_quantize_pytorch"):
        from vector_quantize_pytorch import ResidualVQ

        module = ResidualVQ(dim=width, codebook_size=size, num_quantizers=levels, threshold_ema_dead_code=0).to(clock.device).eval()
        methods.append(Method("vector-quantize-pytorch eval", lambda: module(x[None])))
    out = measure(f"residual {shape}", methods, clock, runs, lookup_floor(rows, width, size, limits, levels) if limits else None)
    codes = ops.residual_lookup(x, books).codes
    residual = x
    for level, book in enumerate(books):
        out[0].mismatches[f"level {level}"] = count_mismatches(codes[:CHECKED_ROWS, level], residual[:CHECKED_ROWS], book)
        residual = residual - book[codes[:, level]]
    return out


def pack_uint8(x: Tensor) -> Tensor:
    """Signs to bytes in plain torch, for `torch.compile`."""
    weights = torch.tensor([1, 2, 4, 8, 16, 32, 64, 128], dtype=torch.uint8, device=x.device)
    return ((x > 0).unflatten(1, (-1, 8)).to(torch.uint8) * weights).sum(2, dtype=torch.uint8)


def bench_pack(clock: Clock, runs: int, limits: dict[str, float] | None, shape: tuple[int, int]) -> list[Row]:
    """Rows of sign packing."""
    x = torch.randn(shape, device=clock.device)
    methods = [Method("tokkit", lambda: ops.pack_signs(x)), Method("eager uint8", lambda: pack_uint8(x))]
    if clock.device.type == "cuda":
        compiled = torch.compile(pack_uint8, dynamic=False)
        methods.append(Method("compile uint8", lambda: compiled(x)))
    rows = measure(f"pack {shape}", methods, clock, runs, 1e3 * (x.numel() * 4.125) / limits["copy_bytes_per_s"] if limits else None)
    rows[0].mismatches["eager"] = int((ops.pack_signs(x) != pack_uint8(x)).sum())
    return rows


def bench_entropy(clock: Clock, runs: int, limits: dict[str, float] | None, shape: tuple[int, int]) -> list[Row]:
    """Rows of the binary entropy, forward and backward."""
    x = (torch.randn(shape, device=clock.device) * 0.01).requires_grad_()

    def both(call: Callable[[], tuple[Tensor, Tensor]]) -> Callable[[], None]:
        def step() -> None:
            x.grad = None
            sample, batch = call()
            (sample - batch).backward()

        return step

    def eager() -> tuple[Tensor, Tensor]:
        return ops.binary_entropy(x, backend="reference")

    methods = [Method("tokkit", both(lambda: ops.binary_entropy(x))), Method("eager autograd", both(eager))]
    if clock.device.type == "cuda":
        methods.append(Method("compile autograd", both(torch.compile(eager, dynamic=False))))
    return measure(f"entropy step {shape}", methods, clock, runs, 1e3 * x.numel() * 12 / limits["copy_bytes_per_s"] if limits else None)


def bench_snake(clock: Clock, runs: int, limits: dict[str, float] | None, shape: tuple[int, int, int]) -> list[Row]:
    """Rows of the Snake activation: alone, as in decoding, and forward and backward. TorchScript is how descript-audio-codec runs it."""
    x = torch.randn(shape, device=clock.device).requires_grad_()
    alpha = torch.rand(shape[1], device=clock.device).add_(0.5).requires_grad_()
    force = torch.randn(shape, device=clock.device)
    ways: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
        "tokkit": snake,
        "eager autograd": snake_reference,
        "torchscript": torch.jit.script(snake_reference),
    }
    if clock.device.type == "cuda":
        ways["compile autograd"] = torch.compile(snake_reference, dynamic=False)

    def forward(way: Callable[[Tensor, Tensor], Tensor]) -> None:
        with torch.no_grad():
            way(x, alpha)

    def step(way: Callable[[Tensor, Tensor], Tensor]) -> None:
        torch.autograd.grad(way(x, alpha), (x, alpha), force)

    rows = []
    for name, call, passes in (("forward", forward, 8), ("step", step, 20)):
        methods = [Method(method, partial(call, way)) for method, way in ways.items()]
        rows += measure(
            f"snake {name} {shape}", methods, clock, runs, 1e3 * x.numel() * passes / limits["copy_bytes_per_s"] if limits else None
        )
    return rows


def bench_step(clock: Clock, runs: int, shape: tuple[int, int, int]) -> list[Row]:
    """Rows of a whole training forward of `vq`, its EMA update in it."""
    from tokkit.quantizers.vq import VQ

    rows, width, size = shape
    x = torch.randn(1, rows, width, device=clock.device)
    ours = VQ(dim=width, codebook_size=size, kmeans_init=False, dead_threshold=0).to(clock.device).train()
    methods = [Method("tokkit", lambda: ours(x))]
    if importlib.util.find_spec("vector_quantize_pytorch"):
        theirs = vqp_module(width, size, clock.device, decay=0.99).train()
        methods.append(Method("vector-quantize-pytorch", lambda: theirs(x)))
    return measure(f"vq step {shape}", methods, clock, runs, None)


def run(
    device: str = "auto",
    *,
    quick: bool = False,
    autotune: bool = False,
    only: str = "",
    report: Callable[[Row], None] | None = None,
    json_path: Path | None = None,
) -> dict[str, Any]:
    """Measure everything.

    Args:
        device: "cpu", "cuda" or "auto".
        quick: a sixteenth of the rows, 5 samples, 1 run: to see that it works. (A full run takes 3 times 20 samples, 5 on a CPU.)
        autotune: also time torch.compile's max-autotune, which takes minutes to compile.
        only: cases whose name contains this; several with | between them.
        report: called with every row as it comes.
        json_path: rewritten after every case, so that what was measured survives an interruption.

    Returns:
        provenance, ceilings and rows, ready for json.
    """
    where = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device)
    cuda = where.type == "cuda"
    clock = Clock(where, 5 if quick or not cuda else 20)
    runs, share = (1, 16) if quick else (3, 1)
    limits = ceilings(where) if cuda else None
    jobs: list[tuple[str, Callable[[], list[Row]]]] = []
    for n, d, k in LOOKUPS if cuda else CPU_LOOKUPS:
        jobs.append((f"lookup {(n, d, k)}", partial(bench_lookup, (n // share, d, k), clock, runs, limits, autotune)))
    n, d, k, levels = RVQ if cuda else (4096, 128, 1024, 8)
    jobs.append(("residual", partial(bench_residual, clock, runs, limits, (n // share, d, k, levels))))
    shrink = share if cuda else 16 * share
    jobs.append(("pack", partial(bench_pack, clock, runs, limits, (PACK[0] // shrink, PACK[1]))))
    jobs.append(("entropy", partial(bench_entropy, clock, runs, limits, (ENTROPY[0] // shrink, ENTROPY[1]))))
    jobs.append(("snake", partial(bench_snake, clock, runs, limits, (SNAKE[0] // shrink or 1, *SNAKE[1:]))))
    for n, d, k in STEPS if cuda else []:
        jobs.append(("step", partial(bench_step, clock, runs, (n // share, d, k))))
    out: dict[str, Any] = {"bench": "lookup", **provenance(), "ceilings": limits, "samples": clock.samples, "rows": []}
    for name, job in jobs:
        if any(part in name for part in only.split("|")):
            for row in job():
                out["rows"].append(asdict(row))
                if report:
                    report(row)
            if json_path:
                json_path.write_text(json.dumps(out, indent=1) + "\n")
            torch._dynamo.reset()
            if cuda:
                torch.cuda.empty_cache()
    return out


def print_row(row: Row) -> None:
    """One line of the table."""
    if row.ms is None:
        print(f"{row.case:32} {row.method:32} not run: {row.why}", flush=True)
        return
    ratio = f"{row.ratio:6.2f}x" if row.ratio else "      -"
    floor = f"{row.floor_fraction:6.1%}" if row.floor_fraction else "     -"
    memory = f"{row.extra_bytes / 2**20:9.1f} MiB" if row.extra_bytes is not None else ""
    wrong = " ".join(f"{kind} {count}" for kind, count in row.mismatches.items())
    kind = "exact" if row.exact else "inexact"
    print(f"{row.case:32} {row.method:32} {kind:8} {row.ms:9.4f} ms {ratio} floor {floor} {memory} {wrong}", flush=True)


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="write everything here")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--quick", action="store_true", help="small and once, to see that it works")
    parser.add_argument("--autotune", action="store_true", help="also torch.compile's max-autotune")
    parser.add_argument("--only", default="", help="cases whose name contains this")
    given = parser.parse_args(arguments)
    if given.json:
        given.json.parent.mkdir(parents=True, exist_ok=True)
    run(given.device, quick=given.quick, autotune=given.autotune, only=given.only, report=print_row, json_path=given.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
