"""What lies in a tokenizer's codes: how many bits they really need, what a language model could gain, and how firmly they hold.

- Held-out bits: the samples are split, every second one held out. A model of the token stream is counted on the first half, and the bits
  that it needs for the second half are reported: of order 0 (frequencies), 1 and 2 (given the one or two tokens before). The stream is the
  one a language model sees: position after position, in each its codebooks in order.
- Coded bits: the held-out half, really written by an entropy coder (constriction's ANS) with the model of order 0, and read back. The table
  of frequencies is not counted.
- Flips: the fraction of codes that change when the input is disturbed.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from itertools import groupby, islice
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tokkit.baselines.jpeg import Jpeg
from tokkit.data.base import Source
from tokkit.errors import InputError
from tokkit.evaluate.result import Skipped
from tokkit.evaluate.run import extent_of, read_samples, unit_of
from tokkit.modalities.base import Modality, Sample
from tokkit.tokenizer import Tokenizer

Codes = NDArray[np.int64]
Floats = NDArray[np.float64]

ORDERS = (0, 1, 2)
_STRENGTHS = tuple(2.0**k for k in range(-4, 25, 2))


@dataclass(frozen=True)
class LevelBits:
    """One codebook, in bits a code.

    Attributes:
        size: K.
        nominal: ceil(log2 K).
        heldout: by order 0, 1, 2, of held-out codes.
        coded: really written; None without constriction.
    """

    size: int
    nominal: int
    heldout: tuple[float, ...]
    coded: float | None


@dataclass
class CodesReport:
    """Everything that was measured.

    Attributes:
        rates: bits per `unit` ("pixel"): "nominal", "order 0" to "order 2", and "coded".
        flips: disturbance -> fraction of codes that changed.
    """

    samples: int
    heldout: int
    tokens: int
    unit: str
    levels: list[LevelBits]
    rates: dict[str, float]
    flips: dict[str, float] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def measure_codes(
    tokenizer: Tokenizer,
    inputs: Source | Iterable[Any],
    *,
    limit: int | None = None,
    disturbed: int = 16,
    batch_size: int = 8,
    seed: int = 0,
    progress: Callable[[int], object] = lambda done: None,
) -> CodesReport:
    """Encode samples and measure their codes.

    Args:
        tokenizer: what is judged.
        inputs: as `evaluate` takes them.
        limit: stop after so many samples.
        disturbed: how many samples, the first ones, are encoded again, disturbed.
        batch_size: samples a pass of the network.
        seed: of the noise.
        progress: called with the number of finished samples.

    Raises:
        InputError: there are fewer than two samples.
    """
    codes: list[Codes] = []
    extents: list[float] = []
    skipped: list[str] = []
    changed: dict[str, list[int]] = {}
    found = islice(read_samples(tokenizer.modality, inputs), limit)
    while batch := list(islice(found, batch_size)):
        skipped += [f"{entry.sample}: {entry.reason}" for entry in batch if isinstance(entry, Skipped)]
        samples = [entry for entry in batch if isinstance(entry, Sample)]
        for _, group in groupby(samples, tokenizer.padded_size):
            same_size = list(group)
            for sample, own in zip(same_size, tokenizer.encode_samples(same_size).codes.numpy(), strict=True):
                if len(codes) < disturbed:
                    for name, values in disturbances(tokenizer.modality, sample.values, seed + len(codes)):
                        other = tokenizer.encode_samples([Sample(values, sample.name, sample.extras)]).codes[0].numpy()
                        counts = changed.setdefault(name, [0, 0])
                        counts[0] += int((other != own).sum())
                        counts[1] += own.size
                codes.append(own)
                extents.append(extent_of(tokenizer.modality, sample.values))
        progress(len(codes))
    if len(codes) < 2:
        raise InputError(f"codes: {len(codes)} samples; one half is held out, so give at least two")
    levels = level_bits(codes[::2], codes[1::2], tokenizer.quantizer.codebook_sizes)
    positions, extent = sum(len(own) for own in codes[1::2]), sum(extents[1::2])
    rates = {"nominal": sum(level.nominal for level in levels) * positions / extent}
    for order in ORDERS:
        rates[f"order {order}"] = sum(level.heldout[order] for level in levels) * positions / extent
    coded = [level.coded for level in levels if level.coded is not None]
    if coded:
        rates["coded"] = sum(coded) * positions / extent
    return CodesReport(
        samples=len(codes),
        heldout=len(codes[1::2]),
        tokens=sum(own.size for own in codes),
        unit=unit_of(tokenizer.modality),
        levels=levels,
        rates=rates,
        flips={name: flipped / total for name, (flipped, total) in changed.items()},
        skipped=skipped,
    )


def level_bits(known: list[Codes], heldout: list[Codes], sizes: tuple[int, ...]) -> list[LevelBits]:
    """The bits of held-out samples [N, Q], by models counted on known ones; for each codebook."""
    first, second = (_streams(samples, sizes) for samples in (known, heldout))
    levels = []
    for level, size in enumerate(sizes):
        (known_codes, known_before), (codes, before) = first[level], second[level]
        known_base, base = np.full(len(known_codes), 1 / size), np.full(len(codes), 1 / size)
        bits = []
        for order in ORDERS:
            contexts = np.unique(np.concatenate([known_before[:, :order], before[:, :order]]), axis=0, return_inverse=True)[1].reshape(-1)
            known_keys, keys = contexts[: len(known_codes)], contexts[len(known_codes) :]
            known_base, base, strength = predict((known_keys, known_codes, known_base), (keys, codes, base), size)
            bits.append(float(-np.log2(base).mean()))
            if order == 0:
                counts = np.bincount(known_codes, minlength=size)
                table: Floats = np.asarray((counts + strength / size) / (len(known_codes) + strength), dtype=np.float64)
        levels.append(LevelBits(size, math.ceil(math.log2(size)), tuple(bits), coded_bits(codes, table)))
    return levels


def predict(known: tuple[Codes, Codes, Floats], heldout: tuple[Codes, Codes, Floats], size: int) -> tuple[Floats, Floats, float]:
    """The probability of each code given its context: (count(context, code) + s * base) / (count(context) + s).

    The strength s, a power of 4, is the one that makes the known codes most likely when each is left out of the counts itself.

    Args:
        known: contexts, codes, and the probabilities of the codes by the model with a shorter context.
        heldout: the same of the codes that are not counted.
        size: K.

    Returns:
        Probabilities of the known codes (each left out of the counts) and of the held-out codes, and s.
    """
    contexts, codes, base = known
    pairs, pair_of, pair_counts = np.unique(contexts * size + codes, return_inverse=True, return_counts=True)
    totals = np.bincount(contexts, minlength=int(max(contexts.max(), heldout[0].max())) + 1)
    own, own_total = pair_counts[pair_of] - 1, totals[contexts] - 1

    def left_out(strength: float) -> Floats:
        found: Floats = (own + strength * base) / (own_total + strength)
        return found

    strength = max(_STRENGTHS, key=lambda value: float(np.log2(left_out(value)).sum()))
    keys = heldout[0] * size + heldout[1]
    place = np.searchsorted(pairs, keys).clip(max=len(pairs) - 1)
    counts = np.where(pairs[place] == keys, pair_counts[place], 0)
    return left_out(strength), (counts + strength * heldout[2]) / (totals[heldout[0]] + strength), strength


def coded_bits(codes: Codes, table: Floats) -> float | None:
    """Bits a code, of codes written by constriction's ANS coder and read back; None where constriction is not installed."""
    if importlib.util.find_spec("constriction") is None:
        return None
    import constriction

    model = constriction.stream.model.Categorical(table, perfect=False)
    coder = constriction.stream.stack.AnsCoder()
    coder.encode_reverse(codes.astype(np.int32), model)
    words = coder.get_compressed()
    if not np.array_equal(constriction.stream.stack.AnsCoder(words).decode(model, len(codes)), codes):
        raise InputError("codes: what the entropy coder wrote does not read back; this constriction is broken")
    return float(32 * len(words) / len(codes))


