"""Whether a sound file is shorter than it says: libsndfile plays what is there of such files without a word.

FLAC's header counts its frames, which the reader compares. MP3 states no length that could be relied on.
"""

from __future__ import annotations

from typing import BinaryIO, Literal

_UNKNOWN = 0x7FFF0000
"""Programs that write to a pipe put numbers from here on (FFmpeg 2^32 - 1, SoX a little below 2^31, arecord 2^31) for a length unknown."""
_LARGEST_PAGE = 27 + 255 + 255 * 255


def missing_bytes(stream: BinaryIO) -> int:
    """How many bytes the samples of a WAV or AIFF file, or the last page of an OGG file, claim beyond its end; 0 for other formats.

    The stream is at its start afterwards.
    """
    stream.seek(0, 2)
    length = stream.tell()
    head = _at(stream, 0, 12)
    if head[:4] == b"RIFF" and head[8:] == b"WAVE":
        end = _end_of_chunk(stream, length, b"data", "little")
    elif head[:4] == b"FORM" and head[8:] in (b"AIFF", b"AIFC"):
        end = _end_of_chunk(stream, length, b"SSND", "big")
    elif head[:4] == b"OggS":
        end = _end_of_pages(stream, length)
    else:
        end = 0
    stream.seek(0)
    return max(0, end - length)


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
