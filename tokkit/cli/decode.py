"""tokkit decode"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tokkit.cli.encode import Precision


def decode_command(
    model: Annotated[Path, typer.Argument(help="Folder of the tokenizer that made the tokens.")],
    tokens: Annotated[list[Path], typer.Argument(help=".tok files, and folders that are searched for them.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="A file for one sample; else a folder.")],
    batch_size: Annotated[int, typer.Option(min=1, help="Samples a pass of the network.")] = 16,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1 ...; auto is the GPU where there is one.")] = "auto",
    precision: Annotated[Precision, typer.Option(help="Of the networks.")] = Precision.fp32,
    tile: Annotated[int | None, typer.Option(min=1, help="Work in tiles of this size where an input is larger: less memory.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace results that are there.")] = False,
) -> None:
    """Decode token files.

    tokkit decode runs/smoke cat.tok -o cat.png

    tokkit decode runs/smoke tokens/ -o pictures/
    """
    from tokkit.bulk.decode import decode_files
    from tokkit.cli.progress import bar, finish
    from tokkit.tokenizer import Tokenizer

    tokenizer = Tokenizer.from_pretrained(model, device=device, precision=precision.value, tile=tile)
    with bar("decoding") as progress:
        done, failures = decode_files(tokenizer, list(tokens), out, batch_size=batch_size, force=force, progress=progress)
    finish(f"{done} decoded: {out}", failures)
