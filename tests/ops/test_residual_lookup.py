"""Residual lookup against its definition."""

import pytest
import torch

from tests.ops.kernel_cases import normal
from tokkit import ops
from tokkit.errors import InputError


def test_equals_the_definition() -> None:
    x, books = normal(150, 24, device="cpu"), normal(4, 60, 24, device="cpu", seed=1) * 0.6
    found, expected = ops.residual_lookup(x, books), ops.residual_lookup(x, books, backend="reference")
    assert torch.equal(found.codes, expected.codes)
    assert torch.equal(found.quantized, expected.quantized)
    assert found.codes.shape == (150, 4)
    lookup = sum(books[level][found.codes[:, level]] for level in range(4))
    assert torch.equal(found.quantized, lookup)
    assert (x - found.quantized).norm() < (x - books[0][found.codes[:, 0]]).norm()


def test_one_level_is_a_lookup_and_rows_are_their_own() -> None:
    x, books = normal(70, 8, device="cpu"), normal(1, 90, 8, device="cpu", seed=1)
    found = ops.residual_lookup(x, books)
    assert torch.equal(found.codes[:, 0], ops.codebook_lookup(x, books[0]))
    assert torch.equal(found.codes, torch.cat([ops.residual_lookup(part, books).codes for part in x.split(13)]))
    assert ops.residual_lookup(x[:0], books).codes.shape == (0, 1)


def test_errors_and_compile() -> None:
    x, books = normal(20, 8, device="cpu"), normal(2, 9, 8, device="cpu", seed=1)
    with pytest.raises(InputError, match=r"\[L, K, d\]"):
        ops.residual_lookup(x, books[0])
    with pytest.raises(InputError, match="faiss"):
        ops.residual_lookup(x, books, backend="faiss")
    compiled = torch.compile(lambda a, b: ops.residual_lookup(a, b).codes * 2, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(x, books), ops.residual_lookup(x, books).codes * 2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert ops.residual_lookup(x, books).quantized.dtype == torch.float32
