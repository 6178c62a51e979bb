"""A second reader of the token file, written from docs/token-file.md alone: no numpy, no tokkit, no error handling."""

import struct
import zlib
from math import prod


def read(data):
    """A whole file as plain lists and dicts; asserts the magic, the version and every crc."""
    at = 0

    def take(count):
        nonlocal at
        at += count
        return data[at - count : at]

    def varint():
        value = shift = 0
        while True:
            (byte,) = take(1)
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    def string():
        return take(varint()).decode("utf-8", "surrogateescape")

    def check_crc(start):
        assert zlib.crc32(data[start:at]) == int.from_bytes(take(4), "little")

    assert take(9) == b"\x89tok\r\n\x1a\n\x01"
    end = varint() + at
    assert take(1) == b"\0"
    header = {"fingerprint": take(take(1)[0]).hex(), "tokenizer": string(), "modality": string(), "sample_rate": varint()}
    sizes = header["codebook_sizes"] = []
    for _ in range(varint()):
        count, size = varint(), varint()
        sizes += [size] * count
    fields = header["extra_fields"] = [string() for _ in range(varint())]
    assert at == end
    check_crc(0)

    samples, lengths = [], []
    widths = [(size - 1).bit_length() for size in sizes]
    while data[at] != 0xFF:
        start = at
        (ranks,) = take(1)
        sample = {"name": string(), "grid": [varint() for _ in range(ranks & 15)]}
        positions = varint() - 1
        if positions < 0:
            positions = prod(sample["grid"])
        sample["size"] = [varint() for _ in range(ranks >> 4)]
        sample["extras"] = list(struct.unpack(f"<{len(fields)}f", take(4 * len(fields))))
        bits = int.from_bytes(take((positions * sum(widths) + 7) // 8), "little")
        sample["codes"] = [[] for _ in range(positions)]
        for row in sample["codes"]:
            for width in widths:
                row.append(bits & ((1 << width) - 1))
                bits >>= width
        assert bits == 0
        check_crc(start)
        samples.append(sample)
        lengths.append(at - start)

    start = at
    take(1)
    assert [int.from_bytes(take(4), "little") for _ in samples] == lengths
    assert int.from_bytes(take(4), "little") == len(samples)
    check_crc(start)
    assert take(4) == b"tokx" and at == len(data)
    return {**header, "samples": samples}
