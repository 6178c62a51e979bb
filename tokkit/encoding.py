"""Codes on their way to tokens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tokkit.devices import Arriving
from tokkit.modalities.base import Modality, Sample
from tokkit.networks.base import Grid
from tokkit.prefixes import Cut
from tokkit.quantizers.base import Quantizer
from tokkit.tokens import TokenHeader, Tokens


@dataclass
class Encoding:
    """Samples whose codes a GPU may still be computing.

    Attributes:
        samples: what is encoded.
        codes: [B, N, Q].
        grid: theirs.
        name, modality, quantizer, make_header: the tokenizer's.
        header: one that is known saves looking at every weight for it.
    """

    samples: list[Sample]
    codes: Arriving
    grid: Grid
    name: str
    modality: Modality
    quantizer: Quantizer
    make_header: Callable[[int | None], TokenHeader]
    header: TokenHeader | None = None

    def finish(self, *, num_tokens: int | None = None, levels: int | None = None, max_bits: int | None = None) -> Tokens:
        """Wait for the codes.

        Raises:
            InputError: the quantizer cannot shorten its codes like that.
        """
        codes = Cut(num_tokens, levels, max_bits).of(self.codes.wait(), self.grid, self.quantizer, self.name)
        header = self.header or self.make_header(levels)
        return Tokens(
            codes=codes,
            codebook_sizes=header.codebook_sizes,
            grid=self.grid,
            modality=header.modality,
            tokenizer=header.tokenizer,
            fingerprint=header.fingerprint,
            sizes=tuple(self.modality.stored_size(sample) for sample in self.samples),
            names=tuple(sample.name for sample in self.samples),
            sample_rate=header.sample_rate,
            extra_fields=header.extra_fields,
            extras=tuple(sample.extras for sample in self.samples),
        )
