"""The last bytes of a token file: where each sample begins. See docs/token-file.md."""

import zlib
from mmap import mmap

import numpy as np

from tokkit.tokens.cursor import Malformed

INDEX_MARKER = b"\xff"  # no sample begins with this byte
_END_MAGIC = b"tokx"
_TRAILER_BYTES = 12  # number of samples, checksum, end magic


def encode_index(lengths: list[int]) -> bytes:
    """The index of samples that take `lengths` bytes each, in order."""
    body = INDEX_MARKER + np.array(lengths, dtype="<u4").tobytes() + len(lengths).to_bytes(4, "little")
    return body + zlib.crc32(body).to_bytes(4, "little") + _END_MAGIC


def decode_index(buffer: bytes | mmap, first: int) -> np.ndarray:
    """Where the samples are, int64 `[samples + 1]`: sample i is in [offsets[i], offsets[i + 1]).

    Args:
        buffer: the whole file.
        first: offset of the first sample, where the header ends.

    Raises:
        Malformed: the index is missing or damaged.
    """
    size = len(buffer)
    trailer = size - _TRAILER_BYTES
    if trailer <= first or buffer[size - 4 :] != _END_MAGIC:
        raise Malformed(size, "the file has no index at its end: it was cut short, or is still being written")
    count = int.from_bytes(buffer[trailer : trailer + 4], "little")
    start = trailer - 4 * count - 1
    if start < first:
        raise Malformed(trailer, f"an index of {count} samples does not fit in the file")
    body = buffer[start : trailer + 4]
    if buffer[trailer + 4 : trailer + 8] != zlib.crc32(body).to_bytes(4, "little"):
        raise Malformed(trailer + 4, "the checksum of the index does not match")
    lengths = np.frombuffer(body, dtype="<u4", count=count, offset=1)
    offsets = np.zeros(count + 1, dtype=np.int64)
    np.cumsum(lengths, out=offsets[1:])
    offsets += first
    if body[:1] != INDEX_MARKER or offsets[-1] != start:
        raise Malformed(start, "the samples of the index do not fill the file")
    return offsets
