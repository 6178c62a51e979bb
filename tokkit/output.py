"""What a tokenizer gives to training."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor


@dataclass
class TokenizerOutput:
    """What a training step needs.

    Attributes:
        reconstruction: [B, C, *spatial] in the public range of the modality, not clamped.
        target: what the reconstruction should be: the batch itself, or the field of shapes at the points that were looked at.
        codes: [B, N, Q] int64.
        loss: scalar, the quantizer's weighted loss.
        terms: its parts, for the log.
        decoder_terms: the weighted losses that a decoder which generates brings itself; none for others.
        kept: [B], the share of its tokens that each sample was reconstructed from; None: all.
        latents: [B, N, D], what the quantizer was given.
        grid: the arrangement of the latents, or of what is behind them.
        captions: a text for each sample, where the data has texts.
        semantic: [B, N, F], what the loss `distill` compares to a teacher's features; None where the quantizer has no such part.
    """

    reconstruction: Tensor
    target: Tensor
    codes: Tensor
    loss: Tensor
    terms: dict[str, Tensor] = field(default_factory=dict)
    decoder_terms: dict[str, Tensor] = field(default_factory=dict)
    kept: Tensor | None = None
    semantic: Tensor | None = None
    latents: Tensor | None = None
    grid: tuple[int, ...] = ()
    captions: list[str] | None = None
