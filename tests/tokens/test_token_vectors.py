"""The stored vectors: read by the second reader and by tokkit, and written again to the same bytes."""

import json
from pathlib import Path

import pytest
import torch
from token_oracle import read

from tokkit.tokens import TokenReader, Tokens, TokenWriter

VECTORS = sorted((Path(__file__).parent / "vectors").glob("*.json"))


@pytest.fixture(params=VECTORS, ids=lambda path: path.stem)
def vector(request):
    """(bytes of the file, what is in it)"""
    described = json.loads(request.param.read_text())
    del described["about"]
    return bytes.fromhex(request.param.with_suffix(".hex").read_text()), described


def test_vectors_are_there():
    assert len(VECTORS) == 6


def test_the_page_alone_reads_them(vector):
    data, described = vector
    assert read(data) == described


def test_tokkit_reads_them(vector, tmp_path):
    data, described = vector
    path = tmp_path / "x.tok"
    path.write_bytes(data)
    with TokenReader(path) as reader:
        header = reader.header
        samples = [
            {
                "name": tokens.names[0],
                "grid": list(tokens.grid),
                "size": list(tokens.sizes[0]),
                "extras": list(tokens.extras[0]),
                "codes": tokens.codes[0].tolist(),
            }
            for tokens in reader
        ]
    assert {
        "fingerprint": header.fingerprint,
        "tokenizer": header.tokenizer,
        "modality": header.modality,
        "sample_rate": header.sample_rate or 0,
        "codebook_sizes": list(header.codebook_sizes),
        "extra_fields": list(header.extra_fields),
        "samples": samples,
    } == described


def test_tokkit_writes_the_same_bytes(vector, tmp_path):
    data, described = vector
    path = tmp_path / "x.tok"
    source = tmp_path / "source.tok"
    source.write_bytes(data)
    with TokenReader(source) as reader, TokenWriter(path, reader.header) as writer:
        for sample in described["samples"]:
            tokens = Tokens(
                codes=torch.tensor(sample["codes"], dtype=torch.int64).reshape(1, -1, len(described["codebook_sizes"])),
                codebook_sizes=described["codebook_sizes"],
                grid=sample["grid"],
                modality=described["modality"],
                tokenizer=described["tokenizer"],
                fingerprint=described["fingerprint"],
                sizes=(sample["size"],),
                names=(sample["name"],),
                sample_rate=described["sample_rate"] or None,
                extra_fields=described["extra_fields"],
                extras=(sample["extras"],),
            )
            writer.append(tokens)
    assert path.read_bytes() == data
