"""Two processes train together (gloo, CPU): parameters and codebooks stay the same on both, from the k-means start on."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import torch

ROOT = Path(__file__).parents[2]


def test_ranks_agree(tmp_path: Path) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "GLOO_SOCKET_IFNAME": "lo"}
    worker = Path(__file__).with_name("ranks_worker.py")
    processes = [
        subprocess.Popen([sys.executable, str(worker), str(rank), "2", str(tmp_path)], env=environment, stderr=subprocess.PIPE, text=True)
        for rank in range(2)
    ]
    try:
        errors = [process.communicate(timeout=240)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], "\n".join(errors)
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    assert len(first) >= 12
    for case, state in first.items():
        for key, value in state.items():
            assert torch.equal(value, second[case][key]), f"{case}: {key}"
            assert torch.isfinite(value).all(), f"{case}: {key}"
