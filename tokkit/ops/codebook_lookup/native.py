"""`nearest.c` from Python: the nearest code and how near the second is, in one pass over the codebook that writes nothing of N x K.

The C file is compiled when tokkit is installed on an x86-64 processor with a C compiler; without it a lookup takes `cpu.py`'s products.
"""

from __future__ import annotations

import ctypes
import importlib.util
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional

KINDS = {1: "AVX2", 2: "AVX-512"}
"""Of processors, that it is compiled for."""
PANEL = 32
"""Of nearest.c: codes side by side."""
LEAST = -3.0e38
_PRODUCTS_A_THREAD = 1 << 23


@lru_cache
def library() -> ctypes.CDLL | None:
    """The compiled file, where the installation made one."""
    found = importlib.util.find_spec("tokkit.ops.codebook_lookup._nearest")
    if found is None or found.origin is None:
        return None
    loaded = ctypes.CDLL(found.origin)
    address, number = ctypes.c_void_p, ctypes.c_int64
    loaded.tokkit_nearest_kind.restype = ctypes.c_int
    loaded.tokkit_nearest.restype = None
    loaded.tokkit_nearest.argtypes = [
        ctypes.c_int, ctypes.c_int, address, number, number, address, address, number, address, address, address,
    ]  # fmt: skip
    return loaded


def best_kind() -> int:
    """The fastest kind that runs here; 0 where none does: it was not compiled, or the processor is older."""
    loaded = library()
    return 0 if loaded is None else int(loaded.tokkit_nearest_kind())


def nearest(x: Tensor, codes: Tensor, half: Tensor, kind: int | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """The largest of `x @ codes.T - half` in every row.

    Args:
        x: `[N, d]` fp32 on the CPU.
        codes: `[K, d]` fp32.
        half: `[K]` fp32.
        kind: of processor, at most `best_kind()`; that one when not given.

    Returns:
        `[N]` int64, where it is, the lowest of equals; `[N]` fp32, how large; `[N]` fp32, the second largest.
    """
    loaded = library()
    assert loaded is not None
    count, width = x.shape
    panels = -(-codes.shape[0] // PANEL)
    behind = panels * PANEL - codes.shape[0]
    rows = x.contiguous()
    packed = functional.pad(codes, (0, 0, 0, behind)).view(panels, PANEL, width).transpose(1, 2).contiguous()
    offset = functional.pad(-half, (0, behind), value=LEAST).contiguous()
    index = torch.empty(count, dtype=torch.int64)
    best, second = torch.empty(count), torch.empty(count)
    threads = min(torch.get_num_threads(), 1 + count * codes.shape[0] * width // _PRODUCTS_A_THREAD)
    loaded.tokkit_nearest(
        best_kind() if kind is None else kind, threads, rows.data_ptr(), count, width, packed.data_ptr(), offset.data_ptr(), panels,
        index.data_ptr(), best.data_ptr(), second.data_ptr(),
    )  # fmt: skip
    return index, best, second
