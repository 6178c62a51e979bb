"""Entropies of lookup-free quantizers, factorised over bits: O(d) a token, never 2^d.

softmax over the hypercube of 2 x.c / temperature is a product of Bernoullis with p_i = sigmoid(4 x_i / temperature), so the entropy of
one token is the sum of its bits' entropies, exactly. The entropy of the batch mean has a factorised form (`binary_entropy`, bits taken
as independent, as BSQ has it) and an exact one over the 2^g codes of small groups (`group_entropy`).
LFQ https://arxiv.org/abs/2310.05737, BSQ https://arxiv.org/abs/2406.07548, WeTok https://arxiv.org/abs/2508.05599.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from tokkit.errors import InputError
from tokkit.ops.backends import Choice, Facts, choose, fp32_backend, is_plain
from tokkit.ops.binary_entropy import cpu
from tokkit.ops.binary_entropy.reference import soft_bits_reference

LARGEST_GROUP = 24
_CELLS_A_CHUNK = 1 << 25


class Entropy(NamedTuple):
    """Scalars in nats: of one token on average, which training makes small, and of the batch, which it makes large."""

    sample: Tensor
    batch: Tensor


def binary_entropy(x: Tensor, temperature: float = 0.01, *, backend: str = "auto") -> Entropy:
    """sample = mean_n sum_i H2(p_ni) and batch = sum_i H2(mean_n p_ni), with p = sigmoid(4 x / temperature). Differentiable once.

    Args:
        x: `[N, d]`; computed in fp32 whatever the dtype (float64 stays), also under autocast.
        temperature: > 0.
        backend: "auto", "triton", "cpu" (any device, in torch) or "reference" (autograd of the plain formula).

    Raises:
        InputError: a wrong shape or temperature, or a backend that cannot run.
    """
    _check(x, temperature)
    with torch.autocast(x.device.type, enabled=False):
        return Entropy(*_soft_bits(x, temperature, backend))


def group_entropy(
    x: Tensor,
    group_bits: int,
    temperature: float = 0.01,
    pool: Literal["shared", "per_group"] = "shared",
    *,
    backend: str = "auto",
) -> Entropy:
    """Entropies over the 2^g codes of every group of g channels; equal to softmax(2 x.c / temperature) over them. Differentiable once.

    The mean over tokens of a product of Bernoullis is a matrix product of two half-groups' probabilities: N * 2^(g/2) numbers, not
    N * 2^g.

    Args:
        x: `[N, G * g]`, the g channels of a group side by side.
        group_bits: g, 1 to 24.
        temperature: > 0.
        pool: "shared" has one histogram for all groups and the mean over groups in `sample`, as WeTok's released code; "per_group" has
            a histogram each and sums over groups in both, as BSQ's.
        backend: of the sample entropy, as in `binary_entropy`.

    Raises:
        InputError: groups that do not divide the channels, a group too large, an unknown pool, or what `binary_entropy` raises.
    """
    _check(x, temperature)
    if not 1 <= group_bits <= LARGEST_GROUP or x.shape[1] % group_bits:
        raise InputError(f"group_bits lies in 1..{LARGEST_GROUP} and divides the channels, got {group_bits} for {x.shape[1]} channels")
    if pool not in ("shared", "per_group"):
        raise InputError(f"pool must be shared or per_group, got {pool!r}")
    with torch.autocast(x.device.type, enabled=False):
        sample, _ = _soft_bits(x, temperature, backend)
        wide = x if x.dtype == torch.float64 else x.float()
        groups = wide.unflatten(1, (-1, group_bits)).transpose(0, 1)
        if pool == "shared":
            sample = sample / groups.shape[0]
            groups = groups.reshape(1, -1, group_bits)
        cells = groups.shape[0] << (group_bits + 1) // 2
        rows = max(1, _CELLS_A_CHUNK // cells)
        parts = [groups[:, start : start + rows] for start in range(0, groups.shape[1], rows)]
        if len(parts) > 1:
            counts = [checkpoint(_code_sums, part, temperature, use_reentrant=False) for part in parts]
            total = torch.stack(counts).sum(dim=0)
        else:
            total = _code_sums(groups, temperature)
        return Entropy(sample, _entr(total / max(groups.shape[1], 1)).sum())


def select(facts: Facts, backend: str) -> Choice:
    """The backend that runs, and why."""
    return choose("binary_entropy", {"triton": facts.without_triton, "cpu": None, "reference": None}, backend)


def _check(x: Tensor, temperature: float) -> None:
    if x.dim() != 2 or not x.is_floating_point():
        raise InputError(f"an entropy takes floating-point x [N, d], got {x.dtype} {tuple(x.shape)}")
    if not temperature > 0:
        raise InputError(f"the temperature must be above 0, got {temperature}")


def _entr(p: Tensor) -> Tensor:
    """-p log p, with a finite derivative at 0."""
    return torch.special.entr(p.clamp_min(torch.finfo(p.dtype).tiny))


def _code_sums(groups: Tensor, temperature: float) -> Tensor:
    """`[G, N, g]` -> sum over N of the probability of each code, `[G, 2^g]`; the order of the codes is of no consequence."""
    logits = groups * (4 / temperature)
    bits = torch.stack([torch.sigmoid(-logits), torch.sigmoid(logits)], dim=-1)
    half = groups.shape[-1] // 2
    left, right = _products(bits[:, :, :half]), _products(bits[:, :, half:])
    return (left.transpose(1, 2) @ right).flatten(1)


def _products(bits: Tensor) -> Tensor:
    """`[G, N, h, 2]` -> all products of one entry for each bit, `[G, N, 2^h]`."""
    out = bits.new_ones(*bits.shape[:2], 1)
    for bit in bits.unbind(dim=2):
        out = (out.unsqueeze(-1) * bit.unsqueeze(-2)).flatten(2)
    return out


def _soft_bits(x: Tensor, temperature: float, backend: str) -> tuple[Tensor, Tensor]:
    if backend == "reference":
        return soft_bits_reference(x if x.dtype == torch.float64 else x.float(), temperature)
    if is_plain(x):
        return _SoftBits.apply(x, temperature, _backend(x, backend))
    return torch.ops.tokkit.soft_bits(x, temperature, backend)[:2]


def _backend(x: Tensor, backend: str) -> str:
    return fp32_backend("binary_entropy", x, backend, select)


def _forward(x: Tensor, temperature: float, name: str) -> tuple[Tensor, Tensor, Tensor]:
    if name == "triton":
        from tokkit.ops.binary_entropy import triton

        return triton.soft_bits_forward(x, temperature)
    return cpu.soft_bits_forward(x, temperature)


def _backward(x: Tensor, temperature: float, name: str, sample: Tensor, batch: Tensor, pull: Tensor) -> Tensor:
    if name == "triton":
        from tokkit.ops.binary_entropy import triton

        return triton.soft_bits_backward(x, temperature, sample, batch, pull)
    return cpu.soft_bits_backward(x, temperature, sample, batch, pull)


class _SoftBits(torch.autograd.Function):
    """The op without its dispatch, which takes longer than the kernels."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, temperature: float, name: str) -> tuple[Tensor, Tensor]:
        sample, batch, pull = _forward(x, temperature, name)
        ctx.save_for_backward(x, pull)
        ctx.temperature, ctx.name = temperature, name
        return sample, batch

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, sample: Tensor, batch: Tensor) -> tuple[Tensor, None, None]:
        x, pull = ctx.saved_tensors
        return _backward(x, ctx.temperature, ctx.name, sample, batch, pull), None, None


