"""Integers and signs to exact bits and back: the token file's layout, for torch tensors on any device.

`codec.py` states the layout and works without torch; this module loads torch only when one of its tensor ops is asked for.
"""

from importlib import import_module
from typing import Any

_TENSOR_OPS = ("bitpack", "bitunpack", "pack_signs", "unpack_signs")

__all__ = list(_TENSOR_OPS)


def __getattr__(name: str) -> Any:
    if name not in _TENSOR_OPS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(_TENSOR_OPS)}")
    return getattr(import_module(f"{__name__}.tensors"), name)
