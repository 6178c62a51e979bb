"""Whether a video file is shorter than it says: FFmpeg plays what is there of such files without a word."""

from __future__ import annotations

from typing import BinaryIO

_SEGMENT = b"\x18\x53\x80\x67"


def missing_bytes(stream: BinaryIO) -> int:
    """How many bytes its MP4 boxes, RIFF (AVI) chunk or Matroska segment claim beyond the end of the file; 0 for other formats.

    The stream is at its start afterwards.
    """
    stream.seek(0, 2)
    length = stream.tell()
    head = _at(stream, 0, 12)
    if head[4:8] == b"ftyp":
        end = _end_of_boxes(stream, length)
    elif head[:4] == b"RIFF":
        end = 8 + int.from_bytes(head[4:8], "little")
    elif head[:4] == b"\x1a\x45\xdf\xa3":
        end = _end_of_segment(stream, length)
    else:
        end = 0
    stream.seek(0)
    return max(0, end - length)


def _end_of_boxes(stream: BinaryIO, length: int) -> int:
    position = 0
    while position + 8 <= length:
        head = _at(stream, position, 16)
        size = int.from_bytes(head[:4], "big")
        if size == 1:
            size = int.from_bytes(head[8:16], "big")
        if size < 8:  # 0: to the end of the file; less: damage, which the decoder will find
            return length
        position += size
    return position


def _end_of_segment(stream: BinaryIO, length: int) -> int:
    """Behind the EBML header stands one segment, whose size may be unknown (all ones)."""
    width, size = _number(_at(stream, 4, 8))
    start = 4 + width + size
    if start + 12 > length or _at(stream, start, 4) != _SEGMENT:
        return length
    width, size = _number(_at(stream, start + 4, 8))
    return length if size == (1 << 7 * width) - 1 else start + 4 + width + size


def _number(data: bytes) -> tuple[int, int]:
    """EBML's variable-length integer: its own bytes, and its value."""
    width = 9 - data[0].bit_length()
    return width, int.from_bytes(data[:width], "big") & ((1 << 7 * width) - 1)


def _at(stream: BinaryIO, position: int, count: int) -> bytes:
    stream.seek(position)
    return stream.read(count)
