"""The few collectives that codebooks need. Without a process group, or with one process, each is the identity."""

from __future__ import annotations

import torch
from torch import Tensor, distributed


def world_size() -> int:
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def sum_over_ranks(*tensors: Tensor) -> None:
    """Replace each tensor by its sum over the ranks."""
    if world_size() > 1:
        for tensor in tensors:
            distributed.all_reduce(tensor)


def copy_from_first(*tensors: Tensor) -> None:
    """Overwrite each tensor with that of rank 0."""
    if world_size() > 1:
        for tensor in tensors:
            distributed.broadcast(tensor, 0)


def gather_rows(rows: Tensor) -> Tensor:
    """[n, d] on each rank, n its own -> [sum of n, d], the same on every rank."""
    if world_size() == 1:
        return rows
    count = torch.tensor([len(rows)], device=rows.device)
    counts = [torch.empty_like(count) for _ in range(world_size())]
    distributed.all_gather(counts, count)
    most = max(int(c) for c in counts)
    padded = rows.new_zeros(most, rows.shape[1])
    padded[: len(rows)] = rows
    everyone = [torch.empty_like(padded) for _ in range(world_size())]
    distributed.all_gather(everyone, padded)
    return torch.cat([part[: int(c)] for part, c in zip(everyone, counts, strict=True)])
