"""What every reconstruction loss and discriminator is."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor, nn

from tokkit.output import TokenizerOutput


class Loss(nn.Module):
    """Base of losses: a weighted scalar from a target and its reconstruction.

    Attributes:
        weight: what the training loop multiplies the result with.
    """

    kind: ClassVar[str] = "loss"
    weight: float

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


class Discriminator(nn.Module):
    """Base of discriminators."""

    kind: ClassVar[str] = "discriminator"

    def forward(self, inputs: Tensor) -> list[list[Tensor]]:
        """For every sub-discriminator its feature maps, the last being the logits; [B, C, *spatial] in the networks' range."""
        raise NotImplementedError

    @classmethod
    def example_options(cls) -> dict[str, Any]:
        """Small options that a contract test builds this discriminator with."""
        return {}
