"""Operations on tensors that the quantizers and the token file stand on: exact, fused where it pays, never N x K in memory.

Each op is a folder: `reference.py` is the slow readable truth, `triton.py` the GPU kernel, `cpu.py` the CPU path, `__init__.py`
picks between them by facts (device, dtype, shape, what is installed), `README.md` tells what each version gained. Ops know
tensors only. Names load on first use, so `tokkit.ops.bitpack.codec` imports without torch.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import Any

_HOMES = {
    "Lookup": "codebook_lookup",
    "codebook_lookup": "codebook_lookup",
    "codebook_lookup_with_distance": "codebook_lookup",
    "ResidualLookup": "residual_lookup",
    "residual_lookup": "residual_lookup",
    "bitpack": "bitpack",
    "bitunpack": "bitpack",
    "pack_signs": "bitpack",
    "unpack_signs": "bitpack",
    "Entropy": "binary_entropy",
    "SegmentSums": "codebook_update",
    "binary_entropy": "binary_entropy",
    "group_entropy": "binary_entropy",
    "ema_update": "codebook_update",
    "segment_sums": "codebook_update",
    "snake": "snake",
    "usage_histogram": "codebook_update",
    "Backend": "backends",
    "describe_backends": "backends",
    "explain": "backends",
}

__all__ = sorted(_HOMES)


class _Ops(ModuleType):
    """Keeps `tokkit.ops.bitpack` the function: importing the folder of that name would put the module in its place."""

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in _HOMES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Ops


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'tokkit.ops' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(f"tokkit.ops.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
