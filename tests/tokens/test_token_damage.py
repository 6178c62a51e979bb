"""Token files that are cut, flipped, hostile or not token files: a TokenFileError always, and the rest stays readable."""

import tracemalloc
import zlib
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from token_cases import assert_same, make_tokens

from tokkit.errors import TokenFileError
from tokkit.tokens import DamagedSampleError, TokenHeader, TokenReader, Tokens, TokenWriter
from tokkit.tokens import reader as reader_module
from tokkit.tokens.cursor import varint
from tokkit.tokens.header import decode_header, encode_header
from tokkit.tokens.index import encode_index

fuzz = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

SAMPLES = [
    make_tokens(1, (1000, 3), grid=(n, 2), seed=n, names=(f"sample {n}",), extra_fields=("gain",), extras=((n,),)) for n in range(1, 5)
]


@pytest.fixture(scope="module")
def shard(tmp_path_factory):
    """The bytes of a file of SAMPLES, and where its samples begin and the last ends."""
    path = tmp_path_factory.mktemp("shard") / "x.tok"
    with TokenWriter(path, SAMPLES[0].header) as writer:
        for tokens in SAMPLES:
            writer.append(tokens)
    with TokenReader(path) as reader:
        starts = [decode_header(path.read_bytes())[1], *(reader.info(i).end for i in range(len(reader)))]
    return path.read_bytes(), starts


def with_crc(body: bytes) -> bytes:
    return body + zlib.crc32(body).to_bytes(4, "little")


def put(tmp_path: Path, data: bytes) -> Path:
    path = tmp_path / "x.tok"
    path.write_bytes(data)
    return path


def read_all(path: Path) -> list[Tokens]:
    with TokenReader(path) as reader:
        return list(reader)


def salvage(path: Path) -> tuple[list[Tokens], list[TokenFileError]]:
    errors: list[TokenFileError] = []
    with TokenReader(path, salvage=True) as reader:
        return list(reader.read_intact(errors.append)), errors


def is_refused_or_sound(path: Path) -> None:
    """Whatever the bytes are, only TokenFileError comes out of reading them."""
    for read in (read_all, salvage, Tokens.load, lambda path: TokenReader(path).names):
        try:
            read(path)
        except TokenFileError as error:
            assert str(error).startswith(f"{path}: ")


@given(data=st.data())
@fuzz
def test_any_flipped_byte_is_found_and_costs_one_sample(shard, tmp_path, data):
    good, starts = shard
    at = data.draw(st.integers(0, len(good) - 1))
    mask = data.draw(st.integers(1, 255))
    path = put(tmp_path, good[:at] + bytes([good[at] ^ mask]) + good[at + 1 :])
    with pytest.raises(TokenFileError):
        read_all(path)
    with pytest.raises(TokenFileError):
        Tokens.load(path)
    if at < starts[0]:
        with pytest.raises(TokenFileError):
            salvage(path)
        return
    intact, errors = salvage(path)
    hit = next((i for i, end in enumerate(starts[1:]) if at < end), None)
    expected = [tokens for i, tokens in enumerate(SAMPLES) if i != hit]
    assert len(intact) == len(expected) and len(errors) == 1
    for left, right in zip(intact, expected, strict=True):
        assert_same(left, right)
    if hit is not None:
        assert isinstance(errors[0], DamagedSampleError) and errors[0].sample == hit
        assert starts[hit] <= errors[0].offset < starts[hit + 1]
        assert f"sample {hit}, byte {errors[0].offset}" in str(errors[0])


@pytest.mark.parametrize("mapped", [False, True])
def test_every_truncation_is_found_and_keeps_the_whole_samples(shard, tmp_path, mapped, monkeypatch):
    if mapped:
        monkeypatch.setattr(reader_module, "_READ_AT_ONCE", 0)
    good, starts = shard
    for length in range(len(good)):
        path = put(tmp_path, good[:length])
        with pytest.raises(TokenFileError, match="byte"):
            read_all(path)
        if length < starts[0]:
            with pytest.raises(TokenFileError):
                salvage(path)
            continue
        intact, errors = salvage(path)
        assert len(intact) == sum(end <= length for end in starts[1:])
        assert len(errors) == 1
        if length not in starts and length < starts[-1]:
            assert f"sample {len(intact)} " in str(errors[0])


