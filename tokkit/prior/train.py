"""Training a prior on token files."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import torch
from torch import Tensor

from tokkit.data.tokens import TokenBatch, TokenDataset
from tokkit.errors import InputError, TokkitError
from tokkit.files import make_folder
from tokkit.prior.network import WEIGHTS_FILE, Prior, make
from tokkit.prior.recipe import PriorRecipe
from tokkit.tokens import TokenReader
from tokkit.train.log import Bar, MetricsFile
from tokkit.train.optim import clip_gradients, learning_rate, make_optimizer, set_learning_rate

MEASURED = 64
"""How many held-out samples are measured at most."""


def train_prior(recipe: PriorRecipe, out: str | Path, *, device: torch.device, force: bool = False) -> Path:
    """Train a prior, and write it with its metrics.jsonl (`loss` and `val/loss` in bits an id).

    Args:
        recipe: what to train on, and how.
        out: receives the prior.
        device: where.
        force: replace a prior that is there.

    Returns:
        The folder.

    Raises:
        InputError: `out` holds a prior and `force` is not set, there are no token files, or fewer samples than two.
        TokenFileError: a token file is damaged or another tokenizer's.
        TokkitError: the loss is not finite.
    """
    out = Path(out)
    if (out / WEIGHTS_FILE).exists() and not force:
        raise InputError(f"{out} holds a prior already; pass --force to replace it, or another --out")
    dataset = TokenDataset(recipe.tokens, bos=True)
    with TokenReader(dataset.files[0]) as reader:
        like = reader[0]
    if recipe.num_tokens is not None:
        if recipe.num_tokens > like.codes.shape[1]:
            raise InputError(f"num_tokens={recipe.num_tokens}: the first sample of {recipe.tokens} has {like.codes.shape[1]} tokens")
        like = dataclasses.replace(like, codes=like.codes[:, : recipe.num_tokens])
    dataset.max_length = 1 + like.codes.shape[1] * like.codes.shape[2]
    kept = len(dataset) - max(1, round(recipe.held_out * len(dataset)))
    if kept < 1:
        raise InputError(f"{recipe.tokens}: {len(dataset)} sample is too few to train on some and measure on others")
    measured = dataset.collate([dataset[index] for index in range(kept, min(len(dataset), kept + MEASURED))])
    torch.manual_seed(recipe.seed)
    prior = make(like, recipe).to(device).train()
    options = recipe.optimizer
    optimizer = make_optimizer(prior, options)
    order = torch.Generator().manual_seed(recipe.seed)
    make_folder(out)
    metrics = MetricsFile(out, 0)
    with Bar(recipe.steps, 0, shown=True) as bar:
        losses: list[Tensor] = []
        for step in range(recipe.steps):
            picked = torch.randint(kept, (recipe.batch_size,), generator=order).tolist()
            loss = _loss(prior, dataset.collate([dataset[index] for index in picked]), recipe)
            loss.backward()
            clip_gradients(prior.parameters(), recipe.clip)
            set_learning_rate(optimizer, learning_rate(step, options))
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            losses.append(loss.detach())
            bar.advance(step + 1)
            if (step + 1) % recipe.log_every == 0 or step + 1 == recipe.steps:
                values = {"loss": torch.stack(losses).mean().item() / math.log(2), "val/loss": _measure(prior, measured, recipe)}
                if not math.isfinite(values["loss"]):
                    raise TokkitError(f"step {step + 1}: the loss is {values['loss']}; a lower lr often helps")
                metrics.write(step + 1, values)
                bar.describe(step + 1, values)
                losses = []
    prior.save(out, recipe)
    return out


def _loss(prior: Prior, batch: TokenBatch, recipe: PriorRecipe) -> Tensor:
    device = prior.positions.device
    with torch.autocast(device.type, torch.bfloat16, enabled=recipe.precision == "bf16"):
        return prior.loss(batch["ids"].to(device), batch["labels"].to(device))


@torch.no_grad()
def _measure(prior: Prior, batch: TokenBatch, recipe: PriorRecipe) -> float:
    prior.eval()
    bits = _loss(prior, batch, recipe).item() / math.log(2)
    prior.train()
    return bits
