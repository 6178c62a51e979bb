"""The CPU lookup: equal to float64's argmin, whatever the layout; errors that say what would work; compile and autocast."""

import pytest
import torch

from tests.ops.kernel_cases import assert_nearest, normal
from tokkit import ops
from tokkit.errors import InputError
from tokkit.ops.codebook_lookup.reference import reference_lookup

BACKENDS = ["cpu", "reference", pytest.param("faiss", marks=pytest.mark.skipif("not __import__('importlib.util').util.find_spec('faiss')"))]


@pytest.mark.parametrize("metric", ["euclidean", "cosine", "dot"])
@pytest.mark.parametrize(("rows", "width", "size"), [(700, 8, 1000), (33, 5, 1), (1, 1, 7), (130, 64, 333), (65, 257, 129)])
@pytest.mark.parametrize("shift", [0.0, 10.0])
def test_equals_float64(metric: str, rows: int, width: int, size: int, shift: float) -> None:
    x, codebook = normal(rows, width, device="cpu") + shift, normal(size, width, device="cpu", seed=1) + shift
    assert torch.equal(ops.codebook_lookup(x, codebook, metric=metric), reference_lookup(x, codebook, metric))
    fast = ops.codebook_lookup(x, codebook, metric=metric, precision="fast")
    assert (fast != reference_lookup(x, codebook, metric)).sum() <= 1


def test_reference_is_the_definition() -> None:
    x, codebook = torch.tensor([[1.0, 0.1], [0.0, 3.0]]), torch.tensor([[0.0, 1.0], [2.0, 0.0], [9.0, 9.0]])
    assert reference_lookup(x, codebook, "euclidean").tolist() == [1, 0]
    assert reference_lookup(x, codebook, "cosine").tolist() == [1, 0]
    assert reference_lookup(x, codebook, "dot").tolist() == [2, 2]


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_lowest_of_equals(backend: str) -> None:
    codebook = normal(64, 6, device="cpu").round()
    codebook[32:] = codebook[:32].clone()
    x = normal(200, 6, device="cpu", seed=1).round()
    distance = (x[:, None].long() - codebook.long()).square().sum(-1)
    expected = (distance == distance.amin(1, keepdim=True)).int().argmax(1)
    assert torch.equal(ops.codebook_lookup(x, codebook, backend=backend), expected)


@pytest.mark.parametrize("backend", BACKENDS)
def test_backends_agree(backend: str) -> None:
    x, codebook = normal(90, 12, device="cpu"), normal(50, 12, device="cpu", seed=1)
    for metric in ("euclidean", "cosine", "dot"):
        assert_nearest(ops.codebook_lookup(x, codebook, metric=metric, backend=backend), x, codebook, metric)


def test_layouts_and_dtypes() -> None:
    x, codebook = normal(3, 20, 16, device="cpu"), normal(100, 16, device="cpu", seed=1)
    expected = reference_lookup(x.reshape(-1, 16), codebook, "euclidean").view(3, 20)
    assert torch.equal(ops.codebook_lookup(x, codebook), expected)
    assert torch.equal(ops.codebook_lookup(x.transpose(0, 1), codebook), expected.T)
    assert torch.equal(ops.codebook_lookup(x.transpose(1, 2).contiguous().transpose(1, 2), codebook), expected)
    assert ops.codebook_lookup(x[:0], codebook).shape == (0, 20)
    for dtype in (torch.bfloat16, torch.float16):
        low = x.reshape(-1, 16).to(dtype)
        assert torch.equal(ops.codebook_lookup(low, codebook), reference_lookup(low, codebook, "euclidean"))


@pytest.mark.parametrize(("width", "size"), [(8, 4096), (96, 300)])
def test_a_row_ignores_the_others(width: int, size: int) -> None:
    x, codebook = normal(300, width, device="cpu"), normal(size, width, device="cpu", seed=1)
    whole = ops.codebook_lookup(x, codebook)
    assert torch.equal(whole, torch.cat([ops.codebook_lookup(part, codebook) for part in x.split([1, 9, 290])]))


def test_distances() -> None:
    x, codebook = normal(9, 7, device="cpu"), normal(20, 7, device="cpu", seed=1)
    euclidean = ops.codebook_lookup_with_distance(x, codebook)
    torch.testing.assert_close(euclidean.distances, torch.cdist(x, codebook).amin(1))
    cosine = ops.codebook_lookup_with_distance(x, codebook, metric="cosine")
    torch.testing.assert_close(cosine.distances, 1 - torch.cosine_similarity(x[:, None], codebook[None], dim=-1).amax(1))
    dot = ops.codebook_lookup_with_distance(x, codebook, metric="dot")
    torch.testing.assert_close(dot.distances, -(x @ codebook.T).amax(1))


def test_inputs_that_cannot_work() -> None:
    x, codebook = torch.zeros(4, 3), torch.zeros(5, 3)
    for call, message in [
        (lambda: ops.codebook_lookup(x, torch.zeros(5, 2)), "codebook"),
        (lambda: ops.codebook_lookup(x, torch.zeros(0, 3)), "K >= 1"),
        (lambda: ops.codebook_lookup(x.long(), codebook), "floating"),
        (lambda: ops.codebook_lookup(x, codebook, metric="l2"), "euclidean, cosine, dot"),
        (lambda: ops.codebook_lookup(x, codebook, precision="tf32"), "exact, fast"),
        (lambda: ops.codebook_lookup(x, codebook, backend="cuda"), "backend must be one of"),
        (lambda: ops.codebook_lookup(x, codebook, backend="triton"), "cannot run: Triton needs a GPU"),
        (lambda: ops.codebook_lookup(x, codebook.to("meta")), "move one"),
    ]:
        with pytest.raises(InputError, match=message):
            call()


def test_compiles_whole_and_ignores_autocast() -> None:
    x, codebook = normal(40, 8, device="cpu"), torch.nn.Parameter(normal(30, 8, device="cpu", seed=1))

    @torch.compile(fullgraph=True, backend="aot_eager")
    def quantize(values: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.embedding(ops.codebook_lookup(values, codes), codes) + 1

    expected = reference_lookup(x, codebook.detach(), "euclidean")
    assert torch.equal(quantize(x, codebook), codebook[expected] + 1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(ops.codebook_lookup(x, codebook), expected)


def test_op_is_well_formed() -> None:
    x, codebook = normal(6, 4, device="cpu"), normal(5, 4, device="cpu", seed=1)
    ops.codebook_lookup(x, codebook)
    torch.library.opcheck(torch.ops.tokkit.codebook_lookup.default, (x, codebook, "euclidean", "auto", "exact"))
