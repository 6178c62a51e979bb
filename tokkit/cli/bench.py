"""tokkit bench"""

from __future__ import annotations

import json as jsonlib
from pathlib import Path
from typing import Annotated

import typer

from tokkit.cli.encode import Precision

bench_app = typer.Typer(help="Measure speed: codebook lookup against its peers, and encoding folders.", no_args_is_help=True)


@bench_app.command("encode")
def bench_encode_command(
    model: Annotated[Path, typer.Argument(help="Folder of a trained tokenizer.")],
    folder: Annotated[Path, typer.Argument(help="Files of one size.")],
    batch_size: Annotated[int, typer.Option(min=1, help="Samples a pass of the network.")] = 16,
    workers: Annotated[int, typer.Option(min=1, help="Threads that read files.")] = 4,
    runs: Annotated[int, typer.Option(min=1, help="Measurements, after one that is not counted.")] = 3,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1 ...; auto is the GPU where there is one.")] = "auto",
    precision: Annotated[Precision, typer.Option(help="Of the networks.")] = Precision.fp32,
    json: Annotated[Path | None, typer.Option(help="Write the measurement.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a result that is there.")] = False,
) -> None:
    """Encode a folder end to end, against the pace of the network alone.

    tokkit bench encode runs/smoke photos/ --json encode.json
    """
    from tokkit.bench.encode import measure_encode, report
    from tokkit.bulk.encode import EncodeOptions
    from tokkit.files import refuse_overwrite, replacing
    from tokkit.tokenizer import Tokenizer

    if json is not None:
        refuse_overwrite(json, force=force)
    tokenizer = Tokenizer.from_pretrained(model, device=device, precision=precision.value)
    options = EncodeOptions(batch_size=batch_size, workers=workers)
    rates = measure_encode(tokenizer, folder, options, runs=runs)
    for name in ("network", "end_to_end"):
        print(f"{name:<10}  {', '.join(f'{rate:.1f}' for rate in getattr(rates, name))} samples/s")
    print(f"end to end is {rates.ratio:.1%} of the network alone")
    if json is not None:
        with replacing(json) as part:
            part.write_text(jsonlib.dumps(report(rates, tokenizer, options), indent=1) + "\n", encoding="utf-8")
        print(json)
