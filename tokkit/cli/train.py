"""tokkit train"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from tokkit.errors import InputError


def train_command(
    recipe: Annotated[Path, typer.Argument(help="A recipe, such as recipes/image/smoke.yaml.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Options of the recipe, such as train.lr=3e-4.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder of the run; runs/<recipe name> when not given.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the newest checkpoint in the folder.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Start anew in a folder that holds a run.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Check the recipe, build everything, take two steps, keep nothing.")] = False,
    cpu: Annotated[bool, typer.Option("--cpu", help="Do not use a GPU that is there.")] = False,
) -> None:
    """Train a tokenizer.

    tokkit train recipes/image/smoke.yaml

    tokkit train recipes/image/vq-f16.yaml data.path=photos/ train.batch_size=32 --out runs/mine

    accelerate launch -m tokkit train recipes/image/vq-f16.yaml
    """
    if resume and force:
        raise InputError("--resume goes on with a run and --force starts anew; give one of them")
    from tokkit.recipe import Recipe
    from tokkit.train import train

    loaded = Recipe.load(recipe, overrides or [])
    if check:
        loaded = Recipe.load(recipe, [*(overrides or []), "train.steps=2", "train.trackers=[]"])  # `loaded` was wrong where these hide it
        with tempfile.TemporaryDirectory() as scratch:
            train(loaded, scratch, cpu=cpu)
        print(f"{recipe}: good")
        return
    folder = train(loaded, out or Path("runs") / loaded.name, resume=resume, force=force, cpu=cpu)
    print(folder)
