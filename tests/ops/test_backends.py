"""Which backend runs is decided by facts and can be asked."""

import pytest
import torch

from tokkit import ops
from tokkit.errors import InputError
from tokkit.ops.backends import Facts
from tokkit.ops.codebook_lookup import select
from tokkit.ops.snake import select as select_snake


def test_table_has_every_op() -> None:
    rows = ops.describe_backends("cpu")
    assert [row.op for row in rows] == ["codebook_lookup", "residual_lookup", "bitpack", "binary_entropy", "segment_sums", "snake"]
    assert all(row.backend != "triton" and row.why for row in rows)


def test_choice_follows_the_facts() -> None:
    gpu = Facts(device="cuda", width=64, without_triton=None)
    assert select(gpu, "auto").backend == "triton"
    old = Facts(device="cuda", width=64, without_triton="this GPU has 7.0")
    assert select(old, "auto") == ("reference", "triton: this GPU has 7.0; cpu: the tensors are on cuda; faiss: the tensors are on cuda")
    wide = Facts(device="cuda", width=513, without_triton=None)
    assert select(wide, "auto").backend == "reference"
    with pytest.raises(InputError, match="d is 513"):
        select(wide, "triton")
    assert select(Facts("cpu", 64, "no GPU"), "auto").backend == "cpu"


def test_a_sound_too_long_for_a_launch_takes_the_next_backend() -> None:
    assert select_snake(Facts("cuda", 65535 * 1024, None), "auto").backend == "triton"
    assert select_snake(Facts("cuda", 65535 * 1024 + 1, None), "auto") == ("cpu", "triton: T is 67107841, its kernels go to 67107840")


def test_explain_and_errors() -> None:
    assert ops.explain("bitpack", torch.zeros(3, 2)).backend == "cpu"
    assert ops.explain("codebook_lookup", torch.zeros(3, 2), backend="reference").why == "asked for"
    with pytest.raises(InputError, match="op must be one of"):
        ops.explain("lookup", torch.zeros(3, 2))
    with pytest.raises(InputError, match="no device"):
        ops.describe_backends("tpu9")
    with pytest.raises(AttributeError, match="it has"):
        ops.nothing  # noqa: B018


def test_ops_stay_functions_after_their_folders_were_imported() -> None:
    import tokkit.ops.bitpack.codec
    import tokkit.ops.codebook_lookup.reference  # noqa: F401

    assert callable(ops.bitpack) and callable(ops.codebook_lookup)
