"""Bit packing for tensors: checks, choice of backend, and the ops that `torch.compile` sees. The layout is `codec.py`'s."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tokkit.errors import InputError
from tokkit.ops.backends import Choice, Facts, choose, facts_of, is_plain
from tokkit.ops.bitpack import cpu
from tokkit.ops.bitpack.codec import MAX_WIDTH, expand_widths
from tokkit.ops.bitpack.reference import pack_reference, unpack_reference


def bitpack(codes: Tensor, widths: int | Sequence[int], *, backend: str = "auto", check: bool = True) -> Tensor:
    """Pack each row of integers into exact bits, lsb first, rows padded with zero bits to whole bytes.

    Args:
        codes: `[..., M]` int64, value i in [0, 2^width_i).
        widths: bits of each value, 0..63: one int, or Q ints used cyclically, Q dividing M (codes `[N, Q]` flattened to M = N * Q).
        backend: "auto", "triton", "cpu" or "reference".
        check: look for values that do not fit, which on a GPU waits for it. Without it such values spill into their neighbours.

    Returns:
        `[..., ceil(bits / 8)]` uint8.

    Raises:
        InputError: a value or the widths do not fit, or a backend that cannot run.
    """
    width = _widths(widths)
    if codes.dim() < 1 or codes.dtype != torch.int64:
        raise InputError(f"bitpack takes int64 codes [..., M], got {codes.dtype} {tuple(codes.shape)}")
    _bytes(width, codes.shape[-1])
    return (_pack if is_plain(codes) else torch.ops.tokkit.bitpack)(codes, width, backend, check)


def bitunpack(packed: Tensor, widths: int | Sequence[int], count: int, *, backend: str = "auto") -> Tensor:
    """Undo `bitpack`: `[..., bytes]` uint8 -> `[..., count]` int64.

    Raises:
        InputError: another number of bytes than `count` values of these widths take, or a backend that cannot run.
    """
    width = _widths(widths)
    needed = _bytes(width, count)
    if packed.dtype != torch.uint8 or packed.dim() < 1 or packed.shape[-1] != needed:
        raise InputError(f"{count} values take {needed} bytes a row, got {packed.dtype} {tuple(packed.shape)}")
    return (_unpack if is_plain(packed) else torch.ops.tokkit.bitunpack)(packed, width, count, backend)


def pack_signs(x: Tensor, *, backend: str = "auto") -> Tensor:
    """The sign of every channel as a bit: `[N, d]` -> `[N, ceil(d / 8)]` uint8, channel i in bit i % 8 of byte i // 8, set where x > 0."""
    if x.dim() != 2:
        raise InputError(f"pack_signs takes [N, d], got {tuple(x.shape)}")
    return (_signs if is_plain(x) else torch.ops.tokkit.pack_signs)(x.detach(), backend)


