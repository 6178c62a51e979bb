"""The formulas as written, differentiated by autograd; and the 2^g softmax that the factorised forms must equal."""

import torch
from torch import Tensor
from torch.nn import functional


def soft_bits_reference(x: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """`[N, d]` -> mean over n of sum_i H2(p_ni) and sum_i H2(mean over n of p_ni), with p = sigmoid(4 x / temperature)."""
    logits, rows = x * (4 / temperature), max(x.shape[0], 1)
    up, down = torch.sigmoid(logits), torch.sigmoid(-logits)
    entropy = -(up * functional.logsigmoid(logits) + down * functional.logsigmoid(-logits))
    tiny = torch.finfo(x.dtype).tiny
    means = torch.stack([up.sum(dim=0), down.sum(dim=0)]).div(rows).clamp_min(tiny)
    return entropy.sum() / rows, torch.special.entr(means).sum()


def softmax_entropy_reference(x: Tensor, group_bits: int, temperature: float, pool: str) -> tuple[Tensor, Tensor]:
    """Sample and batch entropy from softmax(2 x.c / temperature) over all 2^g codes c of a group; N * 2^g numbers. Few bits only."""
    groups = x.unflatten(-1, (-1, group_bits))
    bits = torch.arange(2**group_bits, device=x.device)[:, None] >> torch.arange(group_bits, device=x.device) & 1
    log_p = functional.log_softmax(groups @ (bits * 2 - 1).to(x.dtype).T * (2 / temperature), dim=-1)
    p = log_p.exp()
    sample = -(p * log_p).sum(dim=-1)
    mean = p.mean(dim=(0, 1) if pool == "shared" else 0)
    batch = torch.special.entr(mean).sum()
    return (sample.mean() if pool == "shared" else sample.sum(dim=-1).mean()), batch
