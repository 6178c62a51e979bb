"""What every Triton kernel is held to, as functions of a device: "cuda" for real, or "cpu" in Triton's interpreter.

`test_kernels.py` runs them on a GPU and, through `python tests/ops/kernel_cases.py`, interpreted.
"""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor

from tokkit import ops
from tokkit.ops.bitpack.codec import pack_rows
from tokkit.ops.codebook_lookup.reference import directions, distances, reference_lookup

CASES: dict[str, Callable[[str], None]] = {}


def case(check: Callable[[str], None]) -> Callable[[str], None]:
    """Add a check to the list."""
    CASES[check.__name__] = check
    return check


def normal(*shape: int, device: str, seed: int = 0) -> Tensor:
    """Gaussian numbers that do not depend on the device."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(device)


def assert_nearest(indices: Tensor, x: Tensor, codebook: Tensor, metric: str, source: str = "") -> None:
    """Every index is float64's argmin, or as near to it as fp32 can tell."""
    x, codebook = x.double(), codebook.double()
    expected = reference_lookup(x, codebook, metric)
    differ = (indices != expected).nonzero()[:, 0]
    for row in differ.tolist():
        distance = distances(x[row : row + 1], codebook, metric)[0]
        codes = directions(codebook) if metric == "cosine" else codebook
        scale = distance.min() if metric == "euclidean" else x[row].norm() * codes.norm(dim=1).max()
        gap = distance[indices[row]] - distance.min()
        assert gap <= (x.shape[1] + 16) * 2.0**-23 * scale, f"{source} row {row}: {indices[row]} is {gap:.3e} farther than {expected[row]}"


SHAPES = [(70, 8, 200), (33, 5, 1), (65, 3, 77), (40, 21, 300), (40, 64, 130), (20, 100, 260), (17, 256, 150), (5, 300, 70), (5, 1, 40)]
LARGE_SHAPES = [(1000, 8, 5000), (777, 13, 3000), (500, 64, 10000), (300, 129, 2049), (600, 256, 4097), (100, 512, 1000), (1, 32, 65536)]


