"""Sound of any length in bounded memory: the very codes of the whole, from pieces that overlap by as much as the networks look around.

Networks say with an attribute `context` how many frames beside a frame it depends on (`dac`, `vocos`); causal ones (`mimi`) carry a state.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.utils import parametrize

from tokkit.errors import InputError
from tokkit.modalities.audio import Audio
from tokkit.modalities.padding import pad_to_multiple
from tokkit.networks.causal import CausalDecoder, CausalEncoder
from tokkit.prefixes import Cut
from tokkit.streaming import Stream
from tokkit.tokenizer import Tokenizer
from tokkit.tokens import Tokens

SECONDS = 30.0
"""Of sound in a piece, without its overlap."""
PIECES = 4
"""Sounds of more pieces than this are worked on piece by piece without being asked."""


def can_chunk(tokenizer: Tokenizer) -> bool:
    """Whether both networks and the quantizer allow it."""
    if not isinstance(tokenizer.modality, Audio):
        return False
    quantizer = tokenizer.quantizer
    ends = [(tokenizer.encoder, CausalEncoder), (tokenizer.decoder, CausalDecoder)]
    local = all(isinstance(network, causal) or hasattr(network, "context") for network, causal in ends)
    shared = quantizer.latents_per_token
    streams = shared == 1 or not any(isinstance(network, causal) for network, causal in ends)
    single = not quantizer.variable_length and quantizer.num_codes(2 * shared) == 2
    return local and streams and single


def is_long(tokenizer: Tokenizer, path: str | Path) -> bool:
    """Whether a file is better encoded in pieces: it can be, and has several of them. A file that cannot be read is not long."""
    if not can_chunk(tokenizer):
        return False
    modality = _modality(tokenizer)
    try:
        return modality.frames(path) > PIECES * SECONDS * modality.sample_rate
    except InputError:
        return False


def are_long(tokenizer: Tokenizer, tokens: Tokens) -> bool:
    """Whether tokens are better decoded in pieces."""
    return can_chunk(tokenizer) and math.prod(tokens.grid) > PIECES * _frames(tokenizer, SECONDS)


@torch.inference_mode()
def encode_file(
    tokenizer: Tokenizer, path: str | Path, *, seconds: float = SECONDS, levels: int | None = None, name: str | None = None
) -> Tokens:
    """Tokens of a sound file, read and encoded piece by piece: equal to `tokenizer.encode(path)`.

    Memory holds a piece with its overlaps, about a minute of the file, and the codes.

    Args:
        tokenizer: of sound, with networks that look around themselves a bounded way or not ahead at all.
        path: the file; its channels are mixed.
        seconds: of sound in a piece.
        levels: leading codebooks to keep, where the quantizer is residual.
        name: of the sample; that of the file when not given.

    Raises:
        InputError: the file cannot be read, or the tokenizer needs all of a sound at once.
    """
    modality = _modality(tokenizer)
    Cut(levels=levels).check(tokenizer.quantizer, tokenizer.name)
    blocks, extras = modality.blocks(path)
    length = 0

    def counted() -> Iterator[Tensor]:
        nonlocal length
        for block in blocks:
            length += block.shape[-1]
            yield block

    with parametrize.cached():
        codes = torch.cat(list(encode_blocks(tokenizer, counted(), seconds=seconds)), 1)
    header = tokenizer.header(levels=levels)
    return Tokens(
        codes=codes[..., :levels],
        codebook_sizes=header.codebook_sizes,
        grid=(-(-length // tokenizer.encoder.stride),),
        modality=header.modality,
        tokenizer=header.tokenizer,
        fingerprint=header.fingerprint,
        sizes=((length,),),
        names=(Path(path).stem if name is None else name,),
        sample_rate=header.sample_rate,
        extra_fields=header.extra_fields,
        extras=(extras,),
    )


@torch.inference_mode()
def decode_file(tokenizer: Tokenizer, tokens: Tokens, path: str | Path, *, seconds: float = SECONDS, force: bool = False) -> None:
    """Decode the tokens of one sound piece by piece into a file: what `tokenizer.decode` would give.

    Args:
        tokenizer: that made them.
        tokens: of one sample.
        path: a .wav or .flac file.
        seconds: of sound in a piece.
        force: replace the file.

    Raises:
        InputError: several samples, the file exists and `force` is not set, or the tokenizer needs all of a sound at once.
        TokenFileError: the tokens are another tokenizer's.
    """
    modality = _modality(tokenizer)
    if len(tokens) != 1:
        raise InputError(f"decode_file takes one sample and got {len(tokens)}")
    left = tokens.sizes[0][0] if tokens.sizes[0] else math.prod(tokens.grid) * tokenizer.decoder.stride
    with modality.writer(path, force=force) as put, parametrize.cached():
        for values in decode_blocks(tokenizer, tokens, seconds=seconds):
            put(values[:, :left])
            left -= min(left, values.shape[1])


def encode_blocks(tokenizer: Tokenizer, blocks: Iterable[Tensor], *, seconds: float = SECONDS) -> Iterator[Tensor]:
    """Codes [1, n, Q] on the CPU, any n, of a sound that comes as pieces [C, m], any m, in the public range."""
    stride = tokenizer.encoder.stride
    piece = _frames(tokenizer, seconds) * stride
    if isinstance(tokenizer.encoder, CausalEncoder):
        stream = Stream(tokenizer)
        for block in blocks:
            for part in block.split(piece, -1):
                yield stream.encode(part).cpu()
        yield stream.flush().cpu()
        return
    margin, token = _margin(tokenizer, tokenizer.encoder) * stride, stride * tokenizer.quantizer.latents_per_token
    held, lead = torch.zeros(0), 0
    for block in blocks:
        held = torch.cat([held, block], -1) if held.numel() else block
        while held.shape[-1] >= lead + piece + margin:
            yield _codes(tokenizer, held[:, : lead + piece + margin])[:, lead // token : (lead + piece) // token]
            kept = min(margin, lead + piece)
            held, lead = held[:, lead + piece - kept :], kept
    if held.shape[-1] > lead:
        yield _codes(tokenizer, pad_to_multiple(held, stride, rank=1))[:, lead // token :]


def decode_blocks(tokenizer: Tokenizer, tokens: Tokens, *, seconds: float = SECONDS) -> Iterator[Tensor]:
    """Samples [C, n * stride] in the public range, on the CPU, of the tokens of one sound; the last piece is not cut to its size."""
    tokenizer.check_header(tokens.header)
    piece, count, stride = _frames(tokenizer, seconds), math.prod(tokens.grid), tokenizer.decoder.stride
    if isinstance(tokenizer.decoder, CausalDecoder):
        stream = Stream(tokenizer)
        for codes in tokens.codes.split(piece, 1):
            yield tokenizer.modality.restore(stream.decode(codes)[0].cpu(), tokens.extras[0])
        return
    margin, shared = _margin(tokenizer, tokenizer.decoder), tokenizer.quantizer.latents_per_token
    for start in range(0, count, piece):
        stop = min(start + piece, count)
        first, last = max(0, start - margin), min(count, stop + margin)
        part = replace(tokens, codes=tokens.codes[:, first // shared : -(-last // shared)], grid=(last - first,), sizes=((),))
        yield tokenizer.decode_each(part)[0].cpu()[:, (start - first) * stride : (stop - first) * stride]


def _codes(tokenizer: Tokenizer, values: Tensor) -> Tensor:
    """[C, n * stride] -> [1, n, Q] on the CPU."""
    return tokenizer.codes_of(tokenizer.modality.normalize(values[None].to(tokenizer.device, tokenizer.dtype)))[0].cpu()


def _modality(tokenizer: Tokenizer) -> Audio:
    if not isinstance(tokenizer.modality, Audio) or not can_chunk(tokenizer):
        raise InputError(
            f"{tokenizer.name!r} cannot work in pieces: it needs the modality audio, networks that look around a bounded way (dac, vocos) "
            "or not ahead (mimi), and a quantizer of single frames"
        )
    return tokenizer.modality


def _margin(tokenizer: Tokenizer, network: torch.nn.Module) -> int:
    """Frames of whole tokens that a network looks to each side."""
    shared = tokenizer.quantizer.latents_per_token
    return -(-int(network.context) // shared) * shared  # type: ignore[arg-type]


def _frames(tokenizer: Tokenizer, seconds: float) -> int:
    """Frames of whole tokens, at least one."""
    if not 0 < seconds < math.inf:
        raise InputError(f"a piece has a positive number of seconds, got {seconds}")
    shared = tokenizer.quantizer.latents_per_token
    return max(1, round(seconds * _modality(tokenizer).sample_rate / tokenizer.encoder.stride / shared)) * shared
