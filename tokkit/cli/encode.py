"""tokkit encode"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from tokkit.errors import InputError


class Precision(StrEnum):
    fp32 = "fp32"
    bf16 = "bf16"
    fp16 = "fp16"


def encode_command(
    model: Annotated[Path, typer.Argument(help="Folder of a trained tokenizer.")],
    inputs: Annotated[list[Path], typer.Argument(help="Files, and folders that are searched.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="A .tok file for one input; else a folder that mirrors the inputs.")],
    shards: Annotated[bool, typer.Option("--shards", help="Pack the samples into shard-00000.tok, ... in the folder.")] = False,
    shard_size: Annotated[int, typer.Option(min=1, help="Samples a shard.")] = 10_000,
    batch_size: Annotated[int, typer.Option(min=1, help="Samples a pass of the network.")] = 16,
    num_tokens: Annotated[int | None, typer.Option(min=1, help="Leading tokens to keep, where they are ordered.")] = None,
    levels: Annotated[int | None, typer.Option(min=1, help="Leading codebooks to keep, where they are residual.")] = None,
    kbps: Annotated[float | None, typer.Option(min=0, help="As many residual levels of sound as fit into this bitrate.")] = None,
    max_bits: Annotated[int | None, typer.Option(min=1, help="As many leading tokens as this many bits a file hold.")] = None,
    target: Annotated[str | None, typer.Option(help="Of each file as few leading tokens as reach this, such as psnr:28.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Threads that read files.")] = 4,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1 ...; auto is the GPU where there is one.")] = "auto",
    precision: Annotated[Precision, typer.Option(help="Of the networks.")] = Precision.fp32,
    tile: Annotated[int | None, typer.Option(min=1, help="Work in tiles of this size where an input is larger: less memory.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace results that are there.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Keep results that are there, and do the rest.")] = False,
) -> None:
    """Encode files to token files.

    tokkit encode runs/smoke cat.png -o cat.tok

    tokkit encode runs/smoke photos/ -o tokens/ --shards

    tokkit encode runs/shapes shards/val -o tokens/          # what tokkit prepare wrote
    """
    from tokkit.bulk.encode import EncodeOptions, encode_files
    from tokkit.bulk.prepared import encode_prepared, is_prepared
    from tokkit.bulk.rate import levels_within
    from tokkit.cli.progress import bar, finish
    from tokkit.tokenizer import Tokenizer

    if kbps is not None and levels is not None:
        raise InputError("--kbps chooses the levels; give it or --levels")
    tokenizer = Tokenizer.from_pretrained(model, device=device, precision=precision.value, tile=tile)
    if kbps is not None:
        levels = levels_within(tokenizer, kbps)
    options = EncodeOptions(
        batch_size=batch_size,
        workers=workers,
        force=force,
        resume=resume,
        shards=shards,
        shard_size=shard_size,
        num_tokens=num_tokens,
        levels=levels,
        max_bits=max_bits,
        target=target,
    )
    with bar("encoding") as progress:
        if len(inputs) == 1 and is_prepared(inputs[0]):
            summary = encode_prepared(tokenizer, inputs[0], out, options, progress=progress)
        else:
            summary = encode_files(tokenizer, list(inputs), out, options, progress=progress)
    told = [f"{summary.done} encoded"]
    if summary.skipped:
        told.append(f"{summary.skipped} there already")
    if summary.done and summary.positions:  # what could not be written was counted too
        unit = {"image": "pixel", "video": "pixel", "audio": "sample", "mesh": "shape"}.get(tokenizer.modality.name, "position")
        told.append(f"{summary.payload_bits / summary.positions:.4g} bit/{unit}")
    finish(f"{', '.join(told)}: {out}", summary.failures)
