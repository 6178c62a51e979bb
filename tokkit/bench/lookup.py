"""tokkit's kernels against what users run today: `python -m tokkit.bench.lookup --json F [--quick]`.

One process, one machine: every method of a shape is timed by turns, `runs` times `samples` calls with the caches flushed between calls,
codebook preparation included. A row gives the median time, the extra memory of one call, the ratio to the fastest exact peer, the fraction
of a floor that no exact method goes below, and how many of at least 65,536 rows differ from float64 beyond the rounding of fp32.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

from tokkit import ops

LOOKUPS = [(65536, 8, 16384), (65536, 32, 8192), (65536, 256, 1024), (65536, 256, 16384), (262144, 64, 65536), (1048576, 8, 1024)]
"""(N, d, K) on a GPU."""
CPU_LOOKUPS = [(16384, 8, 4096), (16384, 32, 8192), (16384, 256, 1024), (16384, 64, 8192)]
RVQ = (65536, 128, 1024, 8)
PACK = (1 << 20, 128)
ENTROPY = (65536, 128)
STEPS = [(65536, 32, 8192), (65536, 256, 1024)]
CHECKED_ROWS = 65536
_FLUSH_BYTES = 1 << 28
_CHUNK_BYTES = 24 << 20  # of scores, which an L2 of 50 MB keeps


@dataclass
class Row:
    """One method at one shape. Times in ms; memory in bytes above the inputs; `why` where it could not run."""

    case: str
    method: str
    exact: bool
    ms: float | None = None
    runs: list[float] = field(default_factory=list)
    extra_bytes: int | None = None
    ratio: float | None = None
    floor_fraction: float | None = None
    mismatches: dict[str, int] = field(default_factory=dict)
    why: str = ""


@dataclass
class Method:
    """A way to do a case. `tf32` is the global switch it runs under."""

    name: str
    call: Callable[[], Any]
    exact: bool = True
    tf32: bool = False
    needs_bytes: int = 0
    lookup: Callable[[Tensor, Tensor], Tensor] | None = None


def naive(x: Tensor, c: Tensor) -> Tensor:
    """The formula as everyone writes it."""
    return (x.square().sum(1, keepdim=True) - 2 * (x @ c.T) + c.square().sum(1)).argmin(1)


def addmm(x: Tensor, c: Tensor) -> Tensor:
    """One matrix product, then argmin."""
    return torch.addmm(c.square().sum(1), x, c.T, alpha=-2).argmin(1)


def cdist(x: Tensor, c: Tensor) -> Tensor:
    """torch's own distance matrix."""
    return torch.cdist(x, c).argmin(1)


