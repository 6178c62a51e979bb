"""tokkit bench suite"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer


def bench_suite_command(
    suite: Annotated[Path, typer.Argument(help="A suite's yaml file, such as benchmarks/suites/images.yaml.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the results; an interrupted run goes on there.")],
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1 ...; auto is the GPU where there is one.")] = "auto",
) -> None:
    """Judge several tokenizers alike: the samples, systems and metrics that a file names, in one table.

    tokkit bench suite benchmarks/suites/images.yaml --out suites/images
    """
    from tokkit.bench.suite import Suite, run_suite
    from tokkit.evaluate.table import number, print_columns

    result = run_suite(Suite.load(suite), out, device=device, report=lambda system: print(f"judging {system}", file=sys.stderr))
    heads = list(dict.fromkeys(name for row in result.rows for name in row))
    cells = [[row["system"], *(number(row.get(name)) for name in heads[1:])] for row in result.rows]
    if cells:
        print_columns(heads, cells)
    print(out / "suite.json")
    for failure in result.failures:
        print(f"tokkit: {' '.join(failure.split())}", file=sys.stderr)
    if result.failures:
        raise typer.Exit(1)
