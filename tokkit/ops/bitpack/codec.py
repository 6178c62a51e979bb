"""The bit layout of token files in numpy alone: integers of stated widths, lsb first, in one contiguous stream.

Knows nothing about torch, samples or files: `tokkit.tokens` calls it with the codes of one sample in row-major order. The i-th
value of `w_i` bits occupies the stream's bits `[sum(w_:i), sum(w_:i+1))`, its least significant bit first; stream bit `b` is
bit `b % 8` (value `1 << b % 8`) of byte `b // 8`; zero bits fill the last byte.
"""

from collections.abc import Sequence

import numpy as np

from tokkit.errors import InputError

MAX_WIDTH = 63
_VALUES_A_CHUNK = 1 << 18

Widths = int | Sequence[int] | np.ndarray


def width_of(codebook_size: int) -> int:
    """Bits that one code of a codebook takes in a token file: ceil(log2 K), and 0 for K = 1."""
    if codebook_size < 1:
        raise InputError(f"a codebook has at least one entry, got {codebook_size}")
    return (int(codebook_size) - 1).bit_length()


def pack_bits_numpy(values: np.ndarray, widths: Widths) -> bytes:
    """Pack non-negative integers into a contiguous bitstream.

    Args:
        values: `[M]` integers, value i in `[0, 2**width_i)`.
        widths: bits of each value, 0 to 63: one int for all, or `[Q]` with Q dividing M, used cyclically (so `[M]` works too).

    Returns:
        `ceil(sum(widths) / 8)` bytes, lsb first, zero-padded.

    Raises:
        InputError: a value does not fit its width, or the widths do not fit the values.
    """
    values = np.asarray(values)
    if values.ndim != 1:
        raise InputError(f"pack_bits_numpy takes a 1-D array, got shape {values.shape}")
    return pack_rows(values[None], widths).tobytes()


def unpack_bits_numpy(buffer: bytes | bytearray | memoryview | np.ndarray, widths: Widths, count: int | None = None) -> np.ndarray:
    """Undo `pack_bits_numpy`.

    Args:
        buffer: exactly the packed bytes.
        widths: as given to `pack_bits_numpy`.
        count: number of values M; needed where `widths` is an int or one period of a cycle, else the length of `widths`.

    Returns:
        `[M]` int64.

    Raises:
        InputError: the buffer has another length than the widths imply, or its padding bits are not zero.
    """
    data = buffer if isinstance(buffer, np.ndarray) else np.frombuffer(buffer, dtype=np.uint8)
    if data.ndim != 1 or data.dtype != np.uint8:
        raise InputError(f"unpack_bits_numpy takes bytes, got an array of shape {data.shape} and dtype {data.dtype}")
    if count is None:
        if np.ndim(widths) == 0:
            raise InputError("one width for all values needs a count, got none")
        count = np.size(widths)
    return unpack_rows(data[None], widths, count)[0]


