"""The optimizer and its learning rate."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import nn

from tokkit.recipe import Train


def share_of_steps(step: int, train: Train) -> float:
    """How far step 0, 1, ... is from the end of the warm-up to the last step, in 0...1."""
    return min(1.0, max(0, step - train.warmup) / max(1, train.steps - 1 - train.warmup))


def learning_rate(step: int, train: Train, peak: float | None = None, progress: float | None = None) -> float:
    """The rate of a step: linear warm-up, then constant or a cosine that ends at `min_lr`.

    Args:
        step: 0, 1, ...
        train: names the schedule.
        peak: instead of `train.lr`.
        progress: how far the cosine is, where something else than the steps says so.
    """
    peak = train.lr if peak is None else peak
    if step < train.warmup:
        return peak * (step + 1) / train.warmup
    if train.schedule == "constant":
        return peak
    progress = share_of_steps(step, train) if progress is None else progress
    return train.min_lr + (peak - train.min_lr) * 0.5 * (1 + math.cos(math.pi * progress))


def make_optimizer(module: nn.Module, train: Train) -> torch.optim.AdamW:
    """AdamW; weights decay, and vectors (biases, gains) do not."""
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": train.weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    fused = all(parameter.is_cuda for parameter in parameters)
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=train.lr, betas=train.betas, fused=fused)


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate


def clip_gradients(parameters: Iterable[nn.Parameter], limit: float | None) -> torch.Tensor:
    """Scale the gradients to a norm of at most `limit`, and return the norm that they had."""
    return nn.utils.clip_grad_norm_(parameters, math.inf if limit is None else limit)
