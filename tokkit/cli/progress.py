"""What bulk commands show while they work and at the end."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from tokkit.bulk.files import Failure


@contextmanager
def bar(verb: str) -> Iterator[Callable[[int], object]]:
    """A counter on a terminal, nothing elsewhere; yields what to call with the number of finished files."""
    console = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TextColumn("{task.completed:.0f}"), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
        task = progress.add_task(verb, total=None)
        yield lambda done: progress.update(task, completed=done)


def finish(told: str, failures: Sequence[Failure]) -> None:
    """Print the result; list what failed, one a line, and exit 1 when anything did."""
    print(told)
    for failure in failures:
        print(f"tokkit: {failure.name}: {failure.reason}", file=sys.stderr)
    if failures:
        raise typer.Exit(1)
