"""How many leading tokens to keep: a number of them, as many as a bit budget pays for, or as few as reach a quality.

Knows a tokenizer only by what is handed over: its quantizer, and how it decodes.
"""

from __future__ import annotations

import dataclasses
import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from numbers import Integral, Real
from typing import NamedTuple

from torch import Tensor

from tokkit import registry
from tokkit.errors import InputError
from tokkit.metrics.base import Metric, MetricFailure
from tokkit.quantizers.base import Quantizer
from tokkit.tokens import Tokens


class Cut(NamedTuple):
    """What to keep of codes [B, N, Q]; None keeps all.

    Attributes:
        num_tokens: this many leading tokens.
        levels: this many leading codebooks of each token.
        max_bits: as many leading tokens as this many payload bits a sample hold.
    """

    num_tokens: int | None = None
    levels: int | None = None
    max_bits: int | None = None

    def check(self, quantizer: Quantizer, name: str) -> None:
        """What can be known before anything is encoded.

        Raises:
            InputError: `quantizer` gives its codes no such order, a number is none, or there are not so many levels.
        """
        for option in ("num_tokens", "levels"):
            value = getattr(self, option)
            if value is not None and (isinstance(value, bool) or not isinstance(value, Integral)):
                raise InputError(f"{option}={value!r} must be a whole number")
        if self.max_bits is not None and not isinstance(self.max_bits, Real):
            raise InputError(f"max_bits={self.max_bits!r} must be a number of bits")
        if self.levels is not None:
            if not quantizer.variable_levels:
                raise InputError(f"levels={self.levels}: the codebooks of {name!r} are not residual; train with `rvq`, say")
            most = len(quantizer.codebook_sizes)
            if not 1 <= self.levels <= most:
                raise InputError(f"levels={self.levels} must be 1 to {most}")
        for option in ("num_tokens", "max_bits"):
            if (value := getattr(self, option)) is not None:
                check_order(quantizer, f"{option}={value}", name)

    def of(self, codes: Tensor, grid: tuple[int, ...], quantizer: Quantizer, name: str) -> Tensor:
        """The leading part of [B, N, Q].

        Raises:
            InputError: `quantizer` gives its codes no order, there are not that many, or the budget holds not even the shortest prefix.
        """
        self.check(quantizer, name)
        if self.levels is not None:
            codes = codes[..., : self.levels]
        if self.num_tokens is not None:
            if not 1 <= self.num_tokens <= codes.shape[1]:
                raise InputError(f"num_tokens={self.num_tokens} must be 1 to {codes.shape[1]}")
            codes = codes[:, : self.num_tokens]
        if self.max_bits is not None:
            bits = sum((size - 1).bit_length() for size in quantizer.codebook_sizes[: codes.shape[2]])
            lengths = [length for length in _lengths(quantizer, codes.shape[1], grid) if length * bits <= self.max_bits]
            if not lengths:
                raise InputError(f"max_bits={self.max_bits}: a token of {name!r} takes {bits} bits; the budget holds no prefix")
            codes = codes[:, : lengths[-1]]
        return codes


class Target(NamedTuple):
    """A quality to reach: `metric` at least `value`, or at most where lower is better."""

    metric: Metric
    value: float

    @classmethod
    def parse(cls, text: str, modality: str) -> Target:
        """Read "psnr:28".

        Raises:
            InputError: not a metric and a number, or the metric is of another modality.
            RegistryError: there is no such metric.
        """
        name, _, number = text.partition(":") if isinstance(text, str) else ("", "", "")
        try:
            value = float(number)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise InputError(f'target={text!r}: expected a metric and a number, such as "psnr:28"')
        metric = registry.build("metric", name)
        if metric.modality != modality:
            raise InputError(f"target={text!r}: {name} judges the modality {metric.modality}, not {modality}")
        return cls(metric, value)

    def reached(self, original: Tensor, reconstruction: Tensor) -> bool:
        """Whether a reconstruction [C, *spatial] is good enough.

        Raises:
            InputError: the metric has no value for this pair.
        """
        try:
            value = self.metric(original.cpu(), reconstruction.cpu())
        except MetricFailure as failure:
            raise InputError(f"target={self.metric.name}:{self.value:g} cannot be measured: {failure}") from failure
        return value >= self.value if self.metric.higher_is_better else value <= self.value


def shortest(
    tokens: Tokens,
    originals: Sequence[Tensor],
    target: Target,
    quantizer: Quantizer,
    decode_each: Callable[[Tokens], list[Tensor]],
) -> list[Tokens]:
    """For every sample its shortest leading tokens that reach the target, by bisection: about log2(N) decodings a sample.

    The rule, whether or not quality rises with every token: the length that is kept reaches the target and the next shorter one does not
    (or there is none). Where quality never falls this is the shortest of all. Where all the tokens do not reach it, all are kept: only the
    caller knows whether that is good enough.

    Args:
        tokens: B samples, the longest codes allowed.
        originals: B samples [C, *spatial] in the public range.
        target: what to reach.
        quantizer: that made the codes.
        decode_each: of the tokenizer.

    Returns:
        B `Tokens` of one sample each, whose lengths differ; a shard (`TokenWriter`) holds them together.

    Raises:
        InputError: the tokens have no order, or the metric has no value for a sample.
    """
    check_order(quantizer, f"target={target.metric.name}:{target.value:g}", tokens.tokenizer)
    lengths = _lengths(quantizer, tokens.codes.shape[1], tokens.grid)
    samples = list(tokens)
    fails = [-1] * len(samples)  # the index of a length that does not reach the target
    reaches = [len(lengths)] * len(samples)  # of one that does, or past the end
    trial = dict.fromkeys(range(len(samples)), len(lengths) - 1)
    while trial:
        for index, members in _by_value(trial).items():
            cut = [_leading(samples[member], lengths[index]) for member in members]
            for member, reconstruction in zip(members, decode_each(Tokens.cat(cut)), strict=True):
                good = target.reached(originals[member], reconstruction)
                (reaches if good else fails)[member] = index
        trial = {member: (fails[member] + reaches[member]) // 2 for member in trial if reaches[member] - fails[member] > 1}
    return [_leading(sample, lengths[min(index, len(lengths) - 1)]) for sample, index in zip(samples, reaches, strict=True)]


def _by_value(trial: dict[int, int]) -> dict[int, list[int]]:
    groups: defaultdict[int, list[int]] = defaultdict(list)
    for member, index in trial.items():
        groups[index].append(member)
    return groups


def _leading(tokens: Tokens, length: int) -> Tokens:
    return dataclasses.replace(tokens, codes=tokens.codes[:, :length])


def _lengths(quantizer: Quantizer, most: int, grid: tuple[int, ...]) -> list[int]:
    """The lengths that can be decoded, up to `most` tokens."""
    return [length for length in quantizer.prefix_lengths(most, grid) if length <= most]


def check_order(quantizer: Quantizer, asked: str, name: str) -> None:
    """Raises InputError unless leading tokens of the quantizer are a code of their own."""
    if not quantizer.variable_length:
        raise InputError(f"{asked}: the tokens of {name!r} have no order; train with the quantizer `nested`")