def pack_rows(values: np.ndarray, widths: Widths) -> np.ndarray:
    """`pack_bits_numpy` for `[R, M]`: every row is its own stream. Returns uint8 `[R, ceil(bits / 8)]`."""
    rows, count = values.shape
    if not np.issubdtype(values.dtype, np.integer):
        raise InputError(f"only integers can be packed, got {values.dtype}")
    width = expand_widths(widths, count)
    _check_range(values, width)
    total = int(width.sum())
    if total == 0 or rows == 0:
        return np.zeros((rows, -(-total // 8)), dtype=np.uint8)
    if (width == width[0]).all() and width[0] in (8, 16, 32):
        narrow = np.ascontiguousarray(values, dtype=f"<u{width[0] // 8}")
        return narrow.view(np.uint8).reshape(rows, -1)
    if (width == 1).all():
        return np.packbits(values.astype(np.uint8), axis=1, bitorder="little")
    words = np.zeros((rows, -(-total // 64)), dtype=np.uint64)
    ends = np.cumsum(width)
    for start, stop, first, last in _chunks(rows, count):
        part = slice(start, stop)
        kept = np.flatnonzero(width[part])
        if not kept.size:
            continue
        offset = (ends[part] - width[part])[kept]
        index, shift = offset >> 6, (offset & 63).astype(np.uint64)
        value = values[first:last, part][:, kept].astype(np.uint64)
        # Widths are at most 63, so every 64-bit word up to the last has a value that starts in it: sums over runs are ors.
        run = np.flatnonzero(np.diff(index, prepend=-1))
        words[first:last, index[run]] |= np.bitwise_or.reduceat(value << shift, run, axis=1)
        over = np.flatnonzero(shift.astype(np.int64) + width[part][kept] > 64)
        if over.size:
            words[first:last, index[over] + 1] |= value[:, over] >> (np.uint64(64) - shift[over])
    packed = words.astype("<u8", copy=False).view(np.uint8).reshape(rows, -1)
    return np.ascontiguousarray(packed[:, : -(-total // 8)])


def unpack_rows(packed: np.ndarray, widths: Widths, count: int) -> np.ndarray:
    """`unpack_bits_numpy` for uint8 `[R, bytes]`: every row is its own stream. Returns int64 `[R, M]`."""
    width = expand_widths(widths, count)
    rows, given = packed.shape
    total = int(width.sum())
    needed = -(-total // 8)
    if given != needed:
        raise InputError(f"{count} values of {total} bits take {needed} bytes, got {given}")
    if total % 8 and rows and (packed[:, -1] >> (total % 8)).any():
        raise InputError("the padding bits after the last value are not zero: wrong widths, or damaged data")
    if total == 0 or rows == 0:
        return np.zeros((rows, count), dtype=np.int64)
    if (width == width[0]).all() and width[0] in (8, 16, 32):
        return np.ascontiguousarray(packed).view(f"<u{width[0] // 8}").astype(np.int64)
    if (width == 1).all():
        return np.unpackbits(packed, axis=1, count=count, bitorder="little").astype(np.int64)
    words = np.zeros((rows, -(-needed // 8) + 2), dtype="<u8")  # a value of no bits may begin behind the last word, and looks one further
    words.view(np.uint8).reshape(rows, -1)[:, :needed] = packed
    out = np.empty((rows, count), dtype=np.int64)
    ends = np.cumsum(width)
    for start, stop, first, last in _chunks(rows, count):
        part = slice(start, stop)
        offset = ends[part] - width[part]
        index, shift = offset >> 6, (offset & 63).astype(np.uint64)
        mask = (np.uint64(1) << width[part].astype(np.uint64)) - np.uint64(1)
        low = words[first:last, index] >> shift
        # A shift by 64 is undefined: shift the next word by 63 - shift, then once more.
        high = (words[first:last, index + 1] << (np.uint64(63) - shift)) << np.uint64(1)
        out[first:last, part] = ((low | high) & mask).view(np.int64)
    return out


def expand_widths(widths: Widths, count: int) -> np.ndarray:
    """The width of each of `count` values, int64 `[count]`; checks range and period."""
    width = np.atleast_1d(np.asarray(widths, dtype=np.int64))
    if width.ndim != 1 or (width.size == 0 and count) or (width.size and count % width.size):
        raise InputError(f"{count} values need one width, or a number of widths that divides {count}, got shape {width.shape}")
    if width.size and (width.min() < 0 or width.max() > MAX_WIDTH):
        raise InputError(f"widths lie in 0..{MAX_WIDTH} bits, got {int(width.min())}..{int(width.max())}")
    return np.tile(width, count // width.size) if count else width[:0]


def _chunks(rows: int, count: int) -> list[tuple[int, int, int, int]]:
    """Blocks of about `_VALUES_A_CHUNK` values, as (first column, last column, first row, last row): bounds the memory."""
    columns = min(count, _VALUES_A_CHUNK)
    height = max(1, _VALUES_A_CHUNK // max(columns, 1))
    return [
        (column, min(column + columns, count), row, min(row + height, rows))
        for row in range(0, rows, height)
        for column in range(0, count, columns)
    ]


def _check_range(values: np.ndarray, width: np.ndarray) -> None:
    if not values.size:
        return
    bad = (values < 0) | ((values >> width) != 0)
    if bad.any():
        row, column = np.argwhere(bad)[0]
        raise InputError(
            f"value {int(values[row, column])} at position {int(column)} does not fit its {int(width[column])} bits "
            f"(0..{(1 << int(width[column])) - 1})"
        )
