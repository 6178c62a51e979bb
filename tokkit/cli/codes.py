"""tokkit bench codes"""

from __future__ import annotations

import json as jsonlib
import sys
from pathlib import Path
from typing import Annotated

import typer


def bench_codes_command(
    model: Annotated[Path, typer.Argument(help="Folder of a trained tokenizer.")],
    data: Annotated[list[str], typer.Argument(help="Files, folders, tar shards; or `samples`.")],
    limit: Annotated[int | None, typer.Option(min=2, help="Samples to look at.")] = None,
    disturbed: Annotated[int, typer.Option(min=0, help="Samples, the first ones, to encode again with noise, shifted, as JPEG.")] = 16,
    batch_size: Annotated[int, typer.Option(min=1, help="Samples a pass of the network.")] = 8,
    seed: Annotated[int, typer.Option(help="Of the noise.")] = 0,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1 ...; auto is the GPU where there is one.")] = "auto",
    json: Annotated[Path | None, typer.Option(help="Write the measurement.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a result that is there.")] = False,
) -> None:
    """Measure the codes: the bits that they really need, what earlier tokens tell about the next, and how many flip with a disturbed input.

    tokkit bench codes runs/mine photos/ --json codes.json
    """
    from tokkit.bench.codes import ORDERS, measure_codes
    from tokkit.cli.eval import find_data
    from tokkit.cli.progress import bar
    from tokkit.evaluate.provenance import provenance
    from tokkit.evaluate.table import number, print_columns
    from tokkit.files import refuse_unwritable, replacing
    from tokkit.tokenizer import Tokenizer

    if json is not None:
        refuse_unwritable(json, force=force)
    tokenizer = Tokenizer.from_pretrained(model, device=device)
    with bar("encoding") as progress:
        report = measure_codes(
            tokenizer,
            find_data(tokenizer.modality, data),
            limit=limit,
            disturbed=disturbed,
            batch_size=batch_size,
            seed=seed,
            progress=progress,
        )
    heads = ["codebook", "entries", "nominal bits", *(f"order {order}" for order in ORDERS), "coded"]
    rows = [
        [str(index), str(level.size), str(level.nominal), *map(number, level.heldout), number(level.coded)]
        for index, level in enumerate(report.levels)
    ]
    print(f"{report.samples} samples, {report.heldout} of them held out, {report.tokens} codes")
    print_columns(heads, rows)
    print_columns([f"bits/{report.unit}", *report.rates], [["held out", *map(number, report.rates.values())]])
    if report.flips:
        print_columns(["disturbed by", "codes that flip [%]"], [[name, number(100 * share)] for name, share in report.flips.items()])
    if json is not None:
        with replacing(json) as part:
            stored = {"format": "tokkit-codes", "version": 1, "tokenizer": tokenizer.fingerprint, **report.to_dict()}
            part.write_text(jsonlib.dumps({**stored, "provenance": provenance()}, indent=1) + "\n", encoding="utf-8")
        print(json)
    for skipped in report.skipped:
        print(f"tokkit: {' '.join(skipped.split())}", file=sys.stderr)
    if report.skipped:
        raise typer.Exit(1)
