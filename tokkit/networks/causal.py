"""Layers that look at the past only, and go on from where an earlier piece of the sound ended.

Every layer takes `state`: None for a sound from its start to its end, or a dictionary that holds, for each layer, what it has to remember
of the pieces before. Both take the same path through the code: a sound begins after a past of zeros.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tokkit.errors import InputError
from tokkit.networks.base import Decoder, Encoder, Grid, Latents
from tokkit.networks.snake import started

State = dict[nn.Module, Any]
ROTARY_BASE = 10_000.0


class CausalEncoder(Encoder):
    """An encoder whose latents depend on no later sample (or frame, of video): the first spatial axis is time."""

    @property
    def first(self) -> int:
        """Samples that the first latent needs; each later one needs `strides[0]` more."""
        return self.stride

    def step(self, inputs: Tensor, state: State) -> Latents:
        """The latents of the next piece [B, C, n * stride]; `state` starts empty and is changed."""
        raise NotImplementedError


class CausalDecoder(Decoder):
    """A decoder whose samples depend on no later latent."""

    def step(self, latents: Tensor, state: State, grid: Grid | None = None) -> Tensor:
        """The samples of the next latents [B, n, D]; `state` starts empty and is changed. Where there are more axes than time, `grid` is
        that of these latents."""
        raise NotImplementedError


class Chain(nn.Module):
    """Layers one after the other; causal ones are given the state."""

    def __init__(self, *layers: nn.Module):
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, inputs: Tensor, state: State | None = None) -> Tensor:
        for layer in self.layers:
            inputs = layer(inputs) if isinstance(layer, nn.ELU) else layer(inputs, state)
        return inputs


class CausalConv(nn.Module):
    """A convolution that sees `kernel - stride` samples of the past: [B, C, n * stride] -> [B, C', n]."""

    def __init__(self, width_in: int, width_out: int, kernel: int, *, stride: int = 1, bias: bool = True, gain: float = 1.0):
        super().__init__()
        self.past = kernel - stride
        self.conv = started(nn.Conv1d(width_in, width_out, kernel, stride, bias=bias), gain / (width_in * kernel) ** 0.5)

    def forward(self, inputs: Tensor, state: State | None = None) -> Tensor:
        output: Tensor = self.conv(_after_past(self, inputs, self.past, state))
        return output


class CausalUpsample(nn.Module):
    """A transposed convolution over two inputs, the newest and the one before: [B, C, n] -> [B, C', n * stride]."""

    def __init__(self, width_in: int, width_out: int, stride: int, *, groups: int = 1, bias: bool = True):
        super().__init__()
        self.stride = stride
        layer = nn.ConvTranspose1d(width_in, width_out, 2 * stride, stride, groups=groups, bias=bias)
        self.conv = started(layer, (2 * width_in / groups) ** -0.5)

    def forward(self, inputs: Tensor, state: State | None = None) -> Tensor:
        output: Tensor = self.conv(_after_past(self, inputs, 1, state))
        return output[..., self.stride : -self.stride]


class CausalTransformer(nn.Module):
    """Pre-norm transformer with rotary positions; each layer looks back `context` frames, itself included.

    Attention costs memory for `context` squared, not for the length squared.
    """

    def __init__(self, width: int, depth: int, heads: int, context: int):
        """
        Raises:
            InputError: the heads do not get an even number of channels each.
        """
        super().__init__()
        if heads < 1 or width % (2 * heads):
            raise InputError(f"transformer: width {width} gives {heads} heads no even number of channels each; change either")
        self.blocks = nn.ModuleList(_Block(width, heads, context) for _ in range(depth))
        self.head_width = width // heads

    def forward(self, inputs: Tensor, state: State | None = None) -> Tensor:
        """[B, C, T] -> the same shape."""
        start = 0 if state is None else state.get(self, 0)
        hidden = inputs.transpose(1, 2)
        turns = _rotary(start, hidden.shape[1], self.head_width, hidden.device)
        for block in self.blocks:
            hidden = block(hidden, turns, state)
        if state is not None:
            state[self] = start + hidden.shape[1]
        return hidden.transpose(1, 2)


class _Block(nn.Module):
    def __init__(self, width: int, heads: int, context: int):
        super().__init__()
        self.heads, self.context = heads, context
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.proj = nn.Linear(width, width, bias=False)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width, bias=False), nn.GELU(), nn.Linear(4 * width, width, bias=False))
        self.scale1 = nn.Parameter(torch.full((width,), 0.01))
        self.scale2 = nn.Parameter(torch.full((width,), 0.01))

    def forward(self, hidden: Tensor, turns: tuple[Tensor, Tensor], state: State | None) -> Tensor:
        """hidden: [B, T, C]."""
        hidden = hidden + self.scale1 * self._attention(self.norm1(hidden), turns, state)
        return hidden + self.scale2 * self.mlp(self.norm2(hidden))

    def _attention(self, hidden: Tensor, turns: tuple[Tensor, Tensor], state: State | None) -> Tensor:
        queries, keys, values = self.qkv(hidden).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # each [B, heads, T, C / heads]
        queries, keys = _turned(queries, turns), _turned(keys, turns)
        if state is not None:
            if self in state:
                before = state[self]
                keys, values = torch.cat([before[0], keys], 2), torch.cat([before[1], values], 2)
            kept = max(0, keys.shape[2] - self.context + 1)
            state[self] = keys[:, :, kept:], values[:, :, kept:]
        length, known = queries.shape[2], keys.shape[2] - queries.shape[2]
        parts = []
        for begin in range(0, length, self.context):
            end = min(begin + self.context, length)
            first = max(0, known + begin - self.context + 1)
            mask = _band(known + begin - first, end - begin, self.context, hidden.device)
            seen = slice(first, known + end)
            parts.append(F.scaled_dot_product_attention(queries[:, :, begin:end], keys[:, :, seen], values[:, :, seen], attn_mask=mask))
        output: Tensor = self.proj(torch.cat(parts, 2).transpose(1, 2).flatten(2))
        return output


def _after_past(layer: nn.Module, inputs: Tensor, past: int, state: State | None) -> Tensor:
    """The inputs [B, C, T] behind the last `past` ones of the piece before, or zeros."""
    before = None if state is None else state.get(layer)
    joined = F.pad(inputs, (past, 0)) if before is None else torch.cat([before, inputs], -1)
    if state is not None:
        state[layer] = joined[..., joined.shape[-1] - past :].clone()
    return joined


def _band(offset: int, queries: int, context: int, device: torch.device) -> Tensor:
    """[queries, offset + queries] bool: which keys each query looks at, where query i is key `offset + i`."""
    query = torch.arange(offset, offset + queries, device=device)[:, None]
    key = torch.arange(offset + queries, device=device)[None, :]
    return (key <= query) & (key > query - context)


def _rotary(start: int, length: int, head_width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Cosine and sine [length, head_width / 2]; the angles in float64, so that hours into a stream they are right."""
    bands = ROTARY_BASE ** -(torch.arange(0, head_width, 2, dtype=torch.float64, device=device) / head_width)
    angles = torch.arange(start, start + length, dtype=torch.float64, device=device)[:, None] * bands
    return angles.cos().float(), angles.sin().float()


def _turned(values: Tensor, turns: tuple[Tensor, Tensor]) -> Tensor:
    """Rotary position embedding (https://arxiv.org/abs/2104.09864) of [B, heads, T, d]."""
    cosine, sine = turns
    first, second = values.float().chunk(2, -1)
    return torch.cat([first * cosine - second * sine, first * sine + second * cosine], -1).to(values.dtype)
