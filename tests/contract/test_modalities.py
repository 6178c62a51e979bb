"""What holds for every registered modality."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import torch
from torch import Tensor

import tokkit
from tokkit import registry
from tokkit.errors import InputError
from tokkit.modalities.base import Modality

TOLERANCE = {"image": 1 / 255}
"""Modality -> the largest error that its own output files make; a modality that is missing here tests its files itself."""


@pytest.fixture(params=tokkit.names("modality"))
def modality(request: pytest.FixtureRequest) -> Modality:
    return tokkit.build("modality", request.param)


def example(modality: Modality) -> Tensor:
    """Values in the public range, an odd number of them along each axis."""
    values = torch.rand(modality.channels, *(33, 21, 9)[: modality.rank], generator=torch.Generator().manual_seed(0))
    return modality.denormalize(modality.normalize(values))


def test_it_says_what_it_is(modality: Modality) -> None:
    assert registry.spec_of(modality).name == modality.name
    assert modality.rank >= 1 and modality.channels >= 1
    assert all(suffix == suffix.lower() and suffix.startswith(".") for suffix in modality.suffixes)
    assert modality.output_suffix in modality.suffixes
    assert registry.entries("modality")[modality.name].summary


def test_normalize_and_back(modality: Modality) -> None:
    values = example(modality)
    assert torch.allclose(modality.denormalize(modality.normalize(values)), values, atol=1e-5)
    batch = torch.stack([values, values])
    assert torch.equal(modality.normalize(batch)[1], modality.normalize(values))
    wild = torch.full_like(values, 1e6).requires_grad_()
    assert modality.denormalize(wild).abs().max() < 1e6 and modality.denormalize(wild, clamp=False).max() > 1e4
    modality.denormalize(wild, clamp=False).sum().backward()
    assert wild.grad is not None and wild.grad.abs().min() > 0


def test_write_and_read(modality: Modality, tmp_path: Path) -> None:
    if modality.name not in TOLERANCE:
        pytest.skip("tests its files itself")
    values = example(modality)
    path = tmp_path / f"one{modality.output_suffix}"
    modality.write(path, values)
    sample = modality.read(path)
    assert sample.name == "one" and sample.values.dtype == torch.float32 and len(sample.extras) == len(modality.extra_fields)
    restored = modality.restore(sample.values, sample.extras)
    assert restored.shape == values.shape and (restored - values).abs().max() <= TOLERANCE[modality.name]
    with path.open("rb") as stream:
        from_stream = modality.read(stream, name="a stream")
    assert from_stream.name == "a stream" and torch.equal(from_stream.values, sample.values)
    with pytest.raises(InputError, match=path.name):
        modality.write(path, values)
    modality.write(path, values, force=True)
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_unreadable_files_are_named(modality: Modality, tmp_path: Path) -> None:
    for name, content in (("empty", b""), ("garbage", b"\x00\xffgarbage" * 50)):
        path = tmp_path / f"{name}{modality.output_suffix}"
        path.write_bytes(content)
        with pytest.raises(InputError, match=path.name):
            modality.read(path)
        with pytest.raises(InputError, match=r"shard\.tar:x"):
            modality.read(io.BytesIO(content), name="shard.tar:x")
    for path in (tmp_path, tmp_path / f"none{modality.output_suffix}"):
        with pytest.raises(InputError, match=path.name):
            modality.read(path)


def test_samples(modality: Modality) -> None:
    values = example(modality)
    for given, count in ((values, 1), (torch.stack([values] * 2), 2), ([values, values, values], 3)):
        found = modality.samples(given)
        assert len(found) == count and len({sample.name for sample in found}) == count
        assert all(sample.values.shape[0] == modality.channels and sample.values.dtype == torch.float32 for sample in found)
    for wrong in (object(), None, values.fill_(float("nan"))):
        with pytest.raises(InputError):
            modality.samples(wrong)


def test_crop(modality: Modality) -> None:
    values = example(modality)
    for size in (8, 64):
        cut = modality.crop(values, size, generator=torch.Generator().manual_seed(1))
        assert cut.shape == (modality.channels, *(size,) * modality.rank)
        assert torch.equal(cut, modality.crop(values, size, generator=torch.Generator().manual_seed(1)))
