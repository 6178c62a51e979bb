"""The training loop. `train(recipe, out)` is all of it; the other files are its parts."""

from __future__ import annotations

from typing import Any

__all__ = ["train"]


def __getattr__(name: str) -> Any:
    if name == "train":
        from tokkit.train.loop import train

        return train
    raise AttributeError(f"module 'tokkit.train' has no attribute {name!r}")
