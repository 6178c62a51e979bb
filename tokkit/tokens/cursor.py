"""Bounds-checked reading of bytes, and the variable-length integers of the token file. Knows no format.

Every read is checked against the end of the buffer before anything is allocated, so a hostile length costs nothing.
"""

from mmap import mmap

VARINT_MAX = 2**63 - 1
_VARINT_BYTES = 9  # 9 groups of 7 bits hold 63 bits


class Malformed(Exception):
    """Bytes that do not follow the format. Caught where the file and the sample are known, never by users.

    Args:
        offset: byte of the buffer at which the problem was found.
        problem: what is wrong, without the place.
    """

    def __init__(self, offset: int, problem: str):
        self.offset = offset
        self.problem = problem
        super().__init__(f"byte {offset}: {problem}")


class Cursor:
    """A position in a bytes-like buffer that moves forward as values are taken.

    Args:
        buffer: what to read from (`bytes` or `mmap`); slices of it are copied, never kept.
        position: first byte to read.
        end: byte after the last that may be read.
    """

    def __init__(self, buffer: bytes | mmap, position: int, end: int):
        self._buffer = buffer
        self.position = position
        self.end = end

    def take(self, count: int, what: str) -> bytes:
        """The next `count` bytes. Raises Malformed when fewer are left; nothing is allocated then."""
        if count > self.end - self.position:
            left = self.end - self.position
            raise Malformed(self.position, f"{what} needs {count} bytes, but only {left} are left")
        start = self.position
        self.position += count
        return self._buffer[start : self.position]

    def byte(self, what: str) -> int:
        """The next byte as an integer in [0, 255]."""
        return self.take(1, what)[0]

    def varint(self, what: str) -> int:
        """The next LEB128 integer in [0, 2^63). Raises Malformed when it is too long or not in its shortest form."""
        start = self.position
        value = 0
        for shift in range(0, 7 * _VARINT_BYTES, 7):
            byte = self.byte(what)
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                if byte == 0 and shift > 0:
                    raise Malformed(start, f"{what} is not in its shortest form")
                return value
        raise Malformed(start, f"{what} is longer than {_VARINT_BYTES} bytes")

    def text(self, what: str) -> str:
        """The next string: its length in bytes as a varint, then UTF-8 (other bytes become surrogate escapes)."""
        start = self.position
        raw = self.take(self.varint(f"the length of {what}"), what)
        if b"\0" in raw:
            raise Malformed(start, f"{what} contains a zero byte")
        return raw.decode("utf-8", "surrogateescape")


def varint(value: int) -> bytes:
    """`value` in [0, 2^63) as LEB128: 7 bits a byte, low bits first, the high bit set on all bytes but the last."""
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def text(value: str) -> bytes:
    """`value` as its length in bytes (varint) and UTF-8. Raises UnicodeEncodeError for a lone surrogate that no byte gave."""
    raw = value.encode("utf-8", "surrogateescape")
    return varint(len(raw)) + raw
