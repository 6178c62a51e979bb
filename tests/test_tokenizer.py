"""The public API, as DESIGN has it."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import tokkit
from tests.small import CONV, pictures, tokenizer
from tokkit.devices import pick_device
from tokkit.errors import InputError, TokenFileError


def test_encode_and_decode_a_file(tmp_path: Path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (13, 9, 3), dtype=np.uint8)).save(tmp_path / "cat.png")
    tok = tokenizer()
    tokens = tok.encode(tmp_path / "cat.png")
    assert tokens.codes.shape == (1, 7 * 5, 1)
    assert (tokens.grid, tokens.sizes, tokens.codebook_sizes) == ((7, 5), ((13, 9),), (200,))
    assert tokens.payload_bits == 7 * 5 * 8
    tokens.save(tmp_path / "cat.tok")
    image = tok.decode(tokkit.Tokens.load(tmp_path / "cat.tok"))
    assert image.shape == (1, 3, 13, 9)
    assert image.min() >= 0 and image.max() <= 1
    tok.write(tmp_path / "out.png", image)
    assert Image.open(tmp_path / "out.png").size == (9, 13)
    with pytest.raises(InputError, match=r"out.png"):
        tok.write(tmp_path / "out.png", image)


def test_decode_is_what_forward_reconstructs() -> None:
    tok, batch = tokenizer(), pictures()
    with torch.no_grad():
        output = tok(batch)
    tokens = tok.encode(batch)
    assert torch.equal(tokens.codes, output.codes)
    torch.testing.assert_close(tok.decode(tokens), output.reconstruction.clamp(0, 1), atol=1e-6, rtol=0)


def test_a_batch_gives_the_codes_of_its_members() -> None:
    tok, batch = tokenizer(), pictures(5)
    alone = torch.cat([tok.encode(picture).codes for picture in batch])
    assert torch.equal(tok.encode(batch).codes, alone)


def test_inputs_of_several_sizes() -> None:
    tok = tokenizer()
    mixed = [pictures(1, 12, 10)[0], pictures(1, 11, 9)[0], pictures(1, 8, 8)[0]]
    with pytest.raises(InputError, match="encode_each"):
        tok.encode(mixed)
    each = list(tok.encode_each(mixed))
    assert [tokens.sizes for tokens in each] == [((12, 10),), ((11, 9),), ((8, 8),)]
    for tokens, picture in zip(each, mixed, strict=True):
        assert torch.equal(tokens.codes, tok.encode(picture).codes)
    with pytest.raises(InputError, match="batch_size=0"):
        next(tok.encode_each(mixed, batch_size=0))
    both = tok.encode(mixed[:2])
    assert both.sizes == ((12, 10), (11, 9)), "padded to one size"
    with pytest.raises(InputError, match="decode_each"):
        tok.decode(both)
    assert [values.shape for values in tok.decode_each(both)] == [(3, 12, 10), (3, 11, 9)]


def test_one_file_is_each_file(tmp_path: Path) -> None:
    tok = tokenizer()
    tok.write(tmp_path / "one.png", pictures(1))
    for given in (tmp_path / "one.png", str(tmp_path / "one.png"), Image.open(tmp_path / "one.png")):
        assert [tokens.names for tokens in tok.encode_each(given)] == [("one",)]  # type: ignore[arg-type]


def test_save_and_from_pretrained_give_the_same_codes_and_fingerprint(tmp_path: Path) -> None:
    for quantizer in (
        None,
        tokkit.build("quantizer", "binary", bits=128),
        tokkit.build("quantizer", "rvq", dim=8, levels=3, codebook_size=16, shared=True),
    ):
        tok, batch = tokenizer(quantizer), pictures()
        tok.save(tmp_path / "mine", force=True)
        again = tokkit.Tokenizer.from_pretrained(tmp_path / "mine")
        assert again.fingerprint == tok.fingerprint
        assert torch.equal(again.encode(batch).codes, tok.encode(batch).codes)
    with pytest.raises(InputError, match="force=True"):
        tok.save(tmp_path / "mine")


@pytest.mark.parametrize(
    "options",
    [
        {"levels": [8, 5, 5]},
        {"levels": (8, 5, 5), "gain": 1},
        {"levels": (np.int64(8), 5, 5), "gain": np.float32(1.5)},
        {"levels": (8, 5, 5), "groups": torch.tensor(1), "gain": torch.tensor(1.5)},
    ],
)
def test_options_of_python_are_saved_and_keep_the_fingerprint(tmp_path: Path, options: dict[str, object]) -> None:
    tok = tokenizer(tokkit.build("quantizer", "fsq", **options))
    tok.save(tmp_path / "saved")
    assert tokkit.Tokenizer.from_pretrained(tmp_path / "saved").fingerprint == tok.fingerprint


def test_tokens_of_another_tokenizer_are_refused() -> None:
    tok, other = tokenizer(), tokenizer(name="other")
    with torch.no_grad():
        next(other.parameters()).add_(1)
    with pytest.raises(TokenFileError, match="made by 'other'"):
        tok.decode(other.encode(pictures()))


def test_the_fingerprint_follows_the_weights() -> None:
    tok = tokenizer()
    before = tok.fingerprint
    with torch.no_grad():
        next(tok.parameters()).add_(1)
    assert tok.fingerprint != before
    assert tokenizer().fingerprint == before


def test_short_codes_where_the_quantizer_allows() -> None:
    nested = tokkit.build("quantizer", "nested", quantizer=tokkit.build("quantizer", "fsq", levels=(8, 5, 5)), num_tokens=30)
    tok = tokenizer(nested)
    tokens = tok.encode(pictures(), num_tokens=4)
    assert tokens.codes.shape == (2, 4, 1)
    assert tok.decode(tokens).shape == (2, 3, 12, 10)
    residual = tokenizer(tokkit.build("quantizer", "rvq", dim=8, levels=3, codebook_size=16))
    tokens = residual.encode(pictures(), levels=2)
    assert tokens.codes.shape == (2, 30, 2)
    assert tokens.payload_bits == 30 * 2 * 4
    assert residual.decode(tokens).shape == (2, 3, 12, 10)
    for bad in ({"num_tokens": 2}, {"levels": 1}):
        with pytest.raises(InputError, match="train with"):
            tokenizer().encode(pictures(), **bad)
    with pytest.raises(InputError, match="must be 1 to 30"):
        tok.encode(pictures(), num_tokens=31)
    with pytest.raises(InputError, match="levels=0 must be 1 to 3"):
        residual.encode(pictures(), levels=0)


def test_parts_that_do_not_fit() -> None:
    with pytest.raises(InputError, match="make them equal"):
        tokkit.Tokenizer(
            modality="image",
            encoder=tokkit.build("encoder", "conv", **CONV),
            quantizer=tokkit.build("quantizer", "fsq"),
            decoder=tokkit.build("decoder", "conv", **{**CONV, "multipliers": (1, 2, 2)}),
        )


def test_folders_that_hold_no_tokenizer(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"recipe.yaml and model.safetensors missing"):
        tokkit.Tokenizer.from_pretrained(tmp_path)
    tokenizer().save(tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(InputError, match="not the weights"):
        tokkit.Tokenizer.from_pretrained(tmp_path)


def test_devices_that_are_not_there() -> None:
    with pytest.raises(InputError, match="not a device"):
        pick_device("no-such")
    if not torch.cuda.is_available():
        with pytest.raises(InputError, match="no CUDA GPU"):
            pick_device("cuda")
        assert pick_device("auto") == torch.device("cpu")


def test_a_precision_that_there_is_not() -> None:
    with pytest.raises(InputError, match="precision='fp8' must be fp32, bf16, fp16"):
        tokkit.Tokenizer.from_pretrained("tiny-image", precision="fp8")  # type: ignore[arg-type]


@pytest.mark.parametrize("bad", ["cat.tok", torch.zeros(1, 4, 1, dtype=torch.int64), []])
def test_what_is_not_tokens_is_not_decoded(bad: object) -> None:
    with pytest.raises(InputError, match="decode takes Tokens"):
        tokenizer().decode(bad)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "bad", [torch.empty(0, 3, 8, 8), [], "nowhere.png", 42, torch.rand(3, 3), torch.full((3, 8, 8), torch.nan), torch.rand(3, 8, 8) * 300]
)
def test_inputs_that_cannot_be_encoded(bad: object) -> None:
    with pytest.raises(InputError):
        tokenizer().encode(bad)


def test_write_refuses_what_is_no_tensor(tmp_path):
    with pytest.raises(InputError, match="write takes a tensor, got a ndarray"):
        tokenizer().write(tmp_path / "a.png", torch.zeros(3, 8, 8).numpy())