@given(extra=st.binary(min_size=1, max_size=20))
@fuzz
def test_bytes_after_the_end(shard, tmp_path, extra):
    path = put(tmp_path, shard[0] + extra)
    with pytest.raises(TokenFileError):
        read_all(path)
    assert len(salvage(path)[0]) == len(SAMPLES)


@given(junk=st.binary(max_size=200))
@fuzz
def test_other_files(tmp_path, junk):
    path = put(tmp_path, junk)
    with pytest.raises(TokenFileError):
        Tokens.load(path)


def test_messages_for_what_is_no_token_file(tmp_path, shard):
    with pytest.raises(TokenFileError, match="byte 0: the file is empty"):
        Tokens.load(put(tmp_path, b""))
    with pytest.raises(TokenFileError, match="not a token file"):
        Tokens.load(put(tmp_path, b"\x89PNG\r\n\x1a\n" + bytes(100)))
    with pytest.raises(TokenFileError, match=r"version 2 .* reads version 1"):
        Tokens.load(put(tmp_path, shard[0][:8] + b"\x02" + shard[0][9:]))
    with pytest.raises(TokenFileError, match=r"no index.*salvage=True"):
        Tokens.load(put(tmp_path, shard[0][:-1]))


@given(body=st.binary(max_size=80))
@fuzz
def test_headers_of_any_bytes_with_a_right_checksum(tmp_path, body):
    head = with_crc(b"\x89tok\r\n\x1a\n\x01" + varint(len(body)) + body)
    is_refused_or_sound(put(tmp_path, head + encode_index([])))


@given(data=st.data())
@fuzz
def test_mutated_headers_with_a_right_checksum(shard, tmp_path, data):
    good, starts = shard
    head = bytearray(good[: starts[0] - 4])
    for at in data.draw(st.lists(st.integers(9, len(head) - 1), min_size=1, max_size=3)):
        head[at] = data.draw(st.integers(0, 255))
    is_refused_or_sound(put(tmp_path, with_crc(bytes(head)) + good[starts[0] :]))


@given(record=st.binary(max_size=60), free=st.booleans())
@fuzz
def test_samples_of_any_bytes_with_a_right_checksum(tmp_path, record, free):
    head = encode_header(TokenHeader((1, 1, 1) if free else (1, 3, 256)))
    record = with_crc(record)
    is_refused_or_sound(put(tmp_path, head + record + encode_index([len(record)])))
    is_refused_or_sound(put(tmp_path, head + record))


@given(data=st.data())
@fuzz
def test_mutated_samples_with_a_right_checksum(shard, tmp_path, data):
    good, starts = shard
    i = data.draw(st.integers(0, len(SAMPLES) - 1))
    record = bytearray(good[starts[i] : starts[i + 1] - 4])
    for at in data.draw(st.lists(st.integers(0, len(record) - 1), min_size=1, max_size=3)):
        record[at] = data.draw(st.integers(0, 255))
    is_refused_or_sound(put(tmp_path, good[: starts[i]] + with_crc(bytes(record)) + good[starts[i + 1] :]))


@given(lengths=st.lists(st.integers(0, 2**32 - 1), max_size=6))
@fuzz
def test_any_index_with_a_right_checksum(shard, tmp_path, lengths):
    good, starts = shard
    path = put(tmp_path, good[: starts[-1]] + encode_index(lengths))
    if lengths != [end - start for start, end in pairwise(starts)]:
        with pytest.raises(TokenFileError):
            read_all(path)
    is_refused_or_sound(path)


