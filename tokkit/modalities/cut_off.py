"""Whether a video or sound file is shorter than it says: FFmpeg and libsndfile play what is there of such files without a word.

FLAC's header counts its frames, which the reader compares. MP3 states no length that could be relied on.
"""

from __future__ import annotations

from typing import BinaryIO, Literal

_SEGMENT = b"\x18\x53\x80\x67"
_UNKNOWN = 0x7FFF0000
"""Programs that write to a pipe put numbers from here on (FFmpeg 2^32 - 1, SoX a little below 2^31, arecord 2^31) for a length unknown."""
_LARGEST_PAGE = 27 + 255 + 255 * 255


def missing_bytes(stream: BinaryIO) -> int:
    """How many bytes it claims beyond the end of the file; 0 for other formats.

    Of MP4 the boxes claim them, of AVI the RIFF chunk, of Matroska the segment; of WAV and AIFF the samples, of OGG the last page.

    The stream is at its start afterwards.
    """
    stream.seek(0, 2)
    length = stream.tell()
    head = _at(stream, 0, 12)
    if head[4:8] == b"ftyp":
        end = _end_of_boxes(stream, length)
    elif head[:4] == b"RIFF" and head[8:] == b"WAVE":
        end = _end_of_chunk(stream, length, b"data", "little")
    elif head[:4] == b"RIFF":
        end = 8 + int.from_bytes(head[4:8], "little")
    elif head[:4] == b"\x1a\x45\xdf\xa3":
        end = _end_of_segment(stream, length)
    elif head[:4] == b"FORM" and head[8:] in (b"AIFF", b"AIFC"):
        end = _end_of_chunk(stream, length, b"SSND", "big")
    elif head[:4] == b"OggS":
        end = _end_of_pages(stream, length)
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


def _end_of_chunk(stream: BinaryIO, length: int, wanted: bytes, order: Literal["little", "big"]) -> int:
    """Where the chunk of the samples says that it ends; 0 where it says nothing, or is not there."""
    position = 12
    while position + 8 <= length:
        head = _at(stream, position, 8)
        size = int.from_bytes(head[4:], order)
        if head[:4] == wanted:
            return position + 8 + size if size < _UNKNOWN else 0
        position += 8 + size + size % 2
    return 0


def _end_of_pages(stream: BinaryIO, length: int) -> int:
    """Where the last page ends: its header tells the lengths of its segments."""
    start = max(0, length - _LARGEST_PAGE)
    tail = _at(stream, start, length - start)
    page = tail.rfind(b"OggS\0")
    if page < 0:
        return 0
    table = page + 27
    segments = tail[table - 1] if table <= len(tail) else 0
    return start + table + segments + sum(tail[table : table + segments])


def _at(stream: BinaryIO, position: int, count: int) -> bytes:
    stream.seek(position)
    return stream.read(count)
