"""One sample of a token file as bytes: name, grid, size, extra numbers, bit-packed codes, checksum. See docs/token-file.md."""

import math
import struct
import zlib
from dataclasses import dataclass
from mmap import mmap

import numpy as np

from tokkit.errors import InputError
from tokkit.ops.bitpack.codec import pack_bits_numpy, unpack_bits_numpy
from tokkit.tokens.cursor import VARINT_MAX, Cursor, Malformed, text, varint
from tokkit.tokens.header import TokenHeader, check_text

MAX_RANK = 8
MAX_FREE_CODES = 2**20  # codes of a sample that take no bits
MAX_RECORD_BYTES = 2**32 - 1  # the index holds lengths of 4 bytes
_CHECKSUM_BYTES = 4


@dataclass(frozen=True)
class SampleInfo:
    """Everything a token file says about one sample except its codes.

    Args:
        name: the sample's name, usually its relative path.
        grid: shape of the latents, (H, W) | (T,) | (T, H, W) | ().
        positions: N of the codes `[N, Q]`; not always the product of the grid.
        size: original size before padding, (H, W) | (T,) | ...
        extras: one number for each of the header's extra fields.
        payload: offset in the file of the packed codes.
        end: offset of the first byte after the sample.
    """

    name: str
    grid: tuple[int, ...]
    positions: int
    size: tuple[int, ...]
    extras: tuple[float, ...]
    payload: int
    end: int


def encode_record(
    header: TokenHeader, name: str, grid: tuple[int, ...], size: tuple[int, ...], extras: tuple[float, ...], codes: np.ndarray
) -> bytes:
    """One sample as bytes.

    Args:
        header: what the file's samples share.
        name: of the sample.
        grid: at most 8 integers in [0, 2^63).
        size: at most 8 integers in [0, 2^63).
        extras: one finite number for each of the header's extra fields, stored as float32.
        codes: int64 `[N, Q]`, each in [0, K_q).

    Raises:
        InputError: a value is outside what the file can hold.
    """
    _check_sample(header, name, grid, size, extras, codes)
    positions = len(codes)
    head = b"".join(
        (
            bytes([len(grid) | len(size) << 4]),
            text(name),
            *map(varint, grid),
            varint(0 if positions == math.prod(grid) else positions + 1),
            *map(varint, size),
            struct.pack(f"<{len(header.extra_fields)}f", *extras),
        )
    )
    record = head + pack_bits_numpy(codes.reshape(-1), _tile(header, positions))
    if len(record) + _CHECKSUM_BYTES > MAX_RECORD_BYTES:
        raise InputError(f"sample {name!r} takes {len(record)} bytes; the token file holds less than 4 GiB a sample")
    return record + zlib.crc32(record).to_bytes(_CHECKSUM_BYTES, "little")


def decode_info(header: TokenHeader, buffer: bytes | mmap, start: int, end: int) -> SampleInfo:
    """What the record that begins at `start` says about its sample, without looking at codes or checksum.

    Args:
        header: the file's.
        buffer: the file.
        start: offset of the record.
        end: the record must end at or before this offset.

    Raises:
        Malformed: the bytes are no record that fits before `end`.
    """
    cursor = Cursor(buffer, start, end)
    ranks = cursor.byte("the ranks of a sample")
    grid_rank, size_rank = ranks & 15, ranks >> 4
    if grid_rank > MAX_RANK or size_rank > MAX_RANK:
        raise Malformed(start, f"no sample begins with byte {ranks:#04x}")
    name = cursor.text("the name")
    grid = tuple(cursor.varint("the grid") for _ in range(grid_rank))
    at_positions = cursor.position
    stored = cursor.varint("the number of positions")
    positions = stored - 1 if stored else math.prod(grid)
    size = tuple(cursor.varint("the size") for _ in range(size_rank))
    extras = struct.unpack(f"<{len(header.extra_fields)}f", cursor.take(4 * len(header.extra_fields), "the extra numbers"))
    if not all(map(math.isfinite, extras)):
        raise Malformed(cursor.position, f"the extra numbers {extras} are not all finite")
    if positions * header.free_levels > MAX_FREE_CODES:
        raise Malformed(at_positions, f"{positions} positions hold too many codes that take no bits")
    payload = cursor.position
    payload_bytes = (positions * header.bits_per_position + 7) // 8
    if payload_bytes + _CHECKSUM_BYTES > end - payload:
        left = end - payload
        raise Malformed(payload, f"{payload_bytes} bytes of codes and a checksum do not fit in the {left} bytes left")
    return SampleInfo(name, grid, positions, size, extras, payload, payload + payload_bytes + _CHECKSUM_BYTES)


