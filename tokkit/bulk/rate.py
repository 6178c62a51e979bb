"""From a bitrate to the codebooks that fit into it."""

from __future__ import annotations

import itertools
import math

from tokkit.errors import InputError
from tokkit.tokenizer import Tokenizer


def levels_within(tokenizer: Tokenizer, kbps: float) -> int:
    """The most residual levels whose codes of a second take at most `kbps` thousand bits, at ceil(log2 K) bits a code.

    Raises:
        InputError: the tokenizer is not of sound or not residual, or one level takes more already.
    """
    rate = tokenizer.modality.sample_rate
    if rate is None or not tokenizer.quantizer.variable_levels:
        raise InputError(f"kbps: {tokenizer.name!r} is not a tokenizer of sound with residual levels, so its bitrate is fixed")
    samples = tokenizer.encoder.stride * tokenizer.quantizer.latents_per_token
    bits = itertools.accumulate(math.ceil(math.log2(size)) for size in tokenizer.quantizer.codebook_sizes)
    rates = [rate * total / samples / 1000 for total in bits]
    fitting = sum(level <= kbps for level in rates)
    if not fitting:
        raise InputError(f"kbps={kbps:g}: one level takes {rates[0]:g} already; the levels take {', '.join(f'{r:g}' for r in rates)}")
    return fitting
