"""Tables on standard output: drawn on a terminal, plain columns elsewhere."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from tokkit.evaluate.bootstrap import Interval
from tokkit.evaluate.result import Evaluation, Summary


def print_table(evaluation: Evaluation) -> None:
    """The summary, the use of the codebooks, and the notes."""
    heads = ["system", "samples", f"bits/{evaluation.unit}", "file bytes"]
    heads += [f"{metric.name} [{metric.unit}]" if metric.unit else metric.name for metric in evaluation.metrics]
    lines = evaluation.summary()
    print_columns(heads, [_cells(line, evaluation) for line in lines])
    for line in lines:
        if line.n_over_budget:
            print(f"{line.system}: {line.n_over_budget} of {line.n} files larger than the tokens' file even at the lowest quality")
    if evaluation.usage:
        rows = [
            [str(index), str(level["size"]), f"{100 * level['used']:.4g}", f"{level['perplexity']:.4g}", f"{level['entropy']:.3f}"]
            for index, level in enumerate(evaluation.usage)
        ]
        print_columns(["codebook", "entries", "used [%]", "perplexity", "entropy [bits]"], rows)
    if evaluation.sets:
        names = list(dict.fromkeys(name for values in evaluation.sets.values() for name in values))
        cells = [[system, *(_set_cell(evaluation.set_interval(system, name)) for name in names)] for system in evaluation.sets]
        print_columns(["all samples together", *names], cells)
    for note in evaluation.notes:
        print(f"note: {note}")


def print_columns(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table whose first column is aligned left and the others right."""
    console = Console(highlight=False, markup=False)
    if console.is_terminal:
        table = Table()
        for index, head in enumerate(heads):
            table.add_column(head, justify="right" if index else "left", overflow="fold")
        for row in rows:
            table.add_row(*row)
        console.print(table)
        return
    widths = [max(len(line[column]) for line in (heads, *rows)) for column in range(len(heads))]
    for line in (heads, *rows):
        cells = [f"{cell:>{width}}" if index else f"{cell:<{width}}" for index, (cell, width) in enumerate(zip(line, widths, strict=True))]
        print("  ".join(cells).rstrip())


def number(value: float | None) -> str:
    """Four digits, and as many as needed before the point."""
    if value is None:
        return "-"
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _cells(line: Summary, evaluation: Evaluation) -> list[str]:
    cells = [line.system, str(line.n), number(line.payload_rate.mean), number(line.file_bytes.mean)]
    for metric in evaluation.metrics:
        column = line.metrics[metric.name]
        remarks = [_spread(column.interval)] if column.interval.low is not None else []
        remarks += [f"{column.n_infinite} infinite"] if column.n_infinite else []
        remarks += [f"{column.n_failed} failed"] if column.n_failed else []
        cells.append(" ".join([number(column.interval.mean), *remarks]))
    return cells


def _set_cell(interval: Interval) -> str:
    return " ".join([number(interval.mean), *([_spread(interval)] if interval.low is not None else [])])


def _spread(interval: Interval) -> str:
    return f"({number(interval.low)} to {number(interval.high)})"