def _vertices_moved(values: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """A mesh [9, F] or cloud [3 or 6, P] with noise of that share of its spread; corners that are one vertex stay one, so nothing tears."""
    corners = values.T.reshape(-1, 3) if len(values) == 9 else values[:3].T
    vertices, vertex_of = corners.unique(dim=0, return_inverse=True)
    spread = (vertices - vertices.mean(0)).square().mean().sqrt()
    moved = (vertices + share * spread * torch.randn(vertices.shape, generator=generator))[vertex_of]
    return moved.reshape(-1, 9).T if len(values) == 9 else torch.cat([moved.T, values[3:]])


def disturbances(modality: Modality, values: Tensor, seed: int) -> Iterator[tuple[str, Tensor]]:
    """A sample [C, *spatial], disturbed: by noise, a shift by one along the last axis (the edge repeated), and, of pictures, JPEG.

    A shape's vertices are moved; it has no axis to shift along.
    """
    generator = torch.Generator().manual_seed(seed)
    if modality.name == "mesh":
        yield "noise at 40 dB", _vertices_moved(values, 0.01, generator)
        return
    noise = torch.randn(values.shape, generator=generator)
    if modality.name == "image":
        for steps in (1, 4):
            yield f"noise of {steps}/255", (values + noise * (steps / 255)).clamp(0, 1)
    else:
        yield "noise at 40 dB", values + noise * 0.01 * values.square().mean().sqrt()
    yield "shift by 1", torch.cat([values[..., :1], values[..., :-1]], -1)
    if modality.name == "image":
        codec = Jpeg()
        for quality in (90, 50):
            yield f"JPEG of quality {quality}", codec.decode(codec.encode(values, quality))


def _streams(samples: list[Codes], sizes: tuple[int, ...]) -> list[tuple[Codes, Codes]]:
    """For each codebook the codes [n] of all samples, and the tokens before each [n, 2], the nearest first; -1 before a sample's start."""
    offsets = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    levels: list[list[tuple[Codes, Codes]]] = [[] for _ in sizes]
    for own in samples:
        stream = np.concatenate([[-1, -1], (own + offsets[: own.shape[1]]).reshape(-1)])
        before = np.stack([stream[1:-1], stream[:-2]], -1).reshape(*own.shape, 2)
        for level in range(own.shape[1]):
            levels[level].append((own[:, level], before[:, level]))
    return [(np.concatenate([codes for codes, _ in level]), np.concatenate([before for _, before in level])) for level in levels]
