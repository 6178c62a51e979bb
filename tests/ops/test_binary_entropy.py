"""Factorised entropies against the softmax over all codes, and every gradient against autograd's."""

import sys

import pytest
import torch

from tests.ops.kernel_cases import normal
from tokkit import ops
from tokkit.errors import InputError
from tokkit.ops.binary_entropy.reference import softmax_entropy_reference


@pytest.mark.parametrize("pool", ["shared", "per_group"])
@pytest.mark.parametrize("group_bits", [1, 2, 3, 8, 12])
def test_group_form_equals_the_softmax(pool: str, group_bits: int) -> None:
    x = (normal(31, 24, device="cpu").double() * 0.03).requires_grad_()
    found, expected = ops.group_entropy(x, group_bits, 0.1, pool), softmax_entropy_reference(x, group_bits, 0.1, pool)
    torch.testing.assert_close(tuple(found), expected)
    for one, other in zip(found, expected, strict=True):
        (slope,), (wanted,) = torch.autograd.grad(one, x, retain_graph=True), torch.autograd.grad(other, x, retain_graph=True)
        torch.testing.assert_close(slope, wanted)


def test_group_form_in_chunks_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    x = (normal(50, 12, device="cpu") * 0.03).requires_grad_()
    whole = ops.group_entropy(x, 4, 0.1)
    (slope,) = torch.autograd.grad(whole.sample - whole.batch, x)
    monkeypatch.setattr(sys.modules["tokkit.ops.binary_entropy"], "_CELLS_A_CHUNK", 64)
    parts = ops.group_entropy(x, 4, 0.1)
    torch.testing.assert_close(parts, whole)
    torch.testing.assert_close(torch.autograd.grad(parts.sample - parts.batch, x)[0], slope)


def test_groups_of_one_bit_are_the_binary_form() -> None:
    x = normal(40, 9, device="cpu") * 0.02
    torch.testing.assert_close(ops.group_entropy(x, 1, 0.05, "per_group"), ops.binary_entropy(x, 0.05))


@pytest.mark.parametrize("backend", ["cpu", "reference"])
@pytest.mark.parametrize(("rows", "width"), [(1, 1), (37, 19), (0, 4)])
def test_gradients(backend: str, rows: int, width: int) -> None:
    x = (normal(rows, width, device="cpu").double() * 0.02).requires_grad_()
    if rows:
        assert torch.autograd.gradcheck(lambda value: ops.binary_entropy(value, 0.1, backend=backend), (x,))
    out = ops.binary_entropy(x, 0.1, backend=backend)
    (1.3 * out.sample - out.batch).backward()
    assert torch.isfinite(x.grad).all()


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_values(backend: str) -> None:
    sure = ops.binary_entropy(torch.tensor([[5.0, -5.0], [5.0, 5.0]]), 0.01, backend=backend)
    assert sure.sample.item() == 0
    assert sure.batch.item() == pytest.approx(0.6931472, abs=1e-6)
    unsure = ops.binary_entropy(torch.zeros(3, 4), 0.01, backend=backend)
    assert unsure.sample.item() == pytest.approx(4 * 0.6931472, abs=1e-5)


def test_far_saturated_bits_keep_finite_gradients() -> None:
    x = torch.tensor([[100.0, -100.0], [99.0, -100.0]], requires_grad=True)
    out = ops.binary_entropy(x, 0.01)
    (out.sample - out.batch).backward()
    assert torch.isfinite(x.grad).all()
    x = torch.full((3, 8), 50.0, requires_grad=True)
    out = ops.group_entropy(x, 4, 0.01)
    (out.sample - out.batch).backward()
    assert torch.isfinite(x.grad).all()


def test_low_precision_and_autocast_compute_in_fp32() -> None:
    x = (normal(30, 8, device="cpu") * 0.02).bfloat16().requires_grad_()
    plain = ops.binary_entropy(x.float(), 0.05)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(ops.binary_entropy(x, 0.05), plain)
        grouped = ops.group_entropy(x, 4, 0.05)
    torch.testing.assert_close(grouped, ops.group_entropy(x.float(), 4, 0.05))
    grouped.batch.backward()
    assert x.grad.dtype == torch.bfloat16


def test_compiles_whole() -> None:
    x = (normal(30, 8, device="cpu") * 0.02).requires_grad_()

    @torch.compile(fullgraph=True, backend="aot_eager")
    def loss(value: torch.Tensor) -> torch.Tensor:
        one, two = ops.binary_entropy(value, 0.05), ops.group_entropy(value, 4, 0.05)
        return one.sample - one.batch + two.sample - two.batch

    (slope,) = torch.autograd.grad(loss(x), x)
    one, two = ops.binary_entropy(x, 0.05), ops.group_entropy(x, 4, 0.05)
    (wanted,) = torch.autograd.grad(one.sample - one.batch + two.sample - two.batch, x)
    torch.testing.assert_close(slope, wanted)


def test_errors() -> None:
    for call, message in [
        (lambda: ops.binary_entropy(torch.zeros(3), 1.0), r"\[N, d\]"),
        (lambda: ops.binary_entropy(torch.zeros(3, 2), 0.0), "above 0"),
        (lambda: ops.binary_entropy(torch.zeros(3, 2), 1.0, backend="triton"), "cannot run"),
        (lambda: ops.group_entropy(torch.zeros(3, 5), 2, 1.0), "divides"),
        (lambda: ops.group_entropy(torch.zeros(3, 60), 30, 1.0), r"1\.\.24"),
        (lambda: ops.group_entropy(torch.zeros(3, 4), 2, 1.0, "both"), "shared or per_group"),
    ]:
        with pytest.raises(InputError, match=message):
            call()
