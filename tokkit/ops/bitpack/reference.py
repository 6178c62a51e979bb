"""The bit layout spelled out: one number for every bit, on any device."""

import torch
from torch import Tensor

from tokkit.ops.bitpack.codec import Widths, expand_widths


def _positions(widths: Widths, count: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """For every bit of the stream: the value it belongs to and its place in it, `[bits]` int64 each."""
    width = torch.from_numpy(expand_widths(widths, count)).to(device)
    owner = torch.repeat_interleave(torch.arange(count, device=device), width)
    starts = torch.cumsum(width, 0) - width
    return owner, torch.arange(owner.shape[0], device=device) - starts[owner]


def pack_reference(codes: Tensor, widths: Widths) -> Tensor:
    """`[R, M]` int64 -> `[R, ceil(bits / 8)]` uint8."""
    owner, place = _positions(widths, codes.shape[1], codes.device)
    bits = codes[:, owner] >> place & 1
    bits = torch.nn.functional.pad(bits, (0, -bits.shape[1] % 8)).unflatten(1, (-1, 8))
    return (bits << torch.arange(8, device=codes.device)).sum(dim=2).to(torch.uint8)


def unpack_reference(packed: Tensor, widths: Widths, count: int) -> Tensor:
    """`[R, bytes]` uint8 -> `[R, M]` int64."""
    owner, place = _positions(widths, count, packed.device)
    stream = (packed[:, :, None].long() >> torch.arange(8, device=packed.device) & 1).flatten(1)[:, : owner.shape[0]]
    return torch.zeros(packed.shape[0], count, dtype=torch.int64, device=packed.device).index_add_(1, owner, stream << place)
