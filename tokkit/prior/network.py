"""A causal transformer over token ids (timm's blocks, rotary positions), and how it draws."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path

import safetensors
import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tokkit.errors import InputError
from tokkit.files import replacing
from tokkit.networks.transformer import Shape, Transformer, learned_tokens
from tokkit.prior.recipe import PriorRecipe
from tokkit.search import Propose
from tokkit.tokens import Tokens, flatten_codes, unflatten_codes, vocabulary_size

RECIPE_FILE, WEIGHTS_FILE, LIKE_FILE = "prior.yaml", "prior.safetensors", "like.tok"


class Prior(nn.Module):
    """Predicts every id of a sample from those before it; the ids are `flatten_codes`', BOS first.

    Only ids of the level whose turn it is are predicted. Input and output share one embedding (https://arxiv.org/abs/1608.05859).

    Attributes:
        like: one sample with all its tokens, for everything about the tokenizer: codebooks, grid, sizes, fingerprint.
    """

    def __init__(self, *, like: Tokens, shape: Shape):
        super().__init__()
        self.like = like
        self.num_tokens, self.levels = like.codes.shape[1:]
        self.sizes = like.codebook_sizes
        self.embedding = nn.Embedding(vocabulary_size(self.sizes), shape.width)
        nn.init.trunc_normal_(self.embedding.weight, std=0.02)
        self.positions = learned_tokens(self.num_tokens * self.levels, shape.width)
        self.transformer = Transformer(shape)
        level_of = torch.arange(self.levels).repeat_interleave(torch.tensor(self.sizes))
        self._level_of: Tensor
        self.register_buffer("_level_of", level_of, persistent=False)

    def forward(self, ids: Tensor) -> Tensor:
        """Logits [B, T, sum of K] of the ids that follow each of [B, T], which begin with BOS; T is at most N * Q."""
        return self._logits(self._hidden(ids), torch.arange(ids.shape[1], device=ids.device))

    def loss(self, ids: Tensor, labels: Tensor) -> Tensor:
        """Mean cross-entropy in nats an id, of [B, 1 + T] beginning with BOS; labels as in `TokenBatch`."""
        return F.cross_entropy(self(ids[:, :-1]).flatten(0, 1).float(), labels[:, 1:].flatten())

    @torch.inference_mode()
    def extend(self, prefixes: Tensor, draws: Tensor, *, temperature: float = 1.0, top_k: int | None = None) -> Tensor:
        """Continue prefixes.

        Args:
            prefixes: [B, k, Q] int64, k >= 0.
            draws: [B, m * Q] in [0, 1), by which each id is picked off the cumulated probabilities.
            temperature: of the probabilities; towards 0 the likeliest is always drawn.
            top_k: draw from this many likeliest only.

        Returns:
            [B, k + m, Q] int64.

        Raises:
            InputError: beyond N tokens, or a number that is not positive.
        """
        self.check_draws(prefixes, draws, temperature, top_k)
        ids = flatten_codes(prefixes.to(self._level_of.device), self.sizes, bos=True)
        for draw in draws.to(ids.device).double().unbind(1):
            position = torch.tensor([ids.shape[1] - 1], device=ids.device)
            logits = self._logits(self._hidden(ids)[:, -1:], position)[:, 0]
            ids = torch.cat([ids, pick(logits, draw, temperature, top_k).unsqueeze(1)], 1)
        return unflatten_codes(ids, self.sizes)

    def check_draws(self, prefixes: Tensor, draws: Tensor, temperature: float, top_k: int | None) -> None:
        """Refuse what `extend` cannot do."""
        if not 0 < temperature < math.inf or (top_k is not None and top_k < 1):
            raise InputError(f"prior: temperature and top_k must be positive numbers, got {temperature} and {top_k}")
        count = prefixes.shape[1] * self.levels + draws.shape[1]
        if count > self.num_tokens * self.levels:
            raise InputError(f"prior: at most {self.num_tokens} tokens, asked for {count // self.levels}")

    def sample(self, seeds: Sequence[int], *, num_tokens: int | None = None, temperature: float = 1.0, top_k: int | None = None) -> Tokens:
        """New samples, one a seed: the same for a seed whatever the others are. `num_tokens`: only that many leading tokens."""
        length = (self.num_tokens if num_tokens is None else num_tokens) * self.levels
        draws = torch.stack([torch.rand(length, generator=torch.Generator().manual_seed(seed)) for seed in seeds])
        nothing = torch.empty(len(seeds), 0, self.levels, dtype=torch.int64)
        codes = self.extend(nothing, draws, temperature=temperature, top_k=top_k).cpu()
        count = len(seeds)
        names = tuple(f"sample-{seed}" for seed in seeds)
        return dataclasses.replace(self.like, codes=codes, sizes=self.like.sizes * count, names=names, extras=self.like.extras * count)

    def proposal(self, generator: torch.Generator, *, temperature: float = 1.0, top_k: int | None = None) -> Propose:
        """For `tokkit.search`."""

        def propose(prefixes: Tensor, length: int) -> Tensor:
            draws = torch.rand(len(prefixes), (length - prefixes.shape[1]) * self.levels, generator=generator)
            return self.extend(prefixes, draws, temperature=temperature, top_k=top_k).to(prefixes.device)

        return propose

    def save(self, folder: str | Path, recipe: PriorRecipe) -> None:
        """Write the recipe, the weights and `like` into a folder."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(folder / RECIPE_FILE) as part:
            part.write_text(recipe.to_yaml(), encoding="utf-8")
        self.like.save(folder / LIKE_FILE, force=True)
        with replacing(folder / WEIGHTS_FILE) as part:
            safetensors.torch.save_model(self, str(part))

    @staticmethod
    def load(folder: str | Path, *, device: str | torch.device = "cpu") -> Prior:
        """Read what `save` wrote, in eval mode.

        Raises:
            InputError: something is missing, or the weights are those of another prior.
        """
        folder = Path(folder)
        missing = [name for name in (RECIPE_FILE, LIKE_FILE, WEIGHTS_FILE) if not (folder / name).is_file()]
        if missing:
            raise InputError(f"{folder}: no prior here, {' and '.join(missing)} missing; give the folder that `tokkit prior train` wrote")
        prior = make(Tokens.load(folder / LIKE_FILE), PriorRecipe.load(folder / RECIPE_FILE))
        try:
            safetensors.torch.load_model(prior, folder / WEIGHTS_FILE)
        except (RuntimeError, safetensors.SafetensorError) as error:
            raise InputError(f"{folder / WEIGHTS_FILE}: not the weights of {folder / RECIPE_FILE}: {error}") from error
        return prior.to(device).eval()

    def _hidden(self, ids: Tensor) -> Tensor:
        length = ids.shape[1]
        mask = torch.ones(length, length, dtype=torch.bool, device=ids.device).tril()
        return self.transformer(self.embedding(ids) + self.positions[:length], (length,), mask)

    def _logits(self, hidden: Tensor, positions: Tensor) -> Tensor:
        """[B, T, width] at `positions` [T] to [B, T, sum of K]."""
        logits = hidden @ self.embedding.weight[: len(self._level_of)].T
        if self.levels == 1:
            return logits
        return logits.masked_fill(positions.unsqueeze(-1) % self.levels != self._level_of, -torch.inf)


def pick(logits: Tensor, draws: Tensor, temperature: float, top_k: int | None) -> Tensor:
    """Ids [B] off the cumulated probabilities of logits [B, K], by numbers [B] in [0, 1)."""
    logits = logits.float() / temperature
    if top_k is not None and top_k < logits.shape[-1]:
        logits = logits.masked_fill(logits < logits.topk(top_k).values[:, -1:], -torch.inf)
    cumulated = logits.double().softmax(-1).cumsum(-1)
    return torch.searchsorted(cumulated, draws.unsqueeze(-1) * cumulated[:, -1:], right=True).squeeze(-1)


def make(like: Tokens, recipe: PriorRecipe) -> Prior:
    """The prior that a recipe describes, with fresh weights."""
    if not recipe.blocks:
        return Prior(like=like, shape=recipe.shape)
    from tokkit.prior.blocks import BlockPrior

    return BlockPrior(like=like, shape=recipe.shape, blocks=recipe.blocks)
