"""What an evaluation was made by: machine, commit, versions and command."""

from __future__ import annotations

import datetime
import os
import platform
import shlex
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

import tokkit

_PACKAGES = (
    "torch",
    "triton",
    "torchvision",
    "torchmetrics",
    "lpips",
    "numpy",
    "pillow",
    "scikit-image",
    "vector-quantize-pytorch",
    "faiss-cpu",
)


def provenance() -> dict[str, Any]:
    """The record that goes into a result file."""
    return {
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": command(),
        "commit": commit(),
        "machine": machine(),
        "versions": versions(),
    }


def command() -> str:
    """The command line, the program by its name: where it is installed says nothing to others."""
    program = Path(sys.argv[0])
    return shlex.join(["tokkit" if program.name == "__main__.py" else program.name, *sys.argv[1:]])


def commit() -> str | None:
    """The git commit of tokkit's source, with "-dirty" behind it when it was changed since; None where there is no checkout.

    TOKKIT_COMMIT of the environment goes before: a copy on another machine has no git to ask, or one that knows another commit.
    """
    if named := os.environ.get("TOKKIT_COMMIT"):
        return named
    folder = Path(tokkit.__file__).parent
    if _git(folder, "ls-files", "--error-unmatch", "__init__.py") is None:
        return None
    head = _git(folder, "rev-parse", "HEAD")
    changed = _git(folder, "status", "--porcelain", "--untracked-files=no", "--", ".")
    return f"{head}-dirty" if head and changed else head


def machine() -> dict[str, Any]:
    """Processor, cores that this process may use, threads of torch, GPU and its CUDA."""
    return {
        "platform": platform.platform(),
        "cpu": _cpu_name(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "cuda": torch.version.cuda,
    }


def versions() -> dict[str, str]:
    """Versions of Python, tokkit and the packages that compute the numbers."""
    found = {"python": platform.python_version(), "tokkit": tokkit.__version__}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
