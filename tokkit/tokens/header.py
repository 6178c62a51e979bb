"""What all samples of one token file share, and the first bytes of the file that say so. See docs/token-file.md."""

import re
import zlib
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from mmap import mmap

from tokkit.errors import InputError
from tokkit.tokens.cursor import VARINT_MAX, Cursor, Malformed, text, varint

MAGIC = b"\x89tok\r\n\x1a\n"
VERSION = 1
MAX_CODEBOOK_SIZE = 2**62
MAX_LEVELS = 2**16
MAX_FIELDS = 255
LSB_FIRST = 0  # the only bit order of version 1
_FINGERPRINT_BYTES = 16


@dataclass(frozen=True)
class TokenHeader:
    """What all samples of one token file share.

    Args:
        codebook_sizes: K of each of the Q levels or groups, each in [1, 2^62].
        modality: registered name of the modality, such as "image"; "" when unknown.
        tokenizer: name of the tokenizer, for people; "" when unknown.
        fingerprint: identity of the tokenizer as 32 lower-case hex digits; "" for none.
        sample_rate: samples a second, for audio; None for others.
        extra_fields: names of the numbers in `Tokens.extras`, at most 255.

    Raises:
        InputError: a value is outside what the file can hold.
    """

    codebook_sizes: tuple[int, ...]
    modality: str = ""
    tokenizer: str = ""
    fingerprint: str = ""
    sample_rate: int | None = None
    extra_fields: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_codebook_sizes(self.codebook_sizes)
        if self.fingerprint and not re.fullmatch("[0-9a-f]{32}", self.fingerprint):
            raise InputError(f"fingerprint must be 32 lower-case hex digits or empty, got {self.fingerprint!r}")
        if self.sample_rate is not None and not 1 <= self.sample_rate <= VARINT_MAX:
            raise InputError(f"sample_rate must be a positive number of samples a second, got {self.sample_rate}")
        if len(self.extra_fields) > MAX_FIELDS or len(set(self.extra_fields)) < len(self.extra_fields):
            raise InputError(f"extra_fields must be at most {MAX_FIELDS} different names, got {self.extra_fields}")
        check_text("modality", self.modality)
        check_text("tokenizer", self.tokenizer)
        for name in self.extra_fields:
            check_text("extra field", name)

    @cached_property
    def widths(self) -> tuple[int, ...]:
        """Bits that a code of each level takes in the file: ceil(log2 K)."""
        return tuple((size - 1).bit_length() for size in self.codebook_sizes)

    @cached_property
    def bits_per_position(self) -> int:
        """Bits that one position takes over all levels."""
        return sum(self.widths)

    @cached_property
    def free_levels(self) -> int:
        """Levels whose codes take no bits (K = 1): the length of a file does not bound how many such codes it claims."""
        return self.widths.count(0)

    def difference(self, other: "TokenHeader") -> str | None:
        """The first field in which the two differ, as "name: mine, not theirs"; None when they are equal."""
        for name in self.__dataclass_fields__:
            mine, theirs = getattr(self, name), getattr(other, name)
            if mine != theirs:
                return f"{name} {mine!r}, not {theirs!r}"
        return None


def check_codebook_sizes(codebook_sizes: tuple[int, ...]) -> None:
    """Raises InputError unless there are 1 to 65,536 sizes, each an integer in [1, 2^62]."""
    if not 1 <= len(codebook_sizes) <= MAX_LEVELS:
        raise InputError(f"codebook_sizes must have 1 to {MAX_LEVELS} entries, got {len(codebook_sizes)}")
    for size in codebook_sizes:
        if not 1 <= size <= MAX_CODEBOOK_SIZE:
            raise InputError(f"a codebook size must be in [1, 2^62], got {size}")


def check_text(what: str, value: str) -> None:
    """Raises InputError for a string that the file cannot hold."""
    try:
        value.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise InputError(f"{what} {value!r} cannot be written as UTF-8") from error
    if "\0" in value:
        raise InputError(f"{what} {value!r} contains a zero character")


def encode_header(header: TokenHeader) -> bytes:
    """The bytes from the start of the file to the first sample."""
    runs = [(len(list(run)), size) for size, run in groupby(header.codebook_sizes)]
    body = b"".join(
        (
            bytes([LSB_FIRST]),
            varint(len(header.fingerprint) // 2) + bytes.fromhex(header.fingerprint),
            text(header.tokenizer),
            text(header.modality),
            varint(header.sample_rate or 0),
            varint(len(runs)) + b"".join(varint(count) + varint(size) for count, size in runs),
            varint(len(header.extra_fields)) + b"".join(text(name) for name in header.extra_fields),
        )
    )
    head = MAGIC + bytes([VERSION]) + varint(len(body)) + body
    return head + zlib.crc32(head).to_bytes(4, "little")


def decode_header(buffer: bytes | mmap) -> tuple[TokenHeader, int]:
    """The header of the file in `buffer`, and the offset of the first sample. Raises Malformed."""
    start = buffer[: len(MAGIC)]
    if not start:
        raise Malformed(0, "the file is empty")
    if start != MAGIC[: len(start)]:
        raise Malformed(0, f"not a token file: it begins with {start!r}, not with {MAGIC!r}")
    cursor = Cursor(buffer, 0, len(buffer))
    cursor.take(len(MAGIC), "the magic number")
    version = cursor.byte("the version")
    if version != VERSION:
        raise Malformed(len(MAGIC), f"version {version} of the token file; this tokkit reads version {VERSION}")
    length = cursor.varint("the length of the header")
    body = cursor.position
    cursor.take(length, "the header")
    expected = zlib.crc32(buffer[: cursor.position]).to_bytes(4, "little")
    if cursor.take(4, "the checksum of the header") != expected:
        raise Malformed(cursor.position - 4, "the checksum of the header does not match")
    return _decode_body(Cursor(buffer, body, body + length)), cursor.position


def _decode_body(cursor: Cursor) -> TokenHeader:
    order = cursor.byte("the bit order")
    if order != LSB_FIRST:
        raise Malformed(cursor.position - 1, f"bit order {order} is not defined")
    length = cursor.byte("the length of the fingerprint")
    if length not in (0, _FINGERPRINT_BYTES):
        raise Malformed(cursor.position - 1, f"a fingerprint has 0 or {_FINGERPRINT_BYTES} bytes, not {length}")
    fingerprint = cursor.take(length, "the fingerprint").hex()
    tokenizer = cursor.text("the name of the tokenizer")
    modality = cursor.text("the modality")
    sample_rate = cursor.varint("the sample rate") or None
    codebook_sizes = _decode_codebook_sizes(cursor)
    count = cursor.varint("the number of fields")
    fields = tuple(cursor.text("the name of a field") for _ in range(count))
    if cursor.position != cursor.end:
        raise Malformed(cursor.position, f"{cursor.end - cursor.position} bytes of the header have no meaning")
    try:
        return TokenHeader(codebook_sizes, modality, tokenizer, fingerprint, sample_rate, fields)
    except InputError as error:
        raise Malformed(cursor.position, str(error)) from error


def _decode_codebook_sizes(cursor: Cursor) -> tuple[int, ...]:
    sizes: list[int] = []
    for _ in range(cursor.varint("the number of codebook runs")):
        start = cursor.position
        count = cursor.varint("the length of a codebook run")
        size = cursor.varint("a codebook size")
        if count == 0 or count > MAX_LEVELS - len(sizes):
            raise Malformed(start, f"a run of {count} codebooks; a file has 1 to {MAX_LEVELS} in all")
        sizes.extend([size] * count)
    return tuple(sizes)