def unpack_signs(packed: Tensor, width: int, *, backend: str = "auto") -> Tensor:
    """`[N, ceil(d / 8)]` uint8 and d -> `[N, d]` fp32 of +1 and -1."""
    if packed.dim() != 2 or packed.dtype != torch.uint8 or packed.shape[1] != -(-width // 8):
        raise InputError(f"{width} signs take uint8 [N, {-(-width // 8)}], got {packed.dtype} {tuple(packed.shape)}")
    return (_unsigns if is_plain(packed) else torch.ops.tokkit.unpack_signs)(packed, width, backend)


def select(facts: Facts, backend: str) -> Choice:
    """The backend that runs, and why."""
    able = {
        "triton": facts.without_triton,
        "cpu": None if facts.device == "cpu" else f"the tensors are on {facts.device}",
        "reference": None,
    }
    return choose("bitpack", able, backend)


def _widths(widths: int | Sequence[int]) -> list[int]:
    return [int(widths)] if isinstance(widths, int) else [int(width) for width in widths]


def _bytes(widths: list[int], count: int) -> int:
    """Bytes of `count` values; in plain Python, which `torch.compile` can follow."""
    if not widths or count % len(widths) or min(widths) < 0 or max(widths) > MAX_WIDTH:
        raise InputError(f"{count} values need widths in 0..{MAX_WIDTH}, one or a number of them that divides {count}; got {widths}")
    return (sum(widths) * (count // len(widths)) + 7) // 8


def _pack(codes: Tensor, widths: Sequence[int], backend: str, check: bool) -> Tensor:
    if check and codes.numel():
        limit = torch.from_numpy(expand_widths(list(widths), codes.shape[-1])).to(codes.device)
        if bool(((codes < 0) | ((codes >> limit) != 0)).any()):
            raise InputError(f"a code does not fit its bits: widths {list(widths)}, codes in {int(codes.min())}..{int(codes.max())}")
    name = select(facts_of(codes), backend).backend
    rows = codes.reshape(-1, codes.shape[-1]) if codes.shape[-1] else codes.reshape(codes.shape[:-1].numel(), 0)
    if name == "triton":
        from tokkit.ops.bitpack.triton import pack_triton

        out = pack_triton(rows.contiguous(), tuple(widths))
    else:
        out = cpu.pack_cpu(rows, list(widths)) if name == "cpu" else pack_reference(rows, list(widths))
    return out.reshape(*codes.shape[:-1], out.shape[1])


_pack_op = torch.library.custom_op("tokkit::bitpack", _pack, mutates_args=())


@_pack_op.register_fake
def _(codes: Tensor, widths: Sequence[int], backend: str, check: bool) -> Tensor:
    return codes.new_empty(*codes.shape[:-1], _bytes(list(widths), codes.shape[-1]), dtype=torch.uint8)


def _unpack(packed: Tensor, widths: Sequence[int], count: int, backend: str) -> Tensor:
    name = select(facts_of(packed), backend).backend
    rows = packed.reshape(packed.shape[:-1].numel(), packed.shape[-1])
    if name == "triton":
        from tokkit.ops.bitpack.triton import unpack_triton

        out = unpack_triton(rows.contiguous(), tuple(widths), count)
    else:
        unpack = cpu.unpack_cpu if name == "cpu" else unpack_reference
        out = unpack(rows, list(widths), count)
    return out.reshape(*packed.shape[:-1], count)


_unpack_op = torch.library.custom_op("tokkit::bitunpack", _unpack, mutates_args=())


@_unpack_op.register_fake
def _(packed: Tensor, widths: Sequence[int], count: int, backend: str) -> Tensor:
    return packed.new_empty(*packed.shape[:-1], count, dtype=torch.int64)


def _signs(x: Tensor, backend: str) -> Tensor:
    name = select(facts_of(x), backend).backend
    if name == "triton":
        from tokkit.ops.bitpack.triton import pack_signs_triton

        return pack_signs_triton(x if x.stride(1) == 1 else x.contiguous())
    if name == "cpu":
        return cpu.pack_signs_cpu(x)
    return pack_reference((x > 0).long(), 1)


_signs_op = torch.library.custom_op("tokkit::pack_signs", _signs, mutates_args=())


@_signs_op.register_fake
def _(x: Tensor, backend: str) -> Tensor:
    return x.new_empty(x.shape[0], (x.shape[1] + 7) // 8, dtype=torch.uint8)


def _unsigns(packed: Tensor, width: int, backend: str) -> Tensor:
    name = select(facts_of(packed), backend).backend
    if name == "triton":
        from tokkit.ops.bitpack.triton import unpack_signs_triton

        return unpack_signs_triton(packed.contiguous(), width)
    if name == "cpu":
        return cpu.unpack_signs_cpu(packed, width)
    return unpack_reference(packed, 1, width).float() * 2 - 1


_unsigns_op = torch.library.custom_op("tokkit::unpack_signs", _unsigns, mutates_args=())


@_unsigns_op.register_fake
def _(packed: Tensor, width: int, backend: str) -> Tensor:
    return packed.new_empty(packed.shape[0], width, dtype=torch.float32)
