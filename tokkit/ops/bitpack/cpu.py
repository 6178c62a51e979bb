"""The numpy codec behind torch tensors."""

import numpy as np
import torch
from torch import Tensor

from tokkit.ops.bitpack.codec import Widths, pack_rows, unpack_rows


def pack_cpu(codes: Tensor, widths: Widths) -> Tensor:
    """`[R, M]` int64 -> `[R, ceil(bits / 8)]` uint8."""
    return torch.from_numpy(pack_rows(codes.numpy(), widths))


def unpack_cpu(packed: Tensor, widths: Widths, count: int) -> Tensor:
    """`[R, bytes]` uint8 -> `[R, M]` int64."""
    return torch.from_numpy(unpack_rows(packed.numpy(), widths, count))


def pack_signs_cpu(x: Tensor) -> Tensor:
    """`[N, d]` -> `[N, ceil(d / 8)]` uint8, bit set where x > 0."""
    return torch.from_numpy(np.packbits((x > 0).numpy(), axis=1, bitorder="little"))


def unpack_signs_cpu(packed: Tensor, width: int) -> Tensor:
    """`[N, bytes]` uint8 -> `[N, d]` fp32 of +1 and -1."""
    bits = np.unpackbits(packed.numpy(), axis=1, count=width, bitorder="little")
    return torch.from_numpy(bits).float().mul_(2).sub_(1)
