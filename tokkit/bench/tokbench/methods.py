"""What a command line names, as a method of TokBench."""

from __future__ import annotations

from pathlib import Path

import torch

from tokkit.bench.tokbench.run import Method
from tokkit.errors import InputError
from tokkit.evaluate.adapters import open_system

ORIGINALS = "originals"
_FOLDER = "folder:"


def open_method(named: str, home: Path, device: str | torch.device = "cpu", *, modality: str = "image") -> Method:
    """A method by what a command line names.

    Args:
        named: "originals" for the files themselves; "folder:ROOT" for reconstructions in TokBench's layout; else as `open_system` takes it
            ("identity" is the published upper bound called Resize).
        home: where reconstructions are written.
        device: where the tokenizer runs.
        modality: "image" or "video", of what does not bring its own.

    Raises:
        InputError: there is no such thing, or it codes something else.
    """
    if named == ORIGINALS:
        return Method(ORIGINALS, None, None)
    if named.startswith(_FOLDER):
        root = Path(named.removeprefix(_FOLDER))
        if not root.is_dir():
            raise InputError(f"{root}: no such folder of reconstructions")
        return Method(root.name, None, root, {"root": str(root)})
    system = open_system(named, modality, device=device)
    if system.modality.name not in ("image", modality):
        raise InputError(f"{named} codes {system.modality.name}; TokBench here is of {'pictures' if modality == 'image' else 'videos'}")
    return Method(system.name, system, home / "reconstructions", {"named": named, **system.describe()})


def home_of(named: str) -> Path:
    """The folder of a method that no folder was given for."""
    kept = "".join(letter if letter.isalnum() or letter in "-_.@" else "-" for letter in named).strip("-.")
    return Path("tokbench") / kept
