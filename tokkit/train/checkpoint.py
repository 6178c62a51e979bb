"""Checkpoints: everything that a killed run needs to go on as if nothing had happened."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch
import yaml

from tokkit.errors import InputError
from tokkit.files import replacing
from tokkit.recipe import Recipe

FOLDER = "checkpoints"
KEPT = 2
FREE = {"steps", "workers", "log_every", "sample_every", "checkpoint_every", "trackers"}
"""Options of `train` that may differ when a run goes on: they change no weight. (More steps do for `cosine`, and for a quantizer's own
`warmup`, a share of them: that is said.)"""


def save(folder: Path, step: int, state: dict[str, Any]) -> None:
    """Write `checkpoints/step-N.pt` by rename, then remove all but the newest few."""
    with replacing(folder / FOLDER / f"step-{step:08d}.pt") as part:
        torch.save(state, part)
    for old in found(folder)[:-KEPT]:
        old.unlink()


def found(folder: Path) -> list[Path]:
    """The checkpoints of a run, oldest first."""
    return sorted((folder / FOLDER).glob("step-*.pt"))


def load(folder: Path, device: torch.device) -> dict[str, Any] | None:
    """The newest checkpoint, or None where there is none.

    Raises:
        InputError: it cannot be read.
    """
    checkpoints = found(folder)
    if not checkpoints:
        return None
    try:
        return torch.load(checkpoints[-1], map_location=device, weights_only=True)
    except (RuntimeError, EOFError, OSError, pickle.UnpicklingError) as error:
        raise InputError(f"{checkpoints[-1]}: cannot be read ({error}); remove it to go on from the one before") from error


def check_same_recipe(recipe: Recipe, saved: str, folder: Path) -> None:
    """Refuse to go on with another recipe than the checkpoint's.

    Raises:
        InputError: naming the options that differ.
    """
    mine, theirs = (_flat(yaml.safe_load(text)) for text in (recipe.to_yaml(), saved))
    ignored = {f"train.{option}" for option in FREE}
    shares = any(value and key.startswith("quantizer.") and key.endswith(".warmup") for key, value in mine.items())
    if shares or mine.get("train.schedule") == "cosine":
        ignored.discard("train.steps")
    differing = sorted(
        key
        for key in mine.keys() | theirs.keys()
        if mine.get(key) != theirs.get(key) and key not in ignored and not key.startswith("evaluate.") and key != "name"
    )
    if differing:
        listed = ", ".join(f"{key} (was {theirs.get(key)!r}, now {mine.get(key)!r})" for key in differing)
        raise InputError(f"{folder}: the run to resume was made with another recipe: {listed}; take another --out, or the old options")


def _flat(value: Any, path: str = "") -> dict[str, Any]:
    if isinstance(value, dict):
        members = value.items()
    elif isinstance(value, list):
        members = enumerate(value)  # type: ignore[assignment]
    else:
        return {path: value}
    return {key: leaf for name, member in members for key, leaf in _flat(member, f"{path}.{name}".lstrip(".")).items()}