def check_record(buffer: bytes | mmap, start: int, end: int) -> None:
    """Raises Malformed when the checksum of the record in [start, end) does not match its bytes."""
    if end - start < _CHECKSUM_BYTES:
        raise Malformed(start, f"{end - start} bytes are too few for a sample")
    record = buffer[start : end - _CHECKSUM_BYTES]
    if buffer[end - _CHECKSUM_BYTES : end] != zlib.crc32(record).to_bytes(_CHECKSUM_BYTES, "little"):
        raise Malformed(end - _CHECKSUM_BYTES, "the checksum does not match")


def decode_codes(header: TokenHeader, buffer: bytes | mmap, info: SampleInfo) -> np.ndarray:
    """The codes of a sample, int64 `[N, Q]`. Raises Malformed for a code outside its codebook or stray bits at the end."""
    packed = buffer[info.payload : info.end - _CHECKSUM_BYTES]
    used = info.positions * header.bits_per_position % 8
    if used and packed[-1] >> used:
        raise Malformed(info.end - _CHECKSUM_BYTES - 1, "the bits after the last code are not zero")
    codes = unpack_bits_numpy(packed, _tile(header, info.positions)).reshape(info.positions, len(header.codebook_sizes))
    wrong = _first_outside(codes, header.codebook_sizes)
    if wrong:
        raise Malformed(info.payload, wrong)
    return codes


def _tile(header: TokenHeader, positions: int) -> np.ndarray:
    return np.tile(np.array(header.widths, dtype=np.int64), positions)


def _first_outside(codes: np.ndarray, codebook_sizes: tuple[int, ...]) -> str | None:
    """A sentence about the first code that is not in [0, K_q); None when all are."""
    outside = (codes < 0) | (codes >= np.array(codebook_sizes, dtype=np.int64))
    if not outside.any():
        return None
    position, level = (int(i) for i in np.argwhere(outside)[0])
    code, size = int(codes[position, level]), codebook_sizes[level]
    return f"code {code} at position {position}, level {level} is outside its codebook of {size}"


def _check_sample(
    header: TokenHeader, name: str, grid: tuple[int, ...], size: tuple[int, ...], extras: tuple[float, ...], codes: np.ndarray
) -> None:
    check_text("name", name)
    for what, numbers in (("grid", grid), ("size", size)):
        if len(numbers) > MAX_RANK or not all(0 <= number <= VARINT_MAX for number in numbers):
            raise InputError(f"sample {name!r}: {what} must be at most {MAX_RANK} integers in [0, 2^63), got {numbers}")
    if codes.ndim != 2 or codes.shape[1] != len(header.codebook_sizes):
        levels = len(header.codebook_sizes)
        raise InputError(f"sample {name!r}: codes must be [N, {levels}], got {list(codes.shape)}")
    if len(codes) * header.free_levels > MAX_FREE_CODES:
        raise InputError(f"sample {name!r}: more than {MAX_FREE_CODES} codes of codebooks with one entry")
    wrong = _first_outside(codes, header.codebook_sizes)
    if wrong:
        raise InputError(f"sample {name!r}: {wrong}")
