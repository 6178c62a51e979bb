"""Finding the samples of a token file without its index: of a file that was cut short, or is half written."""

from mmap import mmap

import numpy as np

from tokkit.tokens.cursor import Malformed
from tokkit.tokens.header import TokenHeader
from tokkit.tokens.index import INDEX_MARKER
from tokkit.tokens.record import decode_info


def scan(header: TokenHeader, buffer: bytes | mmap, first: int) -> tuple[np.ndarray, Malformed | None]:
    """Walk from sample to sample. Each says how long it is, so one whose codes are damaged does not end the walk.

    Args:
        header: the file's.
        buffer: the whole file.
        first: offset of the first sample.

    Returns:
        Where the samples are, int64 `[samples + 1]` as from `decode_index`; and what ended the walk before the end of
        the samples, if something did. Checksums are not looked at.
    """
    offsets = [first]
    problem = None
    while offsets[-1] < len(buffer) and buffer[offsets[-1] : offsets[-1] + 1] != INDEX_MARKER:
        try:
            offsets.append(decode_info(header, buffer, offsets[-1], len(buffer)).end)
        except Malformed as error:
            problem = error
            break
    return np.array(offsets, dtype=np.int64), problem
