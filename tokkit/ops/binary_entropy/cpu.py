"""Soft bits with the derivative written out: nothing but x is kept for the backward pass."""

import torch
from torch import Tensor


def soft_bits_forward(x: Tensor, temperature: float) -> tuple[Tensor, Tensor, Tensor]:
    """`[N, d]` -> sample and batch entropy (scalars) and the slope of the batch entropy in mean p `[d]`; fp32, or float64 for float64."""
    logits = _wide(x) * (4 / temperature)
    size = logits.abs()
    small = torch.exp(-size)
    rare = small / (1 + small)
    rows = max(x.shape[0], 1)
    sample = (torch.log1p(small) + size * rare).sum() / rows
    tiny = torch.finfo(logits.dtype).tiny
    up = (torch.where(logits > 0, 1 - rare, rare).sum(dim=0) / rows).clamp_min(tiny)
    down = (torch.where(logits > 0, rare, 1 - rare).sum(dim=0) / rows).clamp_min(tiny)
    return sample, -(up * up.log() + down * down.log()).sum(), down.log() - up.log()


def soft_bits_backward(x: Tensor, temperature: float, sample: Tensor, batch: Tensor, pull: Tensor) -> Tensor:
    """Gradient with respect to x, for the gradients of the two entropies and the slope that the forward pass returned."""
    logits = _wide(x) * (4 / temperature)
    small = torch.exp(-logits.abs())
    slope = small / (1 + small).square() * (4 / temperature / max(x.shape[0], 1))
    return (slope * (batch * pull - sample * logits)).to(x.dtype)


def _wide(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()
