"""What can be judged: anything that turns samples into bytes and back. A tokkit tokenizer is one such system."""

from __future__ import annotations

import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tokkit.modalities.base import Modality, Sample
from tokkit.tokenizer import Tokenizer
from tokkit.tokens import Tokens


@dataclass(frozen=True)
class Coded:
    """One sample, coded and decoded.

    Attributes:
        values: the reconstruction [C, *spatial] in the public range.
        payload_bits: nominal, N * sum(ceil(log2 K)); of a classical codec its whole file; 0 where it is not known.
        file_bytes: of a file with this sample alone; 0 where it is not known.
        tokens: B = 1; None for systems without tokens.
    """

    values: Tensor
    payload_bits: int
    file_bytes: int
    tokens: Tokens | None = None


@dataclass(frozen=True)
class Shortened:
    """A part of a sample's tokens that can be decoded by itself.

    Attributes:
        axis: what was cut, "tokens" or "levels".
        count: how many were kept.
    """

    axis: str
    count: int
    coded: Coded


class System(ABC):
    """Base of systems.

    Attributes:
        name: in tables.
        modality: of its samples.
        codebook_sizes: of its tokens; () for systems without.
        device: where metrics are computed.
    """

    name: str
    modality: Modality
    codebook_sizes: tuple[int, ...] = ()
    device: torch.device = torch.device("cpu")

    @abstractmethod
    def code(self, samples: Sequence[Sample]) -> list[Coded]:
        """Every sample, in order, whatever their sizes."""

    def shortened(self, coded: Coded) -> Iterator[Shortened]:
        """The sample from fewer of its tokens, fewest first, for systems whose tokens are ordered."""
        return iter(())

    def describe(self) -> dict[str, Any]:
        """What identifies the system, for the record."""
        return {"name": self.name}


class TokenizerSystem(System):
    """A tokenizer. Every sample goes through a token file on the disk, as it would in use."""

    def __init__(self, tokenizer: Tokenizer):
        self.tokenizer = tokenizer
        self.name = tokenizer.name
        self.modality = tokenizer.modality
        self.device = tokenizer.device
        self.codebook_sizes = tuple(tokenizer.quantizer.codebook_sizes)

    def code(self, samples: Sequence[Sample]) -> list[Coded]:
        coded = []
        for _, group in groupby(samples, self.tokenizer.padded_size):
            coded.extend(self._decode(self.tokenizer.encode_samples(list(group))))
        return coded

    def shortened(self, coded: Coded) -> Iterator[Shortened]:
        if coded.tokens is None:
            return
        positions, levels = coded.tokens.codes.shape[1:]
        quantizer = self.tokenizer.quantizer
        if quantizer.variable_length:
            for count in few(quantizer.prefix_lengths(positions, coded.tokens.grid)):
                cut = replace(coded.tokens, codes=coded.tokens.codes[:, :count])
                yield Shortened("tokens", count, self._decode(cut)[0])
        if quantizer.variable_levels:
            for count in range(1, levels + 1):
                sizes = coded.tokens.codebook_sizes[:count]
                cut = replace(coded.tokens, codes=coded.tokens.codes[..., :count], codebook_sizes=sizes)
                yield Shortened("levels", count, self._decode(cut)[0])

    def describe(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "fingerprint": self.tokenizer.fingerprint,
            "modality": self.modality.name,
            "parameters": sum(parameter.numel() for parameter in self.tokenizer.parameters()),
            "codebook_sizes": list(self.codebook_sizes),
            "bits_per_token": self.tokenizer.quantizer.bits_per_token,
        }

    def _decode(self, tokens: Tokens) -> list[Coded]:
        loaded, sizes = through_files(tokens)
        decoded = self.tokenizer.decode_each(loaded)
        triples = zip(decoded, sizes, loaded, strict=True)
        return [Coded(values, own.payload_bits, size, own) for values, size, own in triples]


def through_files(tokens: Tokens) -> tuple[Tokens, list[int]]:
    """Write every sample as a token file of its own and read it back; the tokens and the sizes of the files."""
    loaded, sizes = [], []
    with tempfile.TemporaryDirectory(prefix="tokkit-") as folder:
        for i in range(len(tokens)):
            path = Path(folder) / f"{i}.tok"
            tokens[i].save(path)
            sizes.append(path.stat().st_size)
            loaded.append(Tokens.load(path, expect_fingerprint=tokens.fingerprint))
    return Tokens.cat(loaded), sizes


def few(lengths: Sequence[int]) -> list[int]:
    """Of rising lengths the first, the last, and between them each that is at least twice the one before."""
    kept = [lengths[0]]
    for length in lengths:
        if length >= 2 * kept[-1]:
            kept.append(length)
    return kept if kept[-1] == lengths[-1] else [*kept, lengths[-1]]