def chunked(x: Tensor, c: Tensor) -> Tensor:
    """`addmm` over as many rows as the cache holds scores of."""
    rows = max(64, _CHUNK_BYTES // (4 * c.shape[0])) if x.is_cuda else max(64, (1 << 20) // (4 * c.shape[0]))
    half = c.square().sum(1)
    return torch.cat([torch.addmm(half, part, c.T, alpha=-2).argmin(1) for part in x.split(rows)])


def faiss_flat(x: Tensor, c: Tensor) -> Tensor:
    """faiss's exact index, built in the call."""
    import faiss

    index = faiss.IndexFlatL2(c.shape[1])
    index.add(c.numpy())
    return torch.from_numpy(index.search(x.numpy(), 1)[1][:, 0])


def lookup_methods(x: Tensor, c: Tensor, autotune: bool) -> list[Method]:
    """Ours and the peers at one shape."""
    cells = 4 * x.shape[0] * c.shape[0]
    ways: list[tuple[str, Callable[[Tensor, Tensor], Tensor], bool, bool, int]] = [
        ("tokkit", ops.codebook_lookup, True, False, 0),
        ("tokkit fast", lambda a, b: ops.codebook_lookup(a, b, precision="fast"), False, False, 0),
        ("cdist", cdist, True, False, cells),
        ("addmm fp32", addmm, True, False, cells),
        ("chunked addmm fp32", chunked, True, False, 0),
    ]
    if x.is_cuda:
        ways += [
            ("compile naive fp32", torch.compile(naive, dynamic=False), True, False, cells),
            ("addmm tf32", addmm, False, True, cells),
            ("chunked addmm tf32", chunked, False, True, 0),
            ("compile addmm tf32", torch.compile(addmm, dynamic=False), False, True, cells),
            ("compile naive tf32", torch.compile(lambda a, b: naive(a, b), dynamic=False), False, True, cells),
            ("bare gemm tf32", lambda a, b: a @ b.T, False, True, cells),
            ("bare gemm bf16", lambda a, b: a.bfloat16() @ b.bfloat16().T, False, True, cells // 2),
        ]
        if autotune:
            best = torch.compile(lambda a, b: naive(a, b), dynamic=False, mode="max-autotune-no-cudagraphs")
            ways.append(("compile naive tf32 max-autotune", best, False, True, cells))
    elif importlib.util.find_spec("faiss"):
        ways.append(("faiss flat", faiss_flat, True, False, 0))
    methods = [
        Method(name, _bind(call, x, c), exact, tf32, need, call if "gemm" not in name else None) for name, call, exact, tf32, need in ways
    ]
    if importlib.util.find_spec("vector_quantize_pytorch"):
        module = _vqp(c.shape[1], c.shape[0], x.device).eval()
        methods.append(Method("vector-quantize-pytorch eval", lambda: module(x[None]), True, False, 4 * cells))
    return methods


def _bind(call: Callable[[Tensor, Tensor], Tensor], x: Tensor, c: Tensor) -> Callable[[], Tensor]:
    return lambda: call(x, c)


def _vqp(width: int, size: int, device: torch.device, **options: Any) -> torch.nn.Module:
    from vector_quantize_pytorch import VectorQuantize

    return VectorQuantize(dim=width, codebook_size=size, threshold_ema_dead_code=0, **options).to(device)


@contextmanager
def tf32(on: bool) -> Iterator[None]:
    """The global switch of fp32 products, put back afterwards."""
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = on
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


class Clock:
    """Times calls on a device with its caches flushed before each."""

    def __init__(self, device: torch.device, samples: int):
        self.device = device
        self.samples = samples
        self.flush = torch.empty(_FLUSH_BYTES, dtype=torch.uint8, device=device) if device.type == "cuda" else None

    def median(self, call: Callable[[], Any]) -> float:
        """Median ms of `samples` calls, after one more."""
        if self.flush is None:
            call()
            return median(_wall(call) for _ in range(self.samples))
        call()
        pairs = [(torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)) for _ in range(self.samples)]
        for start, stop in pairs:
            self.flush.zero_()
            start.record()
            call()
            stop.record()
        torch.cuda.synchronize()
        return median(start.elapsed_time(stop) for start, stop in pairs)


def _wall(call: Callable[[], Any]) -> float:
    began = time.perf_counter()
    call()
    return (time.perf_counter() - began) * 1e3


def measure(case: str, methods: list[Method], clock: Clock, runs: int, floor: float | None) -> list[Row]:
    """Time every method of a case by turns."""
    rows = {method.name: Row(case, method.name, method.exact) for method in methods}
    able = []
    cuda = clock.device.type == "cuda"
    for method in methods:
        free = torch.cuda.mem_get_info()[0] + torch.cuda.memory_reserved() - torch.cuda.memory_allocated() if cuda else None
        if free is not None and method.needs_bytes > free:
            rows[method.name].why = f"needs about {method.needs_bytes / 2**30:.0f} GiB, {free / 2**30:.0f} GiB are free"
            continue
        with tf32(method.tf32), torch.no_grad() if "step" not in case else torch.enable_grad():
            try:
                method.call()
            except torch.OutOfMemoryError as error:
                rows[method.name].why = str(error).splitlines()[0]
                torch.cuda.empty_cache()
                continue
            if cuda:
                torch.cuda.synchronize()
                torch.cuda.reset_peak_memory_stats()
                before = torch.cuda.memory_allocated()
                method.call()
                torch.cuda.synchronize()
                rows[method.name].extra_bytes = torch.cuda.max_memory_allocated() - before
        able.append(method)
    for _ in range(runs):
        for method in able:
            with tf32(method.tf32), torch.no_grad() if "step" not in case else torch.enable_grad():
                rows[method.name].runs.append(clock.median(method.call))
    peers = []
    for method in able:
        row = rows[method.name]
        row.ms = median(row.runs)
        if floor:
            row.floor_fraction = floor / row.ms
        if method.exact and not method.name.startswith("tokkit"):
            peers.append(row.ms)
    for row in rows.values():
        if row.ms and peers:
            row.ratio = min(peers) / row.ms
    return list(rows.values())


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


def bench_step(clock: Clock, runs: int, shape: tuple[int, int, int]) -> list[Row]:
    """Rows of a whole training forward of `vq`, its EMA update in it."""
    from tokkit.quantizers.vq import VQ

    rows, width, size = shape
    x = torch.randn(1, rows, width, device=clock.device)
    ours = VQ(dim=width, codebook_size=size, kmeans_init=False, dead_threshold=0).to(clock.device).train()
    methods = [Method("tokkit", lambda: ours(x))]
    if importlib.util.find_spec("vector_quantize_pytorch"):
        theirs = _vqp(width, size, clock.device, decay=0.99).train()
        methods.append(Method("vector-quantize-pytorch", lambda: theirs(x)))
    return measure(f"vq step {shape}", methods, clock, runs, None)


def machine(device: torch.device) -> dict[str, Any]:
    """Where and with what the numbers were made."""
    versions = {}
    for name in ("torch", "triton", "numpy", "vector-quantize-pytorch", "faiss-cpu"):
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = None
    root = Path(__file__).parents[2]
    git = subprocess.run(["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True, check=False)
    named = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    return {
        "device": named,
        "commit": os.environ.get("TOKKIT_COMMIT") or git.stdout.strip() or None,
        "python": platform.python_version(),
        "cuda": torch.version.cuda,
        "threads": torch.get_num_threads(),
        "versions": versions,
    }


def run(
    device: str = "auto", *, quick: bool = False, autotune: bool = False, only: str = "", report: Callable[[Row], None] | None = None
) -> dict[str, Any]:
    """Measure everything.

    Args:
        device: "cpu", "cuda" or "auto".
        quick: a sixteenth of the rows, 5 samples, 1 run: to see that it works.
        autotune: also time torch.compile's max-autotune, which takes minutes to compile.
        only: cases whose name contains this; several with | between them.
        report: called with every row as it comes.
        json_path: rewritten after every case, so that what was measured survives an interruption.

    Returns:
        machine, ceilings and rows, ready for json.
    """
    where = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device)
    cuda = where.type == "cuda"
    clock = Clock(where, 5 if quick else 20)
    runs, share = (1, 16) if quick else (3, 1)
    limits = ceilings(where) if cuda else None
    jobs: list[tuple[str, Callable[[], list[Row]]]] = []
    for n, d, k in LOOKUPS if cuda else CPU_LOOKUPS:
        jobs.append((f"lookup {(n, d, k)}", lambda s=(n // share, d, k): bench_lookup(s, clock, runs, limits, autotune)))
    n, d, k, levels = RVQ if cuda else (4096, 128, 1024, 8)
    jobs.append(("residual", lambda: bench_residual(clock, runs, limits, (n // share, d, k, levels))))
    shrink = share if cuda else 16 * share
    jobs.append(("pack", lambda: bench_pack(clock, runs, limits, (PACK[0] // shrink, PACK[1]))))
    jobs.append(("entropy", lambda: bench_entropy(clock, runs, limits, (ENTROPY[0] // shrink, ENTROPY[1]))))
    for shape in STEPS if cuda else []:
        jobs.append(("step", lambda s=(shape[0] // share, *shape[1:]): bench_step(clock, runs, s)))
    out: dict[str, Any] = {"machine": machine(where), "ceilings": limits, "samples": clock.samples, "rows": []}
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
