"""tokkit prepare"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Fit(StrEnum):
    cube = "cube"
    box = "box"


def prepare_command(
    inputs: Annotated[list[Path], typer.Argument(help="Mesh files, and folders that are searched.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder that receives the shards.")],
    layers: Annotated[int, typer.Option(min=1, max=4, help="Groups of touching bodies; as the recipe's modality.layers.")] = 1,
    fit: Annotated[Fit, typer.Option(help="Of the frame; as the recipe's modality.fit.")] = Fit.cube,
    surface: Annotated[int, typer.Option(min=1, help="Points on the surface of a shape.")] = 6144,
    sharp: Annotated[int, typer.Option(min=0, help="Points on its sharp edges.")] = 2048,
    near: Annotated[int, typer.Option(min=0, help="Points near its surface, with signed distances.")] = 12288,
    volume: Annotated[int, typer.Option(min=0, help="Points anywhere, with signed distances.")] = 4096,
    seed: Annotated[int, typer.Option(help="Of every choice of points.")] = 0,
    workers: Annotated[int, typer.Option(min=0, help="Processes; 0: one a core.")] = 0,
    shard_size: Annotated[int, typer.Option(min=1, help="Shapes a shard.")] = 128,
    force: Annotated[bool, typer.Option("--force", help="Start anew in a folder that holds shards.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Keep the finished shards, and do the rest.")] = False,
) -> None:
    """Make meshes ready for training: points of the surface, and points around it with signed distances (negative inside).

    tokkit prepare meshes/ -o shards/

    tokkit prepare meshes/ -o shards/ --layers 2 --fit box --resume
    """
    from tokkit.bulk.prepare import PrepareOptions, prepare_files
    from tokkit.cli.progress import bar, finish
    from tokkit.data.shapes import Counts

    options = PrepareOptions(
        counts=Counts(surface=surface, sharp=sharp, near=near, volume=volume),
        layers=layers,
        fit=fit.value,
        seed=seed,
        workers=workers,
        shard_size=shard_size,
        force=force,
        resume=resume,
    )
    with bar("preparing") as progress:
        summary = prepare_files(list(inputs), out, options, progress=progress)
    told = [f"{summary.done} shapes"]
    if summary.skipped:
        told.append(f"{summary.skipped} there already")
    if summary.remeshed:
        told.append(f"{len(summary.remeshed)} remeshed")
    finish(f"{', '.join(told)}: {out}", summary.failures)
