"""A short name for a network with its weights."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor


def fingerprint(description: str, state: Mapping[str, Tensor]) -> str:
    """32 hexadecimal digits that depend on the description, and on the names, types, shapes and bytes of the weights."""
    digest = hashlib.sha256(description.encode())
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:32]
