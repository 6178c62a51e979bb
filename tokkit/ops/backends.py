"""Which version of an op runs for which tensors, decided from facts and never by catching an exception; and the table that says so."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple

from tokkit.errors import InputError

if TYPE_CHECKING:
    import torch

OPS = {
    "codebook_lookup": "codebook_lookup",
    "residual_lookup": "residual_lookup",
    "bitpack": "bitpack.tensors",
    "binary_entropy": "binary_entropy",
    "segment_sums": "codebook_update",
    "snake": "snake",
}
"""Each op that has a choice, and the module below `tokkit.ops` whose `select(facts, backend)` makes it."""

_LOWEST_CAPABILITY = (8, 0)


class Choice(NamedTuple):
    """A backend and why it was picked."""

    backend: str
    why: str


class Backend(NamedTuple):
    """One row of `describe_backends`: the op, the backend that would run and why."""

    op: str
    backend: str
    why: str


@dataclass(frozen=True)
class Facts:
    """What a choice may look at. The width is None where only the device is known."""

    device: str
    width: int | None
    without_triton: str | None


def is_plain(*tensors: torch.Tensor) -> bool:
    """Whether the op's implementation may be called directly: no tracing, no tensor subclass. Saves about 30 us of dispatch."""
    import torch

    return not torch.compiler.is_compiling() and all(type(tensor) in (torch.Tensor, torch.nn.Parameter) for tensor in tensors)


def facts_of(x: torch.Tensor) -> Facts:
    """Facts about `[N, d]` or a tensor of any other shape."""
    return Facts(
        device=x.device.type,
        width=x.shape[-1] if x.dim() else 1,
        without_triton=_without_triton(x.device.type, x.device.index, os.environ.get("TRITON_INTERPRET", "0")),
    )


def choose(op: str, able: dict[str, str | None], backend: str) -> Choice:
    """The named backend, or the first that can run.

    Args:
        op: name for the error.
        able: backends, best first, each with the reason why it cannot run, or None.
        backend: "auto" or one of them.

    Raises:
        InputError: the named backend does not exist or cannot run.
    """
    if backend == "auto":
        passed = [f"{name}: {why}" for name, why in able.items() if why is not None]
        name = next(name for name, why in able.items() if why is None)
        skipped = [text for text in passed if list(able).index(text.split(":")[0]) < list(able).index(name)]
        return Choice(name, "; ".join(skipped) or "the fastest there is here")
    if backend not in able:
        raise InputError(f"{op}: backend must be one of auto, {', '.join(able)}, got {backend!r}")
    if (why := able[backend]) is not None:
        raise InputError(f"{op}: backend {backend!r} cannot run: {why}")
    return Choice(backend, "asked for")


def fp32_backend(op: str, x: torch.Tensor, backend: str, select: Callable[[Facts, str], Choice]) -> str:
    """The backend of an op whose kernels compute in fp32: "cpu" in their place where x is float64.

    Raises:
        InputError: "triton" is named for float64, or what `choose` raises.
    """
    import torch

    name = select(facts_of(x), backend).backend
    if name == "triton" and x.dtype == torch.float64:
        if backend == "triton":
            raise InputError(f"{op}: backend 'triton' cannot run: its kernels compute in fp32, x is float64")
        return "cpu"
    return name


def explain(op: str, x: torch.Tensor, *, backend: str = "auto") -> Backend:
    """Which backend of an op would run on `x`, and why.

    Raises:
        InputError: no such op, or a named backend that cannot run.
    """
    if op not in OPS:
        raise InputError(f"op must be one of {', '.join(OPS)}, got {op!r}")
    return Backend(op, *import_module(f"tokkit.ops.{OPS[op]}").select(facts_of(x), backend))


def describe_backends(device: str | None = None) -> list[Backend]:
    """One row for every op: what would run on a device, and why.

    Args:
        device: "cpu", "cuda" or "cuda:1"; None is the GPU where there is one.

    Raises:
        InputError: a device that torch does not know or this machine does not have.
    """
    import torch

    name = device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        where = torch.device(name)
    except RuntimeError as error:
        raise InputError(f"no device {name!r}: {str(error).splitlines()[0]}") from error
    if where.type == "cuda" and (where.index or 0) >= torch.cuda.device_count():
        raise InputError(f"no device {name!r} here: torch sees {torch.cuda.device_count()} GPUs")
    facts = Facts(where.type, None, _without_triton(where.type, where.index, os.environ.get("TRITON_INTERPRET", "0")))
    return [Backend(op, *import_module(f"tokkit.ops.{home}").select(facts, "auto")) for op, home in OPS.items()]


@lru_cache
def _without_triton(device: str, index: int | None, interpret: str) -> str | None:
    """Why Triton cannot run kernels on a device; None where it can."""
    if importlib.util.find_spec("triton") is None:
        return "Triton is not installed"
    if device == "cpu":
        return None if interpret == "1" else "Triton needs a GPU, the tensors are on the CPU"
    if device != "cuda":
        return f"the kernels are for CUDA, the tensors are on {device}"
    import torch

    if torch.version.hip:
        return "the kernels were never tried on ROCm"
    capability = torch.cuda.get_device_capability(index)
    if capability < _LOWEST_CAPABILITY:
        return f"the kernels need compute capability 8.0, this GPU has {capability[0]}.{capability[1]}"
    return None
