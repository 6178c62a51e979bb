"""TokenWriter and TokenReader: samples of different grids in one file, random access, interrupted and resumed writing."""

import multiprocessing
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from token_cases import assert_same, make_tokens

from tokkit.errors import InputError, TokenFileError
from tokkit.tokens import TokenReader, Tokens, TokenWriter

PARTS = [make_tokens(2, grid=(n,), seed=n, names=(f"{n}/a", f"{n}/b"), sizes=((n,), ())) for n in (1, 9, 4)]
HEADER = PARTS[0].header


def write(path, parts=PARTS, **options):
    with TokenWriter(path, HEADER, **options) as writer:
        for part in parts:
            writer.append(part)
    return path


def interrupt(path, parts=PARTS[:2], **options):
    """Write some samples, then fail."""
    with pytest.raises(KeyboardInterrupt), TokenWriter(path, HEADER, **options) as writer:
        for part in parts:
            writer.append(part)
        raise KeyboardInterrupt
    return path.with_name(path.name + ".part")


def test_mixed_grids_and_random_access(tmp_path):
    samples = [sample for part in PARTS for sample in part]
    with TokenReader(write(tmp_path / "x.tok")) as reader:
        assert len(reader) == 6
        assert reader.header == HEADER
        assert reader.names == ("1/a", "1/b", "9/a", "9/b", "4/a", "4/b")
        for i in (3, 0, 5, -1, -6, 2):
            assert_same(reader[i], samples[i])
        assert [tokens.grid for tokens in reader] == [(1,), (1,), (9,), (9,), (4,), (4,)]
        info = reader.info(2)
        assert (info.name, info.grid, info.positions, info.size) == ("9/a", (9,), 9, (9,))
        errors = []
        assert len(list(reader.read_intact(errors.append))) == 6 and errors == []
        for i in (6, -7):
            with pytest.raises(IndexError):
                reader[i]


def test_nothing_is_there_before_the_end(tmp_path):
    path = tmp_path / "deep" / "er" / "x.tok"
    with TokenWriter(path, HEADER) as writer:
        writer.append(PARTS[0])
        assert len(writer) == 2
        assert not path.exists()
    assert list(path.parent.iterdir()) == [path]
    writer.close()
    assert len(TokenReader(path)) == 2


def test_refuses_other_headers_and_bad_codes_before_writing(tmp_path):
    with TokenWriter(tmp_path / "x.tok", HEADER) as writer:
        with pytest.raises(InputError, match="tokenizer 'other', not 'vq' of the file"):
            writer.append(make_tokens(tokenizer="other"))
        bad = make_tokens()
        bad.codes[1, 0, 0] = 1000
        with pytest.raises(InputError, match="sample 1: code 1000"):
            writer.append(bad)
        writer.append(PARTS[1])
    assert_same(Tokens.load(tmp_path / "x.tok"), PARTS[1])


def test_overwrites_only_when_forced(tmp_path):
    path = write(tmp_path / "x.tok", PARTS[:1])
    before = path.read_bytes()
    with pytest.raises(InputError, match="force"):
        TokenWriter(path, HEADER)
    interrupt(path, force=True)
    assert path.read_bytes() == before
    write(path, PARTS[1:2], force=True)
    assert_same(Tokens.load(path), PARTS[1])


def test_a_file_that_appears_meanwhile_is_kept(tmp_path):
    path = tmp_path / "x.tok"
    with pytest.raises(InputError, match="force"), TokenWriter(path, HEADER) as writer:
        writer.append(PARTS[0])
        path.write_bytes(b"mine")
    assert path.read_bytes() == b"mine"


def test_resume_gives_the_same_file_as_one_run(tmp_path):
    whole = write(tmp_path / "whole.tok").read_bytes()
    path = tmp_path / "x.tok"
    interrupt(path)
    with TokenWriter(path, HEADER, resume=True) as writer:
        assert writer.resumed == ("1/a", "1/b", "9/a", "9/b")
        assert len(writer) == 4
        writer.append(PARTS[2])
    assert path.read_bytes() == whole
    assert sorted(p.name for p in tmp_path.iterdir()) == ["whole.tok", "x.tok"]


def test_resume_from_any_cut(tmp_path):
    whole = write(tmp_path / "whole.tok").read_bytes()
    samples = [sample for part in PARTS for sample in part]
    path = tmp_path / "x.tok"
    part = tmp_path / "x.tok.part"
    for length in range(len(whole) + 1):
        part.write_bytes(whole[:length])
        with TokenWriter(path, HEADER, resume=True, force=True) as writer:
            assert writer.resumed == tuple(sample.names[0] for sample in samples[: len(writer)])
            for sample in samples[len(writer) :]:
                writer.append(sample)
        assert path.read_bytes() == whole


def test_resume_drops_damage_and_what_follows(tmp_path):
    path = tmp_path / "x.tok"
    part = interrupt(path)
    data = bytearray(part.read_bytes())
    data[-1] ^= 1
    part.write_bytes(data)
    with TokenWriter(path, HEADER, resume=True) as writer:
        assert writer.resumed == ("1/a", "1/b", "9/a")


