"""`nearest.c`, for every kind of processor that this one can stand in for, against matrix products."""

from __future__ import annotations

import pytest
import torch

from tests.ops.kernel_cases import assert_nearest, normal
from tokkit import ops
from tokkit.ops.codebook_lookup import native

compiled = pytest.mark.skipif(native.library() is None, reason="tokkit was installed without a C compiler: nearest.c is not there")
KINDS = [
    pytest.param(kind, marks=pytest.mark.skipif(kind > native.best_kind(), reason=f"no {name} here, or nearest.c was not compiled"))
    for kind, name in native.KINDS.items()
]
SHAPES = [(1, 1, 1), (5, 3, 31), (4, 8, 32), (129, 7, 33), (300, 16, 500), (131, 33, 1000), (259, 100, 257), (70, 513, 64)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("rows", "width", "size"), SHAPES)
def test_the_nearest_and_the_second(kind: int, rows: int, width: int, size: int) -> None:
    x, codes = normal(rows, width, device="cpu"), normal(size, width, device="cpu", seed=1)
    half = codes.square().sum(1) / 2
    index, best, second = native.nearest(x, codes, half, kind)
    scores = x.double() @ codes.double().T - half.double()
    largest = scores.topk(min(2, size), dim=1).values
    torch.testing.assert_close(best.double(), largest[:, 0], rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(scores.gather(1, index[:, None])[:, 0], largest[:, 0], rtol=1e-5, atol=1e-4)
    if size > 1:
        torch.testing.assert_close(second.double(), largest[:, 1], rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_the_lowest_of_equals_with_nothing_between(kind: int) -> None:
    codes = normal(40, 6, device="cpu").round().repeat(3, 1)
    x = normal(50, 6, device="cpu", seed=1).round()
    half = codes.square().sum(1) / 2
    index, best, second = native.nearest(x, codes, half, kind)
    assert torch.equal(index, torch.from_numpy((x @ codes.T - half).numpy().argmax(1)))
    assert torch.equal(best, second)


@compiled
def test_threads_change_nothing() -> None:
    x, codes = normal(1000, 32, device="cpu"), normal(2000, 32, device="cpu", seed=1)
    half = codes.square().sum(1) / 2
    before = torch.get_num_threads()
    try:
        found = []
        for threads in (1, 3):
            torch.set_num_threads(threads)
            found.append(native.nearest(x, codes, half))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


@pytest.mark.parametrize("metric", ["euclidean", "cosine", "dot"])
def test_without_a_compiler_products_answer(metric: str, monkeypatch: pytest.MonkeyPatch) -> None:
    x, codes = normal(200, 12, device="cpu") + 10, normal(300, 12, device="cpu", seed=1) + 10
    with_it = ops.codebook_lookup(x, codes, metric=metric, backend="cpu")
    monkeypatch.setattr(native, "library", lambda: None)
    without = ops.codebook_lookup(x, codes, metric=metric, backend="cpu")
    assert torch.equal(with_it, without)
    assert_nearest(without, x, codes, metric)
    assert "products" in ops.explain("codebook_lookup", x).why


def test_not_a_number_and_infinity_harm_only_their_rows() -> None:
    x, codes = normal(200, 8, device="cpu"), normal(100, 8, device="cpu", seed=1)
    clean = ops.codebook_lookup(x, codes, backend="cpu")
    spoiled = x.clone()
    spoiled[3, 2], spoiled[100, 0] = float("nan"), float("inf")
    found = ops.codebook_lookup(spoiled, codes, backend="cpu")
    others = [row for row in range(200) if row not in (3, 100)]
    assert torch.equal(found[others], clean[others]) and int(found.min()) >= 0 and int(found.max()) < 100
