"""Video of any length in bounded memory: the very codes of the whole, from pieces of time; causal networks carry a state between them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from tokkit.errors import InputError
from tokkit.modalities.padding import crop
from tokkit.modalities.video import Video
from tokkit.networks.causal import CausalDecoder, CausalEncoder
from tokkit.streaming import Stream
from tokkit.tokenizer import Tokenizer
from tokkit.tokens import Tokens

PIECE_PIXELS = 1 << 22
"""Pixels of all frames of a piece together, about: 64 frames of 256 x 256."""
PIECES = 4
"""Videos of more pieces than this are worked on piece by piece without being asked."""


def can_chunk(tokenizer: Tokenizer) -> bool:
    """Whether both networks and the quantizer allow it."""
    quantizer = tokenizer.quantizer
    causal = isinstance(tokenizer.encoder, CausalEncoder) and isinstance(tokenizer.decoder, CausalDecoder)
    return causal and isinstance(tokenizer.modality, Video) and not quantizer.variable_length and quantizer.num_codes(2) == 2


def is_long(tokenizer: Tokenizer, path: str | Path) -> bool:
    """Whether a file is better encoded in pieces: it can be, and has several, or does not say. One that cannot be read is not long."""
    if not can_chunk(tokenizer):
        return False
    try:
        about = _modality(tokenizer).about(path)
    except InputError:
        return False
    return about.frames is None or about.frames * about.size[0] * about.size[1] > PIECES * PIECE_PIXELS


def are_long(tokenizer: Tokenizer, tokens: Tokens) -> bool:
    """Whether tokens are better decoded in pieces."""
    if not can_chunk(tokenizer):
        return False
    frames, height, width = tokenizer.decoder.output_size(tokens.grid)
    return frames * height * width > PIECES * PIECE_PIXELS


@torch.inference_mode()
def encode_file(
    tokenizer: Tokenizer, path: str | Path, *, pixels: int | None = None, levels: int | None = None, name: str | None = None
) -> Tokens:
    """Tokens of a video file, or folder of frames, read and encoded piece by piece: equal to `tokenizer.encode(path)`.

    Args:
        tokenizer: of video, with causal networks.
        path: the file.
        pixels: of a piece; `PIECE_PIXELS` when not given, and at least one stride of frames.
        levels: leading codebooks to keep, where the quantizer is residual.
        name: of the sample; that of the file when not given.

    Raises:
        InputError: the file cannot be read, or the tokenizer needs all of a video at once.
    """
    blocks, extras = _modality(tokenizer).blocks(path)
    stride = tokenizer.encoder.strides[0]
    codes, frames, size, grid = [], 0, (0, 0), (0, 0)
    with Stream.of(tokenizer, levels=levels) as stream:
        for block in blocks:
            size = (block.shape[2], block.shape[3])
            frames += block.shape[1]
            for part in block.split(_frames(size, stride, pixels), 1):
                codes.append(stream.encode(part).cpu())
        codes.append(stream.flush().cpu())
    joined = torch.cat(codes, 1)
    padded = tokenizer.encoder.padded_size((frames, *size))
    grid = (padded[1] // tokenizer.encoder.strides[1], padded[2] // tokenizer.encoder.strides[2])
    header = tokenizer.header(levels=levels)
    return Tokens(
        codes=joined,
        codebook_sizes=header.codebook_sizes,
        grid=(joined.shape[1] // (grid[0] * grid[1]), *grid),
        modality=header.modality,
        tokenizer=header.tokenizer,
        fingerprint=header.fingerprint,
        sizes=((frames, *size),),
        names=(Path(path).stem if name is None else name,),
        sample_rate=header.sample_rate,
        extra_fields=header.extra_fields,
        extras=(extras,),
    )


@torch.inference_mode()
def decode_file(tokenizer: Tokenizer, tokens: Tokens, path: str | Path, *, pixels: int | None = None, force: bool = False) -> None:
    """Decode the tokens of one video piece by piece into a file: what `tokenizer.decode` would give, at its frame rate.

    Args:
        tokenizer: that made them.
        tokens: of one sample.
        path: as in `Video.write`.
        pixels: of a piece.
        force: replace the file.

    Raises:
        InputError: several samples, the file exists and `force` is not set, or the tokenizer needs all of a video at once.
        TokenFileError: the tokens are another tokenizer's.
    """
    modality = _modality(tokenizer)
    if len(tokens) != 1:
        raise InputError(f"decode_file takes one sample and got {len(tokens)}")
    with modality.writer(path, force=force, frame_rate=tokens.extras[0][0] if tokens.extras[0] else None) as put:
        for values in decode_pieces(tokenizer, tokens, pixels=pixels):
            put(values)


@torch.inference_mode()
def decode_pieces(tokenizer: Tokenizer, tokens: Tokens, *, pixels: int | None = None) -> Iterator[Tensor]:
    """Frames [C, n, H, W] in the public range, on the CPU, of the tokens of one video, at its original size."""
    tokenizer.check_header(tokens.header)
    whole = tokenizer.decoder.output_size(tokens.grid)
    left, height, width = tokens.sizes[0] or whole
    cells = tokens.grid[1:]
    step = tokenizer.decoder.strides[0]
    with Stream.of(tokenizer) as stream:
        for codes in tokens.codes.split(_frames(whole[1:], step, pixels) // step * cells[0] * cells[1], 1):
            values = crop(stream.decode(codes, cells=cells)[0], (height, width))[:, :left].cpu()
            left -= values.shape[1]
            yield values


def _modality(tokenizer: Tokenizer) -> Video:
    if not isinstance(tokenizer.modality, Video) or not can_chunk(tokenizer):
        raise InputError(
            f"{tokenizer.name!r} cannot work in pieces: it needs the modality video, causal networks (causal3d) and a quantizer of single "
            "latents"
        )
    return tokenizer.modality


def _frames(size: tuple[int, ...], stride: int, pixels: int | None) -> int:
    """Of a piece: a multiple of the stride in time."""
    wanted = (PIECE_PIXELS if pixels is None else pixels) // (size[0] * size[1])
    return max(1, wanted // stride) * stride