HUGE = varint(2**63 - 1)
HOSTILE = {
    "header length": b"\x89tok\r\n\x1a\n\x01" + HUGE,
    "tokenizer name": with_crc(b"\x89tok\r\n\x1a\n\x01" + varint(11) + b"\0\0" + HUGE),
    "number of runs": with_crc(b"\x89tok\r\n\x1a\n\x01" + varint(14) + b"\0\0\0\0\0" + HUGE),
    "length of a run": with_crc(b"\x89tok\r\n\x1a\n\x01" + varint(16) + b"\0\0\0\0\0\x01" + HUGE + b"\x02"),
    "number of fields": with_crc(b"\x89tok\r\n\x1a\n\x01" + varint(17) + b"\0\0\0\0\0\x01\x01\x02" + HUGE),
}
for what, record in {
    "name": b"\0" + HUGE,
    "grid": b"\x08\0" + HUGE * 8 + b"\0",
    "positions": b"\0\0" + HUGE,
    "positions that take no bits": b"\x01\0\x02" + varint(2**20 + 2),
}.items():
    for sizes in ((1,), (2,), (1,) * 65_536, (2**62,)):
        head = encode_header(TokenHeader(sizes))
        HOSTILE[f"{what}, {len(sizes)} x {sizes[0]}"] = head + with_crc(record) + encode_index([len(record) + 4])
for count in (1, 2**20, 2**32 - 1):
    trailer = count.to_bytes(4, "little")
    HOSTILE[f"index of {count}"] = encode_header(TokenHeader((2,))) + trailer + with_crc(b"\xff" + trailer)[5:] + b"tokx"


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_lengths_allocate_nothing(what, tmp_path):
    path = put(tmp_path, HOSTILE[what])
    tracemalloc.start()
    try:
        with pytest.raises(TokenFileError):
            read_all(path)
        try:
            salvage(path)
        except TokenFileError as error:
            assert "byte" in str(error)
        assert tracemalloc.get_traced_memory()[1] < 20e6
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (b"\x00\x00\x00\x03", "code 3 at position 0, level 0 is outside its codebook of 3"),
        (b"\x00\x00\x00\x04", "not zero"),
        (b"\x00\x00\x80\x00\x00", "shortest form"),
        (b"\x00\x00" + b"\xff" * 9 + b"\x01", "longer than 9 bytes"),
        (b"\x00\x02a\0\x00\x00", "the name contains a zero byte"),
        (b"\x09\x00", "no sample begins with byte 0x09"),
        (b"\x00\x00\x00\x00\x00", "the sample ends here"),
        (b"", "1 bytes of codes and a checksum do not fit in the 1 bytes left"),
    ],
)
def test_rules_of_a_sample(record, message, tmp_path):
    record = with_crc(record)
    path = put(tmp_path, encode_header(TokenHeader((3,))) + record + encode_index([len(record)]))
    with pytest.raises(DamagedSampleError, match=rf"sample 0, byte \d+: .*({message})"):
        read_all(path)


def test_a_sample_that_is_not_a_number(tmp_path):
    record = with_crc(b"\x00\x00\x00" + b"\x00\x00\xc0\x7f" + b"\x00")
    path = put(tmp_path, encode_header(TokenHeader((3,), extra_fields=("gain",))) + record + encode_index([len(record)]))
    with pytest.raises(DamagedSampleError, match="not all finite"):
        read_all(path)


def test_damage_and_no_index(shard, tmp_path):
    good, starts = shard
    at = starts[2] - 5
    path = put(tmp_path, good[:at] + b"\0\xff\0\xff\0" + good[at + 5 : starts[-1] - 1])
    intact, errors = salvage(path)
    assert [tokens.names[0] for tokens in intact] == ["sample 1", "sample 3"]
    assert [type(error) for error in errors] == [TokenFileError, DamagedSampleError]
    assert "sample 3 " in str(errors[0]) and errors[1].sample == 1


def test_codes_are_no_view_of_the_file(shard, tmp_path):
    with TokenReader(put(tmp_path, shard[0])) as reader:
        tokens = reader[0]
    assert torch.equal(tokens.codes, SAMPLES[0].codes)
    tokens.codes.add_(1)
