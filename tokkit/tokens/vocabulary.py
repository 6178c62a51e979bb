"""Codes of several codebooks as ids of one vocabulary, for a language model, and back.

The vocabulary is: the entries of level 0, of level 1, ..., then BOS, then EOS; `offset` shifts all of it (to put it behind
the ids of a text tokenizer). BOS and EOS always have an id, used or not, so a model's embedding does not depend on the
option. A sequence is position-major with the levels inside: (n=0, q=0), (0, 1), ..., (0, Q-1), (1, 0), ...
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tokkit.errors import InputError
from tokkit.tokens.header import check_codebook_sizes

if TYPE_CHECKING:
    import torch

SPECIAL_IDS = 2  # BOS, EOS


def vocabulary_size(codebook_sizes: tuple[int, ...]) -> int:
    """Number of ids: sum of the codebook sizes, and 2 for BOS and EOS."""
    return sum(codebook_sizes) + SPECIAL_IDS


def bos_id(codebook_sizes: tuple[int, ...], offset: int = 0) -> int:
    """The id that begins a sequence."""
    return offset + sum(codebook_sizes)


def eos_id(codebook_sizes: tuple[int, ...], offset: int = 0) -> int:
    """The id that ends a sequence."""
    return offset + sum(codebook_sizes) + 1


def check_vocabulary(codebook_sizes: tuple[int, ...], offset: int) -> None:
    """Raises InputError when the ids, which begin at `offset`, do not fit in an int64."""
    check_codebook_sizes(codebook_sizes)
    if offset < 0 or offset + vocabulary_size(codebook_sizes) > 2**63:
        size = vocabulary_size(codebook_sizes)
        raise InputError(f"a vocabulary of {size} ids from {offset} on does not fit in an int64; use smaller groups")


def flatten_codes(
    codes: torch.Tensor, codebook_sizes: tuple[int, ...], *, bos: bool = False, eos: bool = False, offset: int = 0
) -> torch.Tensor:
    """Codes `[..., N, Q]` as ids `[..., L]` with L = N·Q + bos + eos, both int64.

    Args:
        codes: int64, each in [0, K_q); not checked here, since that would wait for the GPU.
        codebook_sizes: K of each of the Q levels.
        bos: begin each sequence with the BOS id.
        eos: end each sequence with the EOS id.
        offset: id of the first entry of the first codebook.

    Raises:
        InputError: the shapes disagree, or the vocabulary does not fit in an int64.
    """
    import torch

    check_vocabulary(codebook_sizes, offset)
    if codes.ndim < 2 or codes.shape[-1] != len(codebook_sizes):
        raise InputError(f"codes must be [..., N, {len(codebook_sizes)}], got {list(codes.shape)}")
    ids = (codes + _level_starts(codes, codebook_sizes, offset)).flatten(-2)
    edge = (*ids.shape[:-1], 1)
    parts = [ids]
    if bos:
        parts.insert(0, ids.new_full(edge, bos_id(codebook_sizes, offset)))
    if eos:
        parts.append(ids.new_full(edge, eos_id(codebook_sizes, offset)))
    return torch.cat(parts, dim=-1)


def unflatten_codes(ids: torch.Tensor, codebook_sizes: tuple[int, ...], *, offset: int = 0) -> torch.Tensor:
    """The exact inverse of `flatten_codes`: ids `[..., L]` to codes `[..., N, Q]`, both int64.

    A first column of BOS ids and a last column of EOS ids are dropped; they are told by their ids (which an empty batch has
    none of: give it without).

    Raises:
        InputError: the ids are no tensor of int64, the length is not N·Q, or an id is not of the level that its place in the
            sequence asks for.
    """
    import torch

    check_vocabulary(codebook_sizes, offset)
    levels = len(codebook_sizes)
    if not isinstance(ids, torch.Tensor):
        raise InputError(f"ids must be a tensor, int64 [..., L], got {type(ids).__name__}; torch.as_tensor makes one")
    if ids.ndim < 1 or ids.dtype != torch.int64:
        raise InputError(f"ids must be int64 [..., L], got {ids.dtype} {list(ids.shape)}")
    if ids.numel() and bool((ids[..., 0] == bos_id(codebook_sizes, offset)).all()):
        ids = ids[..., 1:]
    if ids.numel() and bool((ids[..., -1] == eos_id(codebook_sizes, offset)).all()):
        ids = ids[..., :-1]
    if ids.shape[-1] % levels:
        raise InputError(f"{ids.shape[-1]} ids do not divide into positions of {levels} levels")
    codes = ids.unflatten(-1, (ids.shape[-1] // levels, levels)) - _level_starts(ids, codebook_sizes, offset)
    outside = (codes < 0) | (codes >= codes.new_tensor(codebook_sizes))
    if bool(outside.any()):
        *sample, position, level = outside.nonzero()[0].tolist()
        index = position * levels + level
        given = int(ids[(*sample, index)])
        first = offset + sum(codebook_sizes[:level])
        raise InputError(
            f"id {given} at {[*sample, index]} (without BOS) is not of level {level}, "
            f"whose ids are {first} to {first + codebook_sizes[level] - 1}"
        )
    return codes


def _level_starts(like: torch.Tensor, codebook_sizes: tuple[int, ...], offset: int) -> torch.Tensor:
    """Id of the first entry of each level, int64 `[Q]`, on the device of `like`."""
    starts = [offset]
    for size in codebook_sizes[:-1]:
        starts.append(starts[-1] + size)
    return like.new_tensor(starts)
