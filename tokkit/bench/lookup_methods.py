"""The methods that `tokkit.bench.lookup` compares, and the clock that times them."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import torch
from torch import Tensor

from tokkit import ops

_FLUSH_BYTES = 1 << 28
_CHUNK_BYTES = 24 << 20
"""Of scores, which an L2 of 50 MB keeps."""


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
    if x.is_cuda and importlib.util.find_spec("vector_quantize_pytorch"):
        module = vqp_module(c.shape[1], c.shape[0], x.device).eval()
        methods.append(Method("vector-quantize-pytorch eval", lambda: module(x[None]), True, False, 4 * cells))
    return methods


def _bind(call: Callable[[Tensor, Tensor], Tensor], x: Tensor, c: Tensor) -> Callable[[], Tensor]:
    return lambda: call(x, c)


def vqp_module(width: int, size: int, device: torch.device, **options: Any) -> torch.nn.Module:
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
