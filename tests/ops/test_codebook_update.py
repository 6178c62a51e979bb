"""Sums, counts and the EMA step against the one-hot way."""

import pytest
import torch

from tests.ops.kernel_cases import normal
from tokkit import ops
from tokkit.errors import InputError


@pytest.mark.parametrize("backend", ["scatter", "sorted", "auto"])
@pytest.mark.parametrize("size", [1, 11, 500])
def test_segment_sums(backend: str, size: int) -> None:
    x = normal(230, 7, device="cpu")
    indices = torch.randint(0, size, (230,), generator=torch.Generator().manual_seed(0))
    found, expected = ops.segment_sums(x, indices, size, backend=backend), ops.segment_sums(x, indices, size, backend="reference")
    torch.testing.assert_close(found.sums, expected.sums)
    assert torch.equal(found.counts, expected.counts)
    assert found.counts.sum() == 230
    empty = ops.segment_sums(x[:0], indices[:0], size, backend=backend)
    assert empty.sums.shape == (size, 7) and empty.sums.eq(0).all() and empty.counts.eq(0).all()


def test_deterministic_is_sorted() -> None:
    x, indices = normal(64, 3, device="cpu").bfloat16(), torch.arange(64) % 5
    assert torch.equal(ops.segment_sums(x, indices, 5, deterministic=True).sums, ops.segment_sums(x, indices, 5, backend="sorted").sums)


def test_ema_moves_codes_to_the_means_of_their_rows() -> None:
    codebook, counts, sums = torch.zeros(3, 2), torch.zeros(3), torch.zeros(3, 2)
    x = torch.tensor([[1.0, 2.0], [3.0, 4.0], [10.0, 10.0]])
    batch = ops.segment_sums(x, torch.tensor([0, 0, 1]), 3)
    ops.ema_update(codebook, counts, sums, batch.counts, batch.sums, decay=0.0, epsilon=1e-9)
    torch.testing.assert_close(codebook[:2], torch.tensor([[2.0, 3.0], [10.0, 10.0]]))
    assert torch.isfinite(codebook).all()
    ops.ema_update(codebook, counts, sums, torch.zeros(3), torch.zeros(3, 2), decay=0.5, epsilon=1e-9)
    torch.testing.assert_close(counts, torch.tensor([1.0, 0.5, 0.0]))
    torch.testing.assert_close(codebook[:2], torch.tensor([[2.0, 3.0], [10.0, 10.0]]))


def test_usage_histogram() -> None:
    codes = torch.tensor([[[0, 3], [0, 1]], [[2, 3], [2, 3]]])
    first, second = ops.usage_histogram(codes, (3, 5))
    assert first.tolist() == [2, 0, 2]
    assert second.tolist() == [0, 1, 0, 3, 0]


def test_errors_and_compile() -> None:
    x, indices = normal(20, 4, device="cpu"), torch.arange(20) % 6
    for call, message in [
        (lambda: ops.segment_sums(x, indices[:3], 6), "indices"),
        (lambda: ops.segment_sums(x, indices, 6, backend="triton"), "scatter, sorted, reference"),
        (lambda: ops.usage_histogram(x.long(), (3,)), "1 codebook sizes"),
        (lambda: ops.ema_update(x, torch.zeros(3), x, torch.zeros(20), x, decay=0.5), "running_counts"),
        (lambda: ops.ema_update(x, torch.zeros(20), x, torch.zeros(20), x, decay=2), "decay"),
    ]:
        with pytest.raises(InputError, match=message):
            call()

    @torch.compile(fullgraph=True, backend="aot_eager")
    def step(values: torch.Tensor, codes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        out = ops.segment_sums(values, codes, 6)
        return out.sums + out.counts[:, None], ops.usage_histogram(codes[:, None], (6,))[0]

    sums, usage = step(x, indices)
    expected = ops.segment_sums(x, indices, 6)
    torch.testing.assert_close(sums, expected.sums + expected.counts[:, None])
    assert torch.equal(usage, expected.counts)
