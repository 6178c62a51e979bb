"""The bit layout: against one written out bit by bit, in numpy without torch and in tensors."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from tokkit import ops
from tokkit.errors import InputError
from tokkit.ops.bitpack.codec import pack_bits_numpy, unpack_bits_numpy, width_of


def spelled_out(values: np.ndarray, widths: np.ndarray) -> bytes:
    bits = [int(value) >> place & 1 for value, width in zip(values, widths, strict=True) for place in range(width)]
    return bytes(sum(bit << place for place, bit in enumerate(bits[start : start + 8])) for start in range(0, len(bits), 8))


@pytest.mark.parametrize("count", [0, 1, 7, 64, 500])
def test_numpy_equals_the_definition(count: int) -> None:
    random = np.random.default_rng(count)
    for _ in range(10):
        widths = random.integers(0, 64, count)
        values = random.integers(0, 2**63 - 1, count) & ((1 << widths.astype(np.int64)) - 1)
        packed = pack_bits_numpy(values, widths)
        assert packed == spelled_out(values, widths)
        assert np.array_equal(unpack_bits_numpy(packed, widths), values)


@pytest.mark.parametrize("width", [1, 2, 8, 10, 16, 18, 32, 63])
def test_one_width(width: int) -> None:
    values = np.random.default_rng(0).integers(0, 2**width - 1, 3001, endpoint=True)
    packed = pack_bits_numpy(values, width)
    assert packed == spelled_out(values, np.full(3001, width))
    assert np.array_equal(unpack_bits_numpy(bytearray(packed), width, 3001), values)


def test_many_values_cross_the_chunks() -> None:
    values = np.random.default_rng(0).integers(0, 1024, 600_001)
    assert np.array_equal(unpack_bits_numpy(pack_bits_numpy(values, 10), 10, 600_001), values)


def test_cycle_of_widths() -> None:
    values = np.array([5, 0, 1, 7, 0, 3])
    assert pack_bits_numpy(values, [3, 0, 2]) == pack_bits_numpy(values, [3, 0, 2, 3, 0, 2])
    assert np.array_equal(unpack_bits_numpy(pack_bits_numpy(values, [3, 0, 2]), [3, 0, 2], 6), values)


def test_vectors_of_the_format() -> None:
    assert pack_bits_numpy(np.array([1, 2, 3]), 3) == bytes([0b11010001, 0b0])
    assert pack_bits_numpy(np.array([0x3FF, 0, 1]), 10) == bytes([0xFF, 0x03, 0x10, 0x00])
    assert [width_of(size) for size in (1, 2, 3, 1024, 1025)] == [0, 1, 2, 10, 11]


def test_errors() -> None:
    for call, message in [
        (lambda: pack_bits_numpy(np.array([4]), 2), r"value 4 at position 0 does not fit its 2 bits \(0..3\)"),
        (lambda: pack_bits_numpy(np.array([-1]), 63), "does not fit"),
        (lambda: pack_bits_numpy(np.array([1.0]), 2), "integers"),
        (lambda: pack_bits_numpy(np.array([1]), 64), r"0\.\.63"),
        (lambda: pack_bits_numpy(np.array([1, 2, 3]), [2, 2]), "divides 3"),
        (lambda: unpack_bits_numpy(b"\0\0", 3, 2), "take 1 bytes, got 2"),
        (lambda: unpack_bits_numpy(b"\xff", 3, 2), "padding"),
        (lambda: unpack_bits_numpy(b"\0", 3), "count"),
        (lambda: ops.bitpack(torch.tensor([9]), 3), "does not fit"),
        (lambda: ops.bitpack(torch.tensor([1.0]), 3), "int64"),
        (lambda: ops.bitunpack(torch.zeros(3, dtype=torch.uint8), 3, 2), "take 1 bytes"),
        (lambda: ops.unpack_signs(torch.zeros(2, 2, dtype=torch.uint8), 8), "8 signs"),
    ]:
        with pytest.raises(InputError, match=message):
            call()


@pytest.mark.parametrize("backend", ["cpu", "reference"])
@pytest.mark.parametrize(("widths", "shape"), [(10, (33,)), (1, (2, 9)), ([3, 0, 10], (2, 3, 6)), (5, (0, 4)), (7, (3, 0))])
def test_tensors(backend: str, widths: int | list[int], shape: tuple[int, ...]) -> None:
    every = torch.tensor([widths] if isinstance(widths, int) else widths).repeat(max(shape[-1], 1))[: shape[-1]]
    codes = torch.randint(0, 2**30, shape, generator=torch.Generator().manual_seed(0)) & ((1 << every) - 1)
    packed = ops.bitpack(codes, widths, backend=backend)
    assert packed.shape == (*shape[:-1], -(-int(every.sum()) // 8))
    for row, code in zip(packed.flatten(0, -2), codes.flatten(0, -2), strict=True) if len(shape) > 1 else [(packed, codes)]:
        assert row.numpy().tobytes() == pack_bits_numpy(code.numpy(), widths)
    assert torch.equal(ops.bitunpack(packed, widths, shape[-1], backend=backend), codes)


@pytest.mark.parametrize("width", [1, 8, 13, 128, 256])
def test_signs(width: int) -> None:
    x = torch.randn(21, width, generator=torch.Generator().manual_seed(0))
    x[0, 0] = 0
    packed = ops.pack_signs(x)
    assert torch.equal(packed, ops.pack_signs(x, backend="reference"))
    assert torch.equal(packed, ops.bitpack((x > 0).long(), 1))
    assert torch.equal(ops.unpack_signs(packed, width), torch.where(x > 0, 1.0, -1.0))
    assert torch.equal(ops.unpack_signs(packed, width, backend="reference"), torch.where(x > 0, 1.0, -1.0))


def test_compiles_whole() -> None:
    x = torch.randn(6, 20, generator=torch.Generator().manual_seed(0))
    codes = (x.abs() * 3).long()

    @torch.compile(fullgraph=True, backend="aot_eager")
    def round_trip(values: torch.Tensor, numbers: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return ops.unpack_signs(ops.pack_signs(values), 20), ops.bitunpack(ops.bitpack(numbers, 9), 9, 20)

    signs, numbers = round_trip(x, codes)
    assert torch.equal(signs, torch.where(x > 0, 1.0, -1.0))
    assert torch.equal(numbers, codes)


def test_codec_needs_no_torch() -> None:
    program = "import sys; from tokkit.ops.bitpack.codec import pack_bits_numpy; import tokkit.ops; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
