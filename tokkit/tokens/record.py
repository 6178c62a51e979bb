"""One sample of a token file as bytes: name, grid, size, extra numbers, bit-packed codes, checksum. See docs/token-file.md."""

import math
import struct
import zlib
from dataclasses import dataclass
from mmap import mmap

from tokkit.errors import InputError
from tokkit.tokens.cursor import VARINT_MAX, Cursor, Malformed, text, varint
from tokkit.tokens.header import TokenHeader, check_text
from tokkit.tokens.payload import MAX_FREE_CODES, payload_bytes

MAX_RANK = 8
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
        payload_end: offset of the first byte after them.
    """

    name: str
    grid: tuple[int, ...]
    positions: int
    size: tuple[int, ...]
    extras: tuple[float, ...]
    payload: int
    payload_end: int

    @property
    def end(self) -> int:
        """Offset of the first byte after the sample: its checksum follows the codes."""
        return self.payload_end + _CHECKSUM_BYTES


def encode_record(
    name: str, grid: tuple[int, ...], positions: int, size: tuple[int, ...], extras: tuple[float, ...], packed: bytes
) -> bytes:
    """One sample as bytes.

    Args:
        name: of the sample.
        grid: at most 8 integers in [0, 2^63).
        positions: N of the codes.
        size: at most 8 integers in [0, 2^63).
        extras: one finite number for each of the header's extra fields, stored as float32.
        packed: the codes, as `pack_codes` gives them.

    Raises:
        InputError: a value is outside what the file can hold.
    """
    check_text("name", name)
    for what, numbers in (("grid", grid), ("size", size)):
        if len(numbers) > MAX_RANK or not all(0 <= number <= VARINT_MAX for number in numbers):
            raise InputError(f"sample {name!r}: {what} must be at most {MAX_RANK} integers in [0, 2^63), got {numbers}")
    head = (
        bytes([len(grid) | len(size) << 4]),
        text(name),
        *map(varint, grid),
        varint(0 if positions == math.prod(grid) else positions + 1),
        *map(varint, size),
        struct.pack(f"<{len(extras)}f", *extras),
    )
    record = b"".join((*head, packed))
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
    needed = payload_bytes(header, positions)
    left = end - payload
    if needed + _CHECKSUM_BYTES > left:
        raise Malformed(payload, f"{needed} bytes of codes and a checksum do not fit in the {left} bytes left")
    return SampleInfo(name, grid, positions, size, extras, payload, payload + needed)


def check_record(buffer: bytes | mmap, start: int, end: int) -> None:
    """Raises Malformed when the checksum of the record in [start, end) does not match its bytes."""
    if end - start < _CHECKSUM_BYTES:
        raise Malformed(start, f"{end - start} bytes are too few for a sample")
    record = buffer[start : end - _CHECKSUM_BYTES]
    if buffer[end - _CHECKSUM_BYTES : end] != zlib.crc32(record).to_bytes(_CHECKSUM_BYTES, "little"):
        raise Malformed(end - _CHECKSUM_BYTES, "the checksum does not match")
