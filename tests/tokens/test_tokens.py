"""The Tokens object, and whole files of one grid."""

import subprocess
import sys

import pytest
import torch
from token_cases import assert_same, make_tokens, random_codes

import tokkit
from tokkit.errors import InputError, TokenFileError
from tokkit.tokens import TokenReader, Tokens, TokenWriter

ODD_SIZES = [(1,), (2,), (3,), (1000,), (64_000,), (2**18,), (2**62,), (1, 2, 3, 1000, 2**62, 1), (256,) * 16, (1, 1)]


@pytest.mark.parametrize("positions", [0, 1, 7, 64])
@pytest.mark.parametrize("sizes", ODD_SIZES, ids=str)
def test_round_trip(sizes, positions, tmp_path):
    tokens = make_tokens(3, sizes, grid=(4, 4), positions=positions)
    if positions:
        tokens.codes[0, 0] = torch.tensor(sizes) - 1
        tokens.codes[0, -1] = 0
    tokens.save(tmp_path / "x.tok")
    assert_same(Tokens.load(tmp_path / "x.tok"), tokens)


@pytest.mark.parametrize("grid", [(), (7,), (2, 3), (2, 3, 4), (1,) * 8, (0, 5)])
def test_grids(grid, tmp_path):
    tokens = make_tokens(1, grid=grid)
    tokens.save(tmp_path / "x.tok")
    assert_same(Tokens.load(tmp_path / "x.tok"), tokens)


def test_every_field_comes_back(tmp_path):
    tokens = make_tokens(
        2,
        (16, 4096),
        modality="audio",
        tokenizer="ünï",
        sizes=((), (2**40, 3, 1)),
        names=("a/é.wav", "latin1-\udce9"),
        sample_rate=44_100,
        extra_fields=("gain", "peak"),
        extras=((0.1, 3e38), (-2.5, 0.0)),
    )
    tokens.save(tmp_path / "x.tok")
    loaded = Tokens.load(tmp_path / "x.tok", expect_fingerprint=tokens.fingerprint)
    assert_same(loaded, tokens)
    assert loaded.extras[0][0] == torch.tensor(0.1).item()


def test_fields_may_be_left_out(tmp_path):
    tokens = Tokens(codes=random_codes(2, 5, (9,)), codebook_sizes=(9,), grid=(5,))
    tokens.save(tmp_path / "x.tok")
    loaded = tokkit.Tokens.load(str(tmp_path / "x.tok"))
    assert_same(loaded, tokens)
    assert (loaded.fingerprint, loaded.names, loaded.sizes, loaded.sample_rate) == ("", ("", ""), ((), ()), None)


def test_128_bits_a_token_are_16_bytes(tmp_path):
    one, two = (make_tokens(1, (256,) * 16, grid=(n,)) for n in (1, 2))
    assert one.payload_bits == 128
    one.save(tmp_path / "1.tok")
    two.save(tmp_path / "2.tok")
    assert (tmp_path / "2.tok").stat().st_size - (tmp_path / "1.tok").stat().st_size == 16
    assert bytes(one.codes[0, 0].tolist()) in (tmp_path / "1.tok").read_bytes()


@pytest.mark.parametrize(("sizes", "bits"), [((1,), 0), ((2,), 1), ((3,), 2), ((1000, 1024), 20), ((2**62,), 62)])
def test_payload_bits(sizes, bits):
    assert make_tokens(5, sizes, grid=(7,)).payload_bits == 7 * bits


def test_indexing_and_joining():
    tokens = make_tokens(4, extra_fields=("gain",), extras=((1,), (2,), (3,), (4,)))
    assert len(tokens) == 4
    assert tokens[1].names == ("sample-1.png",) and tokens[1].extras == ((2.0,),)
    assert torch.equal(tokens[-1].codes, tokens.codes[3:])
    assert tokens[1:3].sizes == tokens.sizes[1:3]
    assert [one.names[0] for one in tokens] == list(tokens.names)
    assert len(tokens[4:]) == 0
    assert_same(Tokens.cat([tokens[:1], tokens[1:1], tokens[1:]]), tokens)
    with pytest.raises(IndexError):
        tokens[4]


def test_to_and_repr():
    tokens = make_tokens(2, grid=(4, 4)).to("meta")
    assert tokens.codes.device.type == "meta"
    assert repr(tokens) == "Tokens(image: 2 samples, grid 4x4, codes [2, 16, 1], 160 bits each)"


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"codebook_sizes": (999,)}, "codebook_sizes"),
        ({"fingerprint": ""}, "fingerprint"),
        ({"grid": (3, 2)}, r"grid \(3, 2\)"),
        ({"positions": 5}, "5 positions"),
    ],
)
def test_joining_refuses_others(other, message):
    with pytest.raises(InputError, match=message):
        Tokens.cat([make_tokens(), make_tokens(**other)])


