"""What trains a prior."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import yaml

from tokkit import config
from tokkit.config import Where
from tokkit.errors import InputError
from tokkit.networks.transformer import Shape, resolve_shape
from tokkit.recipe import Fraction, NonNegative, Positive, Rate, Train, Weight


@dataclass(frozen=True, kw_only=True)
class PriorRecipe:
    """A checked recipe of a prior.

    Attributes:
        tokens: a token file, or a folder that is searched for them.
        name: of the run.
        num_tokens: tokens of a sample; longer samples are cut. Those of the first sample when not given.
        blocks: numbers of tokens that are predicted at once, coarse to fine, such as 1, 1, 2, 4 for 8 tokens of `restok`; none: one id
            after the other.
        width, depth, heads: of the transformer.
        steps, batch_size: optimizer steps, and samples in each.
        lr, warmup, schedule, weight_decay, clip, precision, seed, log_every: as in the `train` section of a tokenizer's recipe.
        held_out: share of the samples, the last ones, that are only measured.
    """

    tokens: str
    name: str = ""
    num_tokens: Positive | None = None
    blocks: tuple[Positive, ...] = ()
    width: Positive = 384
    depth: Positive = 6
    heads: Positive = 6
    steps: Positive = 1000
    batch_size: Positive = 32
    lr: Rate = 1e-3
    warmup: NonNegative = 50
    schedule: Literal["constant", "cosine"] = "cosine"
    weight_decay: Weight = 0.05
    clip: Rate | None = 1.0
    precision: Literal["fp32", "bf16"] = "fp32"
    seed: NonNegative = 0
    log_every: Positive = 50
    held_out: Fraction = 0.05

    @classmethod
    def load(cls, path: str | Path, overrides: Sequence[str] = ()) -> PriorRecipe:
        """Read and check a recipe; `overrides` are `key=value`.

        Raises:
            RecipeError: with every problem, each as `file:line:col: path: message`.
        """
        problems = config.Problems()
        node = config.override(config.read(path, problems), overrides, problems)
        places: dict[str, Where] = {}
        options = config.check(node, cls, "", problems, places)
        if options is not None:
            options.setdefault("name", Path(path).stem)
            try:
                resolve_shape("base", *(options.get(name, getattr(cls, name)) for name in ("width", "depth", "heads")))
            except InputError as error:
                problems.add(places.get("heads", places.get("width", Where(str(path)))), "heads", str(error))
        problems.raise_if_any()
        return cls(**options or {})

    @property
    def shape(self) -> Shape:
        """Of the transformer; raises InputError where the heads do not divide the width."""
        return resolve_shape("base", self.width, self.depth, self.heads)

    @property
    def optimizer(self) -> Train:
        """The options that training a prior shares with training a tokenizer."""
        names = ("steps", "batch_size", "lr", "warmup", "schedule", "weight_decay", "clip", "precision", "seed", "log_every")
        return Train(**{name: getattr(self, name) for name in names})

    def to_yaml(self) -> str:
        """The whole recipe, defaults written out."""
        return yaml.safe_dump(dataclasses.asdict(self), sort_keys=False, width=120)
