"""The bench of the kernels runs, and its counting of mismatches sees what it must."""

import json
from pathlib import Path

import torch

from tests.ops.kernel_cases import normal
from tokkit.bench.lookup import count_mismatches, main
from tokkit.ops.codebook_lookup.reference import reference_lookup


def test_mismatches_are_counted_beyond_ties() -> None:
    x, codebook = normal(50, 6, device="cpu"), normal(40, 6, device="cpu", seed=1)
    codebook[20] = codebook[3]
    found = reference_lookup(x, codebook, "euclidean")
    assert count_mismatches(found, x, codebook) == 0
    found[:5] = (found[:5] + 1) % 20
    assert count_mismatches(found, x, codebook) == 5
    twins = torch.where(found == 3, 20, found)
    assert count_mismatches(twins, x, codebook) == 5


def test_command_writes_json(tmp_path: Path) -> None:
    assert main(["--device", "cpu", "--quick", "--only", "pack", "--json", str(tmp_path / "out.json")]) == 0
    out = json.loads((tmp_path / "out.json").read_text())
    assert [row["method"] for row in out["rows"]] == ["tokkit", "eager uint8"]
    assert out["rows"][0]["mismatches"] == {"eager": 0}
    assert out["versions"]["torch"]