def test_resume_without_a_part_and_no_resume_with_one(tmp_path):
    write(tmp_path / "x.tok", PARTS[:1], resume=True)
    assert_same(Tokens.load(tmp_path / "x.tok"), PARTS[0])
    interrupt(tmp_path / "y.tok")
    write(tmp_path / "y.tok", PARTS[2:])
    assert_same(Tokens.load(tmp_path / "y.tok"), PARTS[2])


def test_resume_refuses_another_tokenizers_part(tmp_path):
    part = interrupt(tmp_path / "x.tok")
    before = part.read_bytes()
    with pytest.raises(InputError, match=r"cannot resume: it has tokenizer 'vq', not 'other'"):
        TokenWriter(tmp_path / "x.tok", make_tokens(tokenizer="other").header, resume=True)
    assert part.read_bytes() == before
    part.write_bytes(b"something else")
    with pytest.raises(InputError, match="cannot resume: byte 0: not a token file"):
        TokenWriter(tmp_path / "x.tok", HEADER, resume=True)
    assert part.read_bytes() == b"something else"


def test_a_part_is_read_by_salvage_only(tmp_path):
    part = interrupt(tmp_path / "x.tok")
    with pytest.raises(TokenFileError, match="no index"):
        TokenReader(part)
    reader = TokenReader(part, salvage=True)
    assert len(reader) == 4
    assert "4 samples were found" in str(reader.index_error)


def test_an_interrupted_writer_without_samples_leaves_nothing(tmp_path):
    interrupt(tmp_path / "x.tok", [])
    assert list(tmp_path.iterdir()) == []


def test_one_writer_at_a_time(tmp_path):
    with TokenWriter(tmp_path / "x.tok", HEADER) as writer:
        writer.append(PARTS[0])
        with pytest.raises(InputError, match="another process"):
            TokenWriter(tmp_path / "x.tok", HEADER)
    assert_same(Tokens.load(tmp_path / "x.tok"), PARTS[0])


def test_a_killed_process_can_be_resumed(tmp_path):
    script = (
        "import os, sys; sys.path.insert(0, sys.argv[2]); from test_token_shards import HEADER, PARTS; "
        "from tokkit.tokens import TokenWriter; writer = TokenWriter(sys.argv[1], HEADER); "
        "[writer.append(PARTS[1]) for _ in range(3_000)]; os.kill(os.getpid(), 9)"
    )
    path = tmp_path / "x.tok"
    subprocess.run([sys.executable, "-c", script, str(path), str(Path(__file__).parent)], check=False)
    with TokenWriter(path, HEADER, resume=True) as writer:
        assert 0 < len(writer) <= 6_000
        writer.append(PARTS[0])
    with TokenReader(path) as reader:
        assert_same(reader[len(reader) - 3], PARTS[1][1] if len(reader) % 2 == 0 else PARTS[1][0])
        assert_same(reader[len(reader) - 1], PARTS[0][1])


def test_a_failed_write_is_not_taken_for_a_file(tmp_path):
    path = tmp_path / "x.tok"
    with pytest.raises(InputError, match="a write to it failed"), TokenWriter(path, HEADER) as writer:
        writer.append(PARTS[0])
        writer._file.write(b"half a sam")
    assert not path.exists()
    with TokenWriter(path, HEADER, resume=True) as writer:
        assert len(writer) == 2


def read_names(reader):
    return [tokens.names[0] for tokens in reader]


def test_a_reader_in_a_forked_process(tmp_path):
    reader = TokenReader(write(tmp_path / "x.tok"))
    with multiprocessing.get_context("fork").Pool(1) as pool:
        assert pool.apply(read_names, (reader,)) == list(reader.names)


def test_a_pickled_reader_opens_its_file_anew(tmp_path):
    part = interrupt(tmp_path / "x.tok")
    reader = pickle.loads(pickle.dumps(TokenReader(part, salvage=True)))
    assert read_names(reader) == ["1/a", "1/b", "9/a", "9/b"]


def test_a_reader_keeps_the_file_that_it_opened(tmp_path):
    path = write(tmp_path / "x.tok", PARTS[:1])
    reader = TokenReader(path)
    write(path, PARTS[1:2], force=True)
    assert_same(reader[0], PARTS[0][0])
    assert_same(TokenReader(path)[0], PARTS[1][0])


def test_a_large_file_is_mapped_and_small_ones_hold_no_descriptor(tmp_path):
    large = make_tokens(3, (2**16,), grid=(300, 100))
    large.save(tmp_path / "large.tok")
    PARTS[0].save(tmp_path / "small.tok")
    descriptors = len(list(Path("/proc/self/fd").iterdir()))
    readers = [TokenReader(tmp_path / "small.tok") for _ in range(5)]
    assert len(list(Path("/proc/self/fd").iterdir())) == descriptors
    with TokenReader(tmp_path / "large.tok") as reader:
        assert len(list(Path("/proc/self/fd").iterdir())) == descriptors + 1
        assert_same(reader[2], large[2])
        assert_same(reader.load(), large)
    assert_same(readers[4][1], PARTS[0][1])
