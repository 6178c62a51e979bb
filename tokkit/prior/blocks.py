"""A prior that predicts a block of tokens at once: next-scale prediction of VAR, next-level prediction of ResTok's generator."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from tokkit.errors import InputError
from tokkit.networks.transformer import Shape, learned_tokens
from tokkit.prior.network import Prior, pick
from tokkit.tokens import Tokens, flatten_codes, unflatten_codes


class BlockPrior(Prior):
    """Predicts all codes of a block from the blocks before it (VAR, https://arxiv.org/abs/2404.02905).

    The codes of a block are drawn independently of each other, so a sample takes as many passes as there are blocks. A place of a block
    gets the embedding of the token of the block before it that lies at the same share of the block, and looks at all places of its own and
    earlier blocks. (VAR gives it the sum of all earlier scales, interpolated, which needs the tokenizer.)

    Attributes:
        blocks: numbers of tokens, not falling: 1, 1, 2, 4, ... for `restok`, the squares of the scales for `multiscale`.
    """

    def __init__(self, *, like: Tokens, shape: Shape, blocks: Sequence[int]):
        """
        Raises:
            InputError: the blocks do not add up to the tokens of `like`, or one is smaller than that before it.
        """
        super().__init__(like=like, shape=shape)
        if sum(blocks) != self.num_tokens or any(first > second for first, second in itertools.pairwise(blocks)):
            raise InputError(f"prior: blocks must not fall and must add up to {self.num_tokens} tokens; {list(blocks)} are {sum(blocks)}")
        self.blocks = tuple(blocks)
        self.positions = learned_tokens(self.num_tokens, shape.width)
        self._starts = list(itertools.accumulate(self.sizes, initial=0))
        self._block_of: Tensor
        self._source: Tensor
        self.register_buffer("_block_of", torch.arange(len(blocks)).repeat_interleave(torch.tensor(blocks)), persistent=False)
        self.register_buffer("_source", sources(blocks), persistent=False)

    def forward(self, ids: Tensor) -> Tensor:
        """Logits [B, n, sum of K] of the tokens at the first n places; of ids [B, n, Q] only those of earlier blocks matter."""
        batch, wanted, _ = ids.shape
        # A place looks at all of its block, so the block is computed whole whatever part of it is asked for.
        count = next(end for end in itertools.accumulate(self.blocks, initial=0) if end >= wanted)
        tokens = F.pad(self.embedding(ids).sum(2), (0, 0, 0, count - wanted))
        first = self.embedding.weight[len(self._level_of)].expand(batch, 1, -1)  # BOS, in the place of a token before the first block
        inputs = torch.cat([first, tokens], 1)[:, self._source[:count] + 1]
        block = self._block_of[:count]
        hidden = self.transformer(inputs + self.positions[:count], (count,), block <= block.unsqueeze(1))
        return hidden[:, :wanted] @ self.embedding.weight[: len(self._level_of)].T

    def loss(self, ids: Tensor, labels: Tensor) -> Tensor:
        shape = (len(ids), -1, self.levels)
        logits = self(ids[:, 1:].view(shape))
        wanted = labels[:, 1:].reshape(shape)
        total = torch.zeros((), device=ids.device)
        for level, (start, end) in enumerate(itertools.pairwise(self._starts)):
            own = torch.where(wanted[..., level] >= 0, wanted[..., level] - start, -100)
            total = total + F.cross_entropy(logits[..., start:end].flatten(0, 1).float(), own.flatten(), reduction="sum")
        return total / (wanted >= 0).sum().clamp(min=1)

    @torch.inference_mode()
    def extend(self, prefixes: Tensor, draws: Tensor, *, temperature: float = 1.0, top_k: int | None = None) -> Tensor:
        """As of `Prior`; `prefixes` may end inside of a block, and so may the result."""
        self.check_draws(prefixes, draws, temperature, top_k)
        device = self._level_of.device
        given = prefixes.shape[1]
        draws = draws.to(device).double().unflatten(1, (-1, self.levels))
        last = given + draws.shape[1]
        ids = flatten_codes(prefixes.to(device), self.sizes).unflatten(1, (-1, self.levels))
        for start, end in itertools.pairwise(itertools.accumulate(self.blocks, initial=0)):
            first, end = max(start, given), min(end, last)
            if first >= end:
                continue
            blank = ids.new_zeros(len(ids), end - ids.shape[1], self.levels)
            logits = self(torch.cat([ids, blank], 1))[:, first:end]
            found = [
                low + pick(logits[..., low:high].flatten(0, 1), draws[:, first - given : end - given, level].flatten(), temperature, top_k)
                for level, (low, high) in enumerate(itertools.pairwise(self._starts))
            ]
            ids = torch.cat([ids, torch.stack(found, -1).view(len(ids), -1, self.levels)], 1)
        return unflatten_codes(ids.flatten(1), self.sizes)


def sources(blocks: Sequence[int]) -> Tensor:
    """For every place the token whose embedding it is given: of the block before at the same share of the block; -1 for the first block.

    Since blocks do not shrink, every token is given to some place.
    """
    found = [torch.full((blocks[0],), -1)]
    start = 0
    for before, size in itertools.pairwise(blocks):
        found.append(start + torch.arange(size) * before // size)
        start += before
    return torch.cat(found)
