"""Every Triton kernel against its reference: on the GPU where there is one, and in Triton's interpreter here."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.ops.kernel_cases import CASES

HERE = Path(__file__).parent


@pytest.mark.gpu
@pytest.mark.parametrize("name", CASES)
def test_on_gpu(name: str) -> None:
    CASES[name]("cuda")


def test_interpreted() -> None:
    environment = os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(HERE.parents[1])}
    done = subprocess.run([sys.executable, HERE / "kernel_cases.py"], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    assert done.stdout.count("passed") == len(CASES)
