"""Encoding a folder against the network alone: both see the same batches."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import tokkit
from tests.small import tokenizer
from tokkit import chunking
from tokkit.bench.encode import measure_encode
from tokkit.bulk.encode import EncodeOptions
from tokkit.errors import InputError


def test_a_folder_of_several_sizes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    for index, (height, width) in enumerate([(12, 10), (11, 9), (8, 8), (12, 10), (8, 8)]):
        Image.fromarray(random.integers(0, 255, (height, width, 3), dtype=np.uint8)).save(tmp_path / f"{index}.png")
    tok = tokenizer()
    seen: list[Tensor] = []
    codes_of = tok.codes_of
    monkeypatch.setattr(tok, "codes_of", lambda values: seen.append(values) or codes_of(values))
    rates = measure_encode(tok, tmp_path, EncodeOptions(batch_size=2), runs=1)
    assert rates.files == 5 and len(rates.network) == len(rates.end_to_end) == 1 and min(rates.network + rates.end_to_end) > 0
    once = len(seen) // 4  # alone, whole, and again, counted
    assert once == 3 and all(torch.equal(alone, whole) for alone, whole in zip(seen[:once], seen[once : 2 * once], strict=True))
    (tmp_path / "broken.png").write_bytes(b"not a picture")
    with pytest.raises(InputError, match=r"broken\.png"):
        measure_encode(tok, tmp_path, EncodeOptions())


def test_what_is_encoded_in_pieces_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    modality = tokkit.build("modality", "audio", sample_rate=8000)
    modality.write(tmp_path / "long.wav", torch.zeros(1, 9000))
    small = {"width": 4, "strides": (2, 4)}
    tok = tokkit.Tokenizer(
        modality=modality,
        encoder=tokkit.build("encoder", "dac", **small),
        quantizer=tokkit.build("quantizer", "fsq", levels=(3, 3)),
        decoder=tokkit.build("decoder", "dac", **small, dim=4),
    ).eval()
    assert measure_encode(tok, tmp_path, EncodeOptions(), runs=1).files == 1
    monkeypatch.setattr(chunking, "SECONDS", 0.1)
    with pytest.raises(InputError, match=r"long\.wav: encoded in pieces"):
        measure_encode(tok, tmp_path, EncodeOptions(), runs=1)