@torch.library.custom_op("tokkit::soft_bits", mutates_args=())
def _op(x: Tensor, temperature: float, backend: str) -> tuple[Tensor, Tensor, Tensor]:
    return _forward(x, temperature, _backend(x, backend))


@_op.register_fake
def _(x: Tensor, temperature: float, backend: str) -> tuple[Tensor, Tensor, Tensor]:
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    return x.new_empty((), dtype=dtype), x.new_empty((), dtype=dtype), x.new_empty(x.shape[1], dtype=dtype)


@torch.library.custom_op("tokkit::soft_bits_backward", mutates_args=())
def _backward_op(x: Tensor, temperature: float, backend: str, sample: Tensor, batch: Tensor, pull: Tensor) -> Tensor:
    return _backward(x, temperature, _backend(x, backend), sample.contiguous(), batch.contiguous(), pull)


@_backward_op.register_fake
def _(x: Tensor, temperature: float, backend: str, sample: Tensor, batch: Tensor, pull: Tensor) -> Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)


def _save(ctx: Any, inputs: tuple[Tensor, float, str], output: tuple[Tensor, Tensor, Tensor]) -> None:
    x, ctx.temperature, ctx.backend = inputs
    ctx.save_for_backward(x, output[2])


def _derive(ctx: Any, sample: Tensor, batch: Tensor, _: Tensor) -> tuple[Tensor, None, None]:
    x, pull = ctx.saved_tensors
    return torch.ops.tokkit.soft_bits_backward(x, ctx.temperature, ctx.backend, sample, batch, pull), None, None


_op.register_autograd(_derive, setup_context=_save)