def test_joining_nothing():
    with pytest.raises(InputError, match="empty"):
        Tokens.cat([])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"codes": torch.zeros(2, 6, dtype=torch.int64)}, r"\[B, N, 1\]"),
        ({"codes": torch.zeros(2, 6, 2, dtype=torch.int64)}, r"\[2, 6, 2\]"),
        ({"codes": torch.zeros(2, 6, 1, dtype=torch.int32)}, "int32"),
        ({"codebook_sizes": (0,)}, r"\[1, 2\^62\]"),
        ({"codebook_sizes": (2**62 + 1,)}, r"\[1, 2\^62\]"),
        ({"names": ("a",)}, "names has 1 entries for 2"),
        ({"sizes": ((1,), (2,), (3,))}, "sizes has 3"),
        ({"fingerprint": "xyz"}, "32 lower-case hex"),
        ({"sample_rate": 0}, "sample_rate"),
        ({"modality": "im\0age"}, "zero character"),
        ({"tokenizer": "\ud800"}, "UTF-8"),
        ({"extra_fields": ("gain",)}, "one number for each"),
        ({"extras": ((1.0,), (1.0,))}, "one number for each"),
        ({"extra_fields": ("a", "a"), "extras": ((1, 2), (1, 2))}, "different names"),
        ({"extra_fields": ("gain",), "extras": ((1.0,), (float("nan"),))}, "finite"),
        ({"extra_fields": ("gain",), "extras": ((1.0,), (1e39,))}, "finite"),
    ],
)
def test_wrong_fields(options, message):
    good = make_tokens()
    with pytest.raises(InputError, match=message):
        Tokens(**{"codes": good.codes, "codebook_sizes": (1000,), "grid": (2, 3), **options})


@pytest.mark.parametrize("code", [-1, 1000, 2**40])
def test_save_refuses_codes_outside_the_codebook(code, tmp_path):
    tokens = make_tokens()
    tokens.codes[1, 4, 0] = code
    with pytest.raises(InputError, match=rf"sample 1: code {code} at position 4, level 0 .* 1000"):
        tokens.save(tmp_path / "x.tok")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"names": ("a", "b\0")}, "zero character"),
        ({"grid": (1,) * 9, "positions": 6}, "at most 8"),
        ({"sizes": ((-1,), (1,))}, "size must be"),
        ({"sizes": ((2**63,), (1,))}, "size must be"),
        ({"codebook_sizes": (1, 2), "grid": (2**20 + 1,), "batch": 1}, "one-entry codebooks"),
        ({"batch": 0}, "no samples"),
    ],
)
def test_save_refuses_what_the_file_cannot_hold(options, message, tmp_path):
    with pytest.raises(InputError, match=message):
        make_tokens(**options).save(tmp_path / "x.tok")
    assert list(tmp_path.iterdir()) == []


def test_save_replaces_only_when_forced(tmp_path):
    path = tmp_path / "x.tok"
    make_tokens().save(path)
    with pytest.raises(InputError, match="force"):
        make_tokens(seed=1).save(path)
    assert_same(Tokens.load(path), make_tokens())
    make_tokens(seed=1).save(path, force=True)
    assert_same(Tokens.load(path), make_tokens(seed=1))
    assert list(tmp_path.iterdir()) == [path]


def test_save_where_nothing_can_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be written"):
        make_tokens().save(tmp_path / "file" / "x.tok")


def test_load_refuses_other_tokenizers(tmp_path):
    make_tokens().save(tmp_path / "x.tok")
    with pytest.raises(TokenFileError, match=r"made by tokenizer 'vq' with fingerprint 0123.* not by .* ffff"):
        Tokens.load(tmp_path / "x.tok", expect_fingerprint="f" * 32)


def test_load_refuses_mixed_grids(tmp_path):
    with TokenWriter(tmp_path / "x.tok", make_tokens().header) as writer:
        writer.append(make_tokens())
        writer.append(make_tokens(1, grid=(3, 2)))
    with pytest.raises(TokenFileError, match=r"sample 2 has grid \(3, 2\).*TokenReader"):
        Tokens.load(tmp_path / "x.tok")
    assert TokenReader(tmp_path / "x.tok")[2].grid == (3, 2)


def test_load_refuses_a_file_without_samples(tmp_path):
    with TokenWriter(tmp_path / "x.tok", make_tokens().header):
        pass
    with pytest.raises(TokenFileError, match="no samples"):
        Tokens.load(tmp_path / "x.tok")


def test_load_bounds_codes_of_no_bits(tmp_path):
    tokens = make_tokens(1, (1,), grid=(2**20,))
    with TokenWriter(tmp_path / "x.tok", tokens.header) as writer:
        writer.append(tokens)
        writer.append(tokens)
    with pytest.raises(TokenFileError, match="take no bits"):
        Tokens.load(tmp_path / "x.tok")


def test_no_file(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        Tokens.load(tmp_path / "x.tok")
    with pytest.raises(InputError, match="not a file"):
        Tokens.load(tmp_path)


def test_reading_metadata_does_not_import_torch(tmp_path):
    make_tokens().save(tmp_path / "x.tok")
    script = (
        "import sys; from tokkit.tokens import TokenReader; reader = TokenReader(sys.argv[1]); "
        "assert reader.names and reader.read(0)[1].shape == (6, 1); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path / "x.tok")], check=True)
