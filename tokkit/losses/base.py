"""What every reconstruction loss and discriminator is."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Annotated, Any, ClassVar, NamedTuple

from pydantic import Field
from torch import Tensor, nn

from tokkit.output import TokenizerOutput

Weight = Annotated[float, Field(ge=0)]
"""Of a loss, among the others."""


class TokenizerParts(NamedTuple):
    """What a loss that judges more than reconstructions may know of the tokenizer.

    Attributes:
        encoder: [B, C, *spatial] in the networks' range to (latents [B, N, `encoder_dim`], grid).
        encoder_dim: of these latents.
        stride: of the encoder.
        dim: D of `TokenizerOutput.latents`.
        codebook_sizes: of the quantizer that codes single tokens (the one inside, where one orders or drops tokens).
        lookup: of that quantizer, codes [B, N, Q] to [B, N, D].
        autocast: makes the context that the networks run in.
    """

    encoder: nn.Module
    encoder_dim: int
    stride: int
    dim: int
    codebook_sizes: tuple[int, ...]
    lookup: Callable[[Tensor], Tensor]
    autocast: Callable[[], AbstractContextManager[Any]]


class Loss(nn.Module):
    """Base of losses: a weighted scalar from a target and its reconstruction.

    A loss may have parameters of its own: they are trained with the tokenizer, and are no part of it.

    Attributes:
        weight: what the training loop multiplies the result with.
        kept: names of submodules and buffers that checkpoints keep, beside the parameters that are trained.
        compiles: whether `forward` takes many small steps that `train.compile_losses` makes one of.
    """

    kind: ClassVar[str] = "loss"
    kept: ClassVar[tuple[str, ...]] = ()
    compiles: ClassVar[bool] = False
    weight: float

    def attach(self, parts: TokenizerParts) -> None:
        """Called once, before training: the time to build what depends on the size of the latents.

        Raises:
            InputError: the loss does not fit the tokenizer.
        """

    def forward(self, target: Tensor, reconstruction: Tensor) -> Tensor:
        """The un-weighted loss of [B, C, *spatial] in the networks' range (pictures: [-1, 1]), averaged over the batch."""
        raise NotImplementedError

    def of_prefixes(self, target: Tensor, reconstruction: Tensor, kept: Tensor) -> Tensor:
        """`forward` for reconstructions from leading tokens; `kept` [B] is the share of its tokens that each sample kept."""
        return self(target, reconstruction)

    def of_output(self, target: Tensor, reconstruction: Tensor, output: TokenizerOutput) -> Tensor:
        """What training calls: `forward`, or `of_prefixes`. A loss that judges something else of the tokenizer's output overrides it."""
        if output.kept is None:
            value: Tensor = self(target, reconstruction)
            return value
        return self.of_prefixes(target, reconstruction, output.kept)


def pictures(values: Tensor) -> Tensor:
    """Video [B, C, T, H, W] as its frames [B * T, C, H, W], for losses of pictures; pictures as they are."""
    return values.transpose(1, 2).flatten(0, 1) if values.ndim == 5 else values


class Discriminator(nn.Module):
    """Base of discriminators.

    Attributes:
        per_sample: whether what it says of a sample depends on nothing else in its batch: then targets and reconstructions may pass it
            together.
        ranks: numbers of spatial axes that it can judge; any when empty.
    """

    kind: ClassVar[str] = "discriminator"
    ranks: ClassVar[tuple[int, ...]] = ()
    per_sample: bool = False

    def forward(self, inputs: Tensor) -> list[list[Tensor]]:
        """For every sub-discriminator its feature maps, the last being the logits; [B, C, *spatial] in the networks' range."""
        raise NotImplementedError

    @classmethod
    def example_options(cls) -> dict[str, Any]:
        """Small options that a contract test builds this discriminator with."""
        return {}
