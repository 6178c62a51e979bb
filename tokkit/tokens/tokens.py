"""`Tokens`: the codes of some samples together with what decoding them needs. Knows no tokenizer."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tokkit.errors import InputError
from tokkit.tokens import vocabulary
from tokkit.tokens.header import TokenHeader
from tokkit.tokens.reader import TokenReader
from tokkit.tokens.writer import save_tokens

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, eq=False, kw_only=True)
class Tokens:
    """B samples as discrete codes, all of one grid.

    Args:
        codes: int64 `[B, N, Q]`, each in [0, K_q). N is the product of the grid, or less (a variable-length prefix) or more
            (several scales).
        codebook_sizes: K of each of the Q levels or groups, each in [1, 2^62].
        grid: shape of the latents, (H, W) | (T,) | (T, H, W) | () for sets.
        modality: registered name of the modality, such as "image".
        tokenizer: name of the tokenizer, for people.
        fingerprint: identity of the tokenizer as 32 lower-case hex digits; "" for none.
        sizes: original size of each sample before padding, (H, W) pixels | (T,) samples | ...; () each when left out.
        names: name of each sample, usually its relative path; "" each when left out.
        sample_rate: samples a second, for audio.
        extra_fields: names of other numbers that decoding needs (an audio gain, a mesh's centre and scale).
        extras: these numbers, for each sample one a field. They are rounded to float32, so decoding gives the same with and
            without a file between.

    Raises:
        InputError: shapes or lengths that disagree. The codes' range is checked by `save`, not here, since that would wait
            for the GPU.
    """

    codes: torch.Tensor
    codebook_sizes: tuple[int, ...]
    grid: tuple[int, ...]
    modality: str = ""
    tokenizer: str = ""
    fingerprint: str = ""
    sizes: tuple[tuple[int, ...], ...] = ()
    names: tuple[str, ...] = ()
    sample_rate: int | None = None
    extra_fields: tuple[str, ...] = ()
    extras: tuple[tuple[float, ...], ...] = ()
    header: TokenHeader = field(init=False, repr=False)
    """What the samples share, as the token file holds it."""

    def __post_init__(self) -> None:
        import torch

        levels = len(self.codebook_sizes)
        if self.codes.ndim != 3 or self.codes.shape[2] != levels or self.codes.dtype != torch.int64:
            given = f"{self.codes.dtype} {list(self.codes.shape)}"
            raise InputError(f"codes must be int64 [B, N, {levels}] for {levels} codebook sizes, got {given}")
        samples = len(self.codes)
        set_field = object.__setattr__
        set_field(self, "codebook_sizes", tuple(int(size) for size in self.codebook_sizes))
        set_field(self, "grid", tuple(int(side) for side in self.grid))
        set_field(self, "sizes", tuple(tuple(int(side) for side in size) for size in self.sizes) or ((),) * samples)
        set_field(self, "names", tuple(self.names) or ("",) * samples)
        set_field(self, "extras", tuple(_rounded(extra) for extra in self.extras) or ((),) * samples)
        for name in ("sizes", "names", "extras"):
            if len(getattr(self, name)) != samples:
                raise InputError(f"{name} has {len(getattr(self, name))} entries for {samples} samples")
        for name, extra in zip(self.names, self.extras, strict=True):
            if len(extra) != len(self.extra_fields):
                raise InputError(f"sample {name!r}: extras {extra} are not one number for each of {self.extra_fields}")
        header = TokenHeader(
            codebook_sizes=self.codebook_sizes,
            modality=self.modality,
            tokenizer=self.tokenizer,
            fingerprint=self.fingerprint,
            sample_rate=self.sample_rate,
            extra_fields=tuple(self.extra_fields),
        )
        set_field(self, "header", header)

    def __repr__(self) -> str:
        batch, positions, levels = self.codes.shape
        grid = "x".join(map(str, self.grid)) or "none"
        return (
            f"Tokens({self.modality or 'unknown'}: {batch} samples, grid {grid}, codes [{batch}, {positions}, {levels}], "
            f"{self.payload_bits} bits each)"
        )

    @property
    def payload_bits(self) -> int:
        """Bits that the codes of one sample take in a file: N · Σ ceil(log2 K_q)."""
        return self.codes.shape[1] * self.header.bits_per_position

    def __len__(self) -> int:
        return len(self.codes)

    def __getitem__(self, which: int | slice) -> Tokens:
        """Some of the samples; an integer gives `Tokens` with B = 1. Raises IndexError."""
        if not isinstance(which, slice):
            number = range(len(self))[which]
            which = slice(number, number + 1)
        return replace(
            self,
            codes=self.codes[which],
            sizes=self.sizes[which],
            names=self.names[which],
            extras=self.extras[which],
        )

    def __iter__(self) -> Iterator[Tokens]:
        """Each sample as `Tokens` with B = 1."""
        return map(self.__getitem__, range(len(self)))

    def to(self, device: torch.device | str) -> Tokens:
        """The same tokens with the codes on `device`."""
        return replace(self, codes=self.codes.to(device))

    @staticmethod
    def cat(parts: list[Tokens]) -> Tokens:
        """The samples of all `parts`, in order. Raises InputError when they differ in grid, N or header, or there are none."""
        import torch

        if not parts:
            raise InputError("cannot join an empty list of tokens")
        first = parts[0]
        for part in parts[1:]:
            difference = part.header.difference(first.header)
            if difference:
                raise InputError(f"cannot join tokens that have {difference} of the first")
            if (part.grid, part.codes.shape[1]) != (first.grid, first.codes.shape[1]):
                mine, theirs = (f"grid {p.grid} with {p.codes.shape[1]} positions" for p in (part, first))
                raise InputError(f"cannot join tokens of {mine} to those of {theirs}; a shard (TokenWriter) holds both")
        return replace(
            first,
            codes=torch.cat([part.codes for part in parts]),
            sizes=sum((part.sizes for part in parts), ()),
            names=sum((part.names for part in parts), ()),
            extras=sum((part.extras for part in parts), ()),
        )

    @property
    def vocabulary_size(self) -> int:
        """Number of ids that `flatten` can give: Σ K_q, and 2 for BOS and EOS (counted whether used or not)."""
        return vocabulary.vocabulary_size(self.codebook_sizes)

    def flatten(self, *, bos: bool = False, eos: bool = False, offset: int = 0) -> torch.Tensor:
        """Ids of one vocabulary, int64 `[B, L]` with L = N·Q + bos + eos. Order and ids: see `vocabulary.flatten_codes`.

        Args:
            bos: begin each sequence with the BOS id, Σ K_q + offset.
            eos: end each sequence with the EOS id, Σ K_q + 1 + offset.
            offset: added to every id, to put the vocabulary behind that of a text.

        Raises:
            InputError: the vocabulary does not fit in an int64.
        """
        return vocabulary.flatten_codes(self.codes, self.codebook_sizes, bos=bos, eos=eos, offset=offset)

    def unflatten(self, ids: torch.Tensor, *, offset: int = 0) -> Tokens:
        """The exact inverse of `flatten`, for these ids or others of the same tokenizer.

        Args:
            ids: int64 `[B, L]`, with or without BOS and EOS. L may differ from this object's (a shorter prefix, say). B
                may differ when this object has one sample: its grid and size are then taken for all, with names "".
            offset: as given to `flatten`.

        Raises:
            InputError: a wrong shape, or an id that does not belong at its place.
        """
        codes = vocabulary.unflatten_codes(ids, self.codebook_sizes, offset=offset)
        batch = len(codes)
        if ids.ndim != 2 or (batch != len(self) and len(self) != 1):
            raise InputError(f"ids must be [{len(self)}, L], got {list(ids.shape)}")
        if batch == len(self):
            return replace(self, codes=codes)
        return replace(self, codes=codes, sizes=self.sizes * batch, names=("",) * batch, extras=self.extras * batch)

    def save(self, path: str | Path, *, force: bool = False) -> None:
        """Write a token file, whole or not at all (through a temporary file beside it).

        Args:
            path: the file; `.tok` by convention.
            force: replace an existing file.

        Raises:
            InputError: the file exists and `force` is off, it cannot be written, there are no samples, or a code is outside
                its codebook.
        """
        save_tokens(self, Path(path), force)

    @staticmethod
    def load(path: str | Path, *, expect_fingerprint: str | None = None) -> Tokens:
        """All samples of a token file, on the CPU.

        Args:
            path: the file.
            expect_fingerprint: refuse a file of another tokenizer.

        Raises:
            InputError: there is no such file.
            TokenFileError: the file is damaged, of another version or tokenizer, or its samples differ in grid (then read
                it with `TokenReader`).
        """
        with TokenReader(path, expect_fingerprint=expect_fingerprint) as reader:
            return reader.load()


def _rounded(extras: Sequence[float]) -> tuple[float, ...]:
    """The numbers as float32. Raises InputError for one that is not finite there."""
    with np.errstate(over="ignore"):
        rounded = tuple(float(np.float32(value)) for value in extras)
    if not all(map(math.isfinite, rounded)):
        raise InputError(f"extras must be finite float32 numbers, got {tuple(extras)}")
    return rounded