def check_odd_sizes(device: str, part: int) -> None:
    """A third of the shapes, each with the Euclidean metric and one other, around zero and around ten."""
    for number, (rows, width, size) in enumerate(SHAPES + (LARGE_SHAPES if device == "cuda" else [])):
        if number % 3 != part:
            continue
        for metric in ("euclidean", ("cosine", "dot")[number // 3 % 2]):
            for shift in (0.0, 10.0):
                x = normal(rows, width, device=device, seed=number) + shift
                codebook = normal(size, width, device=device, seed=number + 100) + shift
                found = ops.codebook_lookup(x, codebook, metric=metric, backend="triton")
                assert_nearest(found, x, codebook, metric, f"{metric} {rows}x{width}x{size} +{shift}")


@case
def lookup_at_odd_sizes_first(device: str) -> None:
    check_odd_sizes(device, 0)


@case
def lookup_at_odd_sizes_second(device: str) -> None:
    check_odd_sizes(device, 1)


@case
def lookup_at_odd_sizes_third(device: str) -> None:
    check_odd_sizes(device, 2)


@case
def lookup_takes_the_lowest_of_equals(device: str) -> None:
    for width in (4, 8, 48):
        codebook = normal(150, width, device=device).round()
        codebook[75:] = codebook[:75].clone()
        x = normal(50, width, device=device, seed=1).round()
        found = ops.codebook_lookup(x, codebook, backend="triton")
        assert torch.equal(found, reference_lookup(x, codebook, "euclidean")), f"width {width}"


@case
def lookup_of_awkward_values(device: str) -> None:
    codebook = normal(90, 24, device=device)
    x = normal(20, 24, device=device, seed=1)
    assert ops.codebook_lookup(x, torch.zeros_like(codebook), backend="triton").eq(0).all(), "all codes equal"
    assert_nearest(ops.codebook_lookup(x, codebook * 1e-6, backend="triton"), x, codebook * 1e-6, "euclidean", "tiny codes")
    assert_nearest(ops.codebook_lookup(x * 1e9, codebook, backend="triton"), x * 1e9, codebook, "euclidean", "huge x")
    outlier = codebook.clone()
    outlier[7] *= 1e9
    assert_nearest(ops.codebook_lookup(x, outlier, backend="triton"), x, outlier, "euclidean", "one huge code")
    broken = x.clone()
    broken[3] = torch.nan
    found = ops.codebook_lookup(broken, codebook, backend="triton")
    assert found[3] == 0, "a row of NaN gets code 0"
    keep = torch.arange(20, device=device) != 3
    assert torch.equal(found[keep], ops.codebook_lookup(x, codebook, backend="triton")[keep])


@case
def lookup_of_other_layouts_and_dtypes(device: str) -> None:
    codebook = normal(100, 16, device=device)
    x = normal(60, 16, device=device, seed=1)
    expected = reference_lookup(x, codebook, "euclidean")
    wide = torch.cat([x, x], dim=1)
    assert torch.equal(ops.codebook_lookup(wide[:, :16], codebook, backend="triton"), expected), "row stride"
    assert torch.equal(ops.codebook_lookup(x.T.contiguous().T, codebook, backend="triton"), expected), "column stride"
    assert torch.equal(ops.codebook_lookup(x.view(3, 20, 16), codebook.T.contiguous().T, backend="triton"), expected.view(3, 20))
    assert ops.codebook_lookup(x[:0], codebook, backend="triton").shape == (0,)
    for dtype in (torch.bfloat16, torch.float16):
        low = x.to(dtype)
        assert_nearest(ops.codebook_lookup(low, codebook, backend="triton"), low, codebook, "euclidean", str(dtype))
    with torch.autocast(device, dtype=torch.bfloat16):
        assert torch.equal(ops.codebook_lookup(x, codebook, backend="triton"), expected), "autocast"


@case
def lookup_of_a_row_ignores_the_others(device: str) -> None:
    for width, size in ((8, 300), (40, 200)) if device == "cpu" else ((8, 4096), (40, 8192), (256, 1024)):
        x, codebook = normal(70, width, device=device), normal(size, width, device=device, seed=1)
        whole = ops.codebook_lookup(x, codebook, backend="triton")
        parts = [ops.codebook_lookup(part, codebook, backend="triton") for part in x.split([1, 6, 63])]
        assert torch.equal(whole, torch.cat(parts)), f"width {width}"


@case
def fast_lookup_is_close(device: str) -> None:
    x, codebook = normal(100, 32, device=device), normal(256, 32, device=device, seed=1)
    found = ops.codebook_lookup(x, codebook, backend="triton", precision="fast")
    assert (found != reference_lookup(x, codebook, "euclidean")).sum() <= 1


@case
def residual_levels(device: str) -> None:
    for rows, width, size, levels in ((45, 6, 40, 3), (30, 48, 100, 2)) if device == "cpu" else ((1000, 128, 1024, 8), (333, 6, 100, 4)):
        x = normal(rows, width, device=device)
        books = normal(levels, size, width, device=device, seed=1) * 0.7
        found = ops.residual_lookup(x, books, backend="triton")
        residual, total = x, torch.zeros_like(x)
        for level in range(levels):
            assert_nearest(found.codes[:, level], residual, books[level], "euclidean", f"level {level}")
            near = books[level][found.codes[:, level]]
            residual, total = residual - near, total + near
        assert torch.equal(found.quantized, total)


@case
def bits_round_trip(device: str) -> None:
    generator = torch.Generator().manual_seed(0)
    for widths, count in ((1, 37), (3, 37), (10, 33), (18, 7), (63, 5), ([3, 0, 10], 36), ([7, 9, 1, 20], 36), (10, 0)):
        every = torch.tensor([widths] if isinstance(widths, int) else widths).repeat(max(count, 1))[:count]
        codes = torch.randint(0, 2**62, (5, count), generator=generator) & ((1 << every) - 1)
        packed = ops.bitpack(codes.to(device), widths, backend="triton")
        assert torch.equal(packed.cpu(), torch.from_numpy(pack_rows(codes.numpy(), widths))), f"widths {widths}"
        assert torch.equal(ops.bitunpack(packed, widths, count, backend="triton").cpu(), codes), f"widths {widths}"


@case
def signs_round_trip(device: str) -> None:
    for rows, width in ((0, 3), (5, 8), (33, 130), (7, 1)):
        x = normal(rows, width, device=device)
        packed = ops.pack_signs(x, backend="triton")
        assert torch.equal(packed, ops.pack_signs(x, backend="reference"))
        assert torch.equal(ops.unpack_signs(packed, width, backend="triton"), torch.where(x > 0, 1.0, -1.0))


@case
def entropies_and_gradients(device: str) -> None:
    for rows, width, dtype in ((1, 1, torch.float32), (67, 19, torch.float32), (40, 130, torch.float32), (33, 8, torch.bfloat16)):
        leaves = [(normal(rows, width, device=device) * 0.02).to(dtype).requires_grad_() for _ in range(2)]
        for x, backend in zip(leaves, ("triton", "reference"), strict=True):
            out = ops.binary_entropy(x, 0.05, backend=backend)
            (1.3 * out.sample - out.batch).backward()
        triton, reference = (ops.binary_entropy(x, 0.05, backend=name) for x, name in zip(leaves, ("triton", "reference"), strict=True))
        torch.testing.assert_close(triton.sample, reference.sample, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(triton.batch, reference.batch, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(leaves[0].grad, leaves[1].grad, rtol=1e-4 if dtype == torch.float32 else 1e-2, atol=1e-5)


@case
def snakes_and_gradients(device: str) -> None:
    shapes = [(1, 1, 1), (2, 3, 29), (1, 5, 1030), (3, 2, 64)] + ([(72, 1536, 29), (3, 96, 9281)] if device == "cuda" else [])
    for number, (shape, dtype) in enumerate(itertools.product(shapes, (torch.float32, torch.bfloat16))):
        x, force = ((2 * normal(*shape, device=device, seed=seed)).to(dtype) for seed in (number, 100))
        alpha = normal(shape[1], device=device, seed=200).square() + 0.1
        results = []
        for backend, kind in (("triton", dtype), ("reference", torch.float64)):
            leaves = [x.to(kind).requires_grad_(), alpha.to(torch.promote_types(kind, torch.float32)).requires_grad_()]
            out = ops.snake(*leaves, backend=backend)
            results.append([out.detach(), *torch.autograd.grad(out, leaves, force.to(kind))])
            assert out.dtype == kind and out.shape == shape
        for found, expected in zip(*results, strict=True):
            close = 1e-4 if expected.dim() == 1 else 1e-5 if dtype == torch.float32 else 1e-2  # alpha's gradient, a sum, is fp32's
            size = expected.abs().max().item() if expected.dim() == 1 else 1.0
            torch.testing.assert_close(found.double(), expected, rtol=close, atol=close * size)


def main(device: str = "cpu", *names: str) -> int:
    """Run the named cases, or all, on "cuda" or in the interpreter ("cpu"); print one line each. Returns the number of failures."""
    if device == "cpu":
        import interpreter

        interpreter.enable()
    failures = 0
    for name in names or CASES:
        began = time.perf_counter()
        try:
            CASES[name](device)
        except Exception as error:
            failures += 1
            print(f"FAILED {name}: {type(error).__name__}: {str(error)[:500]}", flush=True)
        else:
            print(f"passed {name} {time.perf_counter() - began:.1f} s", flush=True)
    return failures


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
