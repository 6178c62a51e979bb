"""The codes of samples as packed bits, and the checks that every code is one of its codebook. See docs/token-file.md."""

import numpy as np

from tokkit.errors import InputError
from tokkit.ops.bitpack.codec import pack_rows, unpack_bits_numpy
from tokkit.tokens.header import TokenHeader

MAX_FREE_CODES = 2**20  # of a sample; codes of one-entry codebooks take no bits, so the file's length does not bound them


def payload_bytes(header: TokenHeader, positions: int) -> int:
    """Bytes that the codes of a sample of `positions` take."""
    return (positions * header.bits_per_position + 7) // 8


def pack_codes(header: TokenHeader, codes: np.ndarray) -> np.ndarray:
    """Pack the codes of samples of one grid.

    Args:
        header: gives the codebook sizes.
        codes: int64 `[B, N, Q]`.

    Returns:
        uint8 `[B, payload_bytes(header, N)]`.

    Raises:
        InputError: a code is outside its codebook, or a sample has too many codes that take no bits.
    """
    batch, positions, levels = codes.shape
    if positions * header.free_levels > MAX_FREE_CODES:
        raise InputError(f"{positions} positions of {header.free_levels} one-entry codebooks are over {MAX_FREE_CODES} codes")
    wrong = _first_outside(codes, header.codebook_sizes)
    if wrong:
        raise InputError(f"sample {wrong[0]}: {wrong[1]}")
    return pack_rows(codes.reshape(batch, positions * levels), header.widths)


def unpack_codes(header: TokenHeader, packed: bytes, positions: int) -> np.ndarray:
    """The codes of one sample, int64 `[N, Q]`.

    Raises:
        InputError: a code is outside its codebook, or the bits after the last are not zero.
    """
    levels = len(header.codebook_sizes)
    codes = unpack_bits_numpy(packed, header.widths, positions * levels).reshape(positions, levels)
    wrong = _first_outside(codes[None], header.codebook_sizes)
    if wrong:
        raise InputError(wrong[1])
    return codes


def _first_outside(codes: np.ndarray, codebook_sizes: tuple[int, ...]) -> tuple[int, str] | None:
    """The sample of the first code of `[B, N, Q]` that is not in [0, K_q), and a sentence about it; None when all are."""
    outside = (codes < 0) | (codes >= np.array(codebook_sizes, dtype=np.int64))
    if not outside.any():
        return None
    sample, position, level = (int(i) for i in np.argwhere(outside)[0])
    code, size = int(codes[sample, position, level]), codebook_sizes[level]
    return sample, f"code {code} at position {position}, level {level} is outside its codebook of {size}"
