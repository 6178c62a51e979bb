"""Devices and precisions by name."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from tokkit.errors import InputError

Precision = Literal["fp32", "bf16", "fp16"]
_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def checked_precision(precision: Precision) -> Precision:
    """Raises InputError unless there is such a precision."""
    if precision not in get_args(Precision):
        raise InputError(f"precision={precision!r} must be {', '.join(get_args(Precision))}")
    return precision


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[Any]:
    """Where networks compute in a precision; nothing for fp32."""
    return nullcontext() if precision == "fp32" else torch.autocast(device.type, _DTYPES[precision])


def pick_device(device: str | torch.device) -> torch.device:
    """A device that is there; "auto" is the GPU where there is one.

    Raises:
        InputError: the device is not there.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        picked = torch.device(device)
    except RuntimeError as error:
        raise InputError(f"device {device!r}: not a device; use cpu, cuda, cuda:1 or auto") from error
    if picked.type == "cuda" and not torch.cuda.is_available():
        raise InputError(f"device {device!r}: this machine has no CUDA GPU that torch can use; use cpu or auto")
    return picked


class Arriving:
    """A tensor on its way to this process's memory.

    A GPU takes its orders one after the other, so `tensor.cpu()` waits for everything that it has been told so far. The copy begins here,
    and `wait` waits for it alone: the GPU computes on what it was told since.
    """

    def __init__(self, values: Tensor):
        self._event: torch.cuda.Event | None = None
        self._values = values
        if values.is_cuda:
            self._values = torch.empty(values.shape, dtype=values.dtype, pin_memory=True).copy_(values, non_blocking=True)
            self._event = torch.cuda.Event(blocking=True)  # sleeps, where spinning would hold a core
            self._event.record(torch.cuda.current_stream(values.device))

    def wait(self) -> Tensor:
        """The tensor, when it is here."""
        if self._event is not None:
            self._event.synchronize()
        return self._values
