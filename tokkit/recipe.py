"""The sections of a recipe. A recipe is everything that makes a tokenizer: its parts, its data, its losses and its training."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import torch
import yaml
from pydantic import Field

from tokkit import config, registry
from tokkit.config import Where
from tokkit.data.base import Source
from tokkit.errors import RecipeError, TokkitError
from tokkit.losses.base import Discriminator, Loss, Weight
from tokkit.metrics.base import Metric
from tokkit.modalities.base import Modality
from tokkit.networks.base import Decoder, Encoder
from tokkit.quantizers.base import Quantizer
from tokkit.registry import Spec

Positive = Annotated[int, Field(ge=1)]
NonNegative = Annotated[int, Field(ge=0)]
Rate = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, lt=1)]


@dataclass(frozen=True, kw_only=True)
class Adversarial:
    """Adversarial training.

    Attributes:
        discriminators: all of them judge; their losses add up.
        loss: the pair of losses.
        weight: of the generator's loss.
        adaptive: multiply `weight` by VQGAN's ratio of gradient norms at the decoder's last layer.
        start: the step from which the discriminator trains and the generator's loss counts.
        lecam: weight of the LeCAM regularizer (https://arxiv.org/abs/2104.03310).
        feature_matching: weight of the L1 between the discriminator's features of target and reconstruction.
        lr: the discriminator's learning rate; the generator's when not given.
    """

    discriminators: tuple[Discriminator, ...]
    loss: Literal["hinge", "nonsaturating", "lsgan"] = "hinge"
    weight: Weight = 0.5
    adaptive: bool = False
    start: NonNegative = 0
    lecam: Weight = 0.0
    feature_matching: Weight = 0.0
    lr: Rate | None = None

    def __post_init__(self) -> None:
        if not self.discriminators:
            raise ValueError("discriminators: at least one, or no section `adversarial`")


@dataclass(frozen=True, kw_only=True)
class Balance:
    """Loss balancing: the weights of losses are then shares of the gradient at the reconstruction.

    Attributes:
        norm: of a sample's gradient, all losses of the reconstruction together.
        decay: of the moving averages of the norms of each loss's gradient.
    """

    norm: Rate = 1.0
    decay: Fraction = 0.999


@dataclass(frozen=True, kw_only=True)
class Train:
    """How to train.

    Attributes:
        steps: optimizer steps.
        minutes: stop after so much time, reading data, compiling, looking and saving included, with the schedule at its end then; `steps`
            is the most steps all the same. Such a run depends on the machine's pace, so it cannot be repeated exactly.
        batch_size: samples a step, over all processes and accumulated parts together.
        lr: peak learning rate of AdamW.
        betas, weight_decay: AdamW's.
        schedule: the learning rate after warm-up.
        warmup: steps of linear warm-up.
        min_lr: where the cosine ends.
        clip: largest gradient norm; none when not given.
        precision: of the networks; quantizers compute in fp32 always.
        accumulate: parts that a batch is computed in, one after the other.
        ema: decay of the averaged weights, which are then the ones saved for use; none when not given.
        seed: of initialization, data order and everything random in training.
        workers: processes that read data.
        compile: run the networks through torch.compile.
        compile_losses: with `compile`, and not without, those losses too that consist of many small steps (`mel`, `stft`).
        cuda_graphs: with `compile`, replay the compiled networks as CUDA graphs ("reduce-overhead"): a small network's step is otherwise
            as long as Python needs to launch it. Costs some memory.
        channels_last: memory layout of pictures on the GPU.
        log_every, sample_every, checkpoint_every: steps between lines of metrics.jsonl, reconstruction pictures, and checkpoints.
        trackers: accelerate's, such as "tensorboard".
        balancer: balance the losses of the reconstruction, adversarial ones included (https://arxiv.org/abs/2210.13438); `{}` for the
            defaults. Not when not given.
        init_from: folder of a trained tokenizer to start from. The new one may have more weights where they are zero at the start.
        init_parts: the parts that start from there; the others start anew. Each has its linear map with it.
        freeze_encoder: leave the encoder, and its map to the quantizer, as they are. With `init_from` and a quantizer that learns nothing
            itself (`fsq`, `lfq`) the codes are then those of the tokenizer that it starts from, and another decoder learns to read them.
    """

    steps: Positive
    minutes: Rate | None = None
    batch_size: Positive = 16
    lr: Rate = 1e-4
    betas: tuple[Fraction, Fraction] = (0.9, 0.95)
    weight_decay: Weight = 0.0
    schedule: Literal["constant", "cosine"] = "constant"
    warmup: NonNegative = 0
    min_lr: Weight = 0.0
    clip: Rate | None = 1.0
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    accumulate: Positive = 1
    ema: Fraction | None = None
    seed: NonNegative = 0
    workers: NonNegative = 0
    compile: bool = False
    compile_losses: bool = False
    cuda_graphs: bool = False
    channels_last: bool = False
    log_every: Positive = 50
    sample_every: Positive = 1000
    checkpoint_every: Positive = 1000
    trackers: tuple[str, ...] = ()
    balancer: Balance | None = None
    init_from: str | None = None
    init_parts: tuple[Literal["encoder", "quantizer", "decoder"], ...] = ("encoder", "quantizer", "decoder")
    freeze_encoder: bool = False

    def __post_init__(self) -> None:
        if self.batch_size % self.accumulate:
            raise ValueError(f"accumulate={self.accumulate} must divide batch_size={self.batch_size}")
        if self.cuda_graphs and not self.compile:
            raise ValueError("cuda_graphs=true needs compile=true: the graphs are torch.compile's")


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """What training measures on held-out data.

    Attributes:
        every: steps between evaluations.
        metrics: on at most `limit` samples of `data` (the data section's validation split when not given).
    """

    every: Positive = 1000
    limit: Positive = 32
    metrics: tuple[Metric, ...] = ()
    data: Source | None = None


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A checked recipe. Components are annotated with what they build and hold the `Spec` of it: `recipe.part("encoder").build()`.

    Attributes:
        name: of the tokenizer, written into its token files.
    """

    modality: Modality
    encoder: Encoder
    quantizer: Quantizer
    decoder: Decoder
    name: str = ""
    data: Source | None = None
    losses: tuple[Loss, ...] = ()
    adversarial: Adversarial | None = None
    train: Train | None = None
    evaluate: Evaluate = field(default_factory=Evaluate)

    @classmethod
    def load(cls, path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
        """Read and check a recipe.

        Args:
            path: a yaml file.
            overrides: `key.sub=value`, checked like the file.

        Raises:
            RecipeError: with every problem, each as `file:line:col: path: message`.
        """
        problems = config.Problems()
        node = config.override(config.read(path, problems), overrides, problems)
        places: dict[str, Where] = {}
        options = config.check(node, cls, "", problems, places)
        if options is not None:
            options.setdefault("name", Path(path).stem)
            balanced = options.get("train") is not None and options["train"].balancer is not None
            if balanced and options.get("adversarial") is not None and options["adversarial"].adaptive:
                problems.add(places["adversarial"], "adversarial.adaptive", "train.balancer weighs the losses already; leave one out")
            _check_judges(options, places, problems)
            for part in ("modality", "encoder", "quantizer", "decoder"):
                _try_build(options[part], part, places, problems)
        problems.raise_if_any()
        return cls(**options or {})

    def part(self, name: str) -> Spec:
        """The component `name` ("encoder"), to build."""
        return cast(Spec, getattr(self, name))

    def section(self, name: str) -> Any:
        """A section that the recipe may lack but the work at hand needs.

        Raises:
            RecipeError: it lacks it.
        """
        value = getattr(self, name)
        if value is None or value == ():
            raise RecipeError([f"recipe {self.name!r}: {name}: required for training, missing"])
        return value

    def to_yaml(self) -> str:
        """The whole recipe, defaults written out: what a checkpoint keeps."""
        return yaml.safe_dump(_plain(self), sort_keys=False, width=120)


def specs(members: Iterable[object]) -> list[Spec]:
    """The members of a list of components, such as `recipe.losses`, to build."""
    return [cast(Spec, member) for member in members]


def _check_judges(options: dict[str, Any], places: dict[str, Where], problems: config.Problems) -> None:
    """What judges is for the modality: found out now, not at the first look or the first step with discriminators."""
    modality = options["modality"].name
    rank = registry.get("modality", modality).rank  # type: ignore[attr-defined]
    evaluated, adversarial = options.get("evaluate"), options.get("adversarial")
    for index, metric in enumerate(specs(evaluated.metrics) if evaluated is not None else ()):
        judged = getattr(registry.get("metric", metric.name), "modality", modality)
        if judged != modality:
            path = f"evaluate.metrics.{index}"
            problems.add(places[path], path, f"{metric.name} judges the modality {judged}, not {modality}; `tokkit list metric` has more")
    for index, judge in enumerate(specs(adversarial.discriminators) if adversarial is not None else ()):
        ranks = registry.get("discriminator", judge.name).ranks  # type: ignore[attr-defined]
        if ranks and rank not in ranks:
            path = f"adversarial.discriminators.{index}"
            axes = " or ".join(map(str, ranks)) + (" spatial axis" if ranks == (1,) else " spatial axes")
            problems.add(places[path], path, f"{judge.name} judges samples of {axes}, and {modality} has {rank}")


def _try_build(spec: Spec, path: str, places: dict[str, Where], problems: config.Problems) -> None:
    """Let the constructor object to its options, on the meta device, where no weight costs memory."""
    try:
        with torch.device("meta"):
            spec.build()
    except (TokkitError, ValueError) as error:
        problems.add(places[path], path, str(error))


def _plain(value: Any) -> Any:
    if isinstance(value, Spec):
        return _plain(value.to_dict())
    if dataclasses.is_dataclass(value):
        return {entry.name: _plain(getattr(value, entry.name)) for entry in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
