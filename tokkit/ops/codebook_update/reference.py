"""The N x K way that everyone writes first: a one-hot matrix and a product."""

import torch
from torch import Tensor
from torch.nn import functional


def segment_sums_reference(x: Tensor, indices: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """`[N, d]`, `[N]` -> sums `[K, d]` fp32 (added in float64) and counts `[K]` int64."""
    choice = functional.one_hot(indices, size)
    return (choice.double().T @ x.double()).to(torch.float32), choice.sum(dim=0)
