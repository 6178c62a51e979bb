"""tokkit compare"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def compare_command(
    before: Annotated[Path, typer.Argument(help="A file of `tokkit eval --json`, or result.json of `tokkit bench tokbench`.")],
    after: Annotated[Path, typer.Argument(help="Another, over the same samples.")],
    level: Annotated[float, typer.Option(min=0.5, max=0.9999, help="Of the interval that must leave out zero.")] = 0.99,
    seed: Annotated[int, typer.Option(help="Of the bootstrap.")] = 0,
) -> None:
    """Show the differences between two evaluations that are larger than their noise; exit 1 where the second is worse.

    The noise of a mean is the bootstrap's over the samples' paired differences; that of a metric of all samples together, such as fid, the
    jackknife's over ten blocks of samples.

    tokkit compare before.json after.json
    """
    from tokkit.bench.tokbench.compare import compare_results, is_tokbench
    from tokkit.evaluate.compare import Difference, compare
    from tokkit.evaluate.result import Evaluation
    from tokkit.evaluate.table import number, print_columns

    if is_tokbench(before):
        found = compare_results(before, after, level=level, seed=seed)
    else:
        found = compare(Evaluation.from_json(before), Evaluation.from_json(after), level=level, seed=seed)

    def cells(difference: Difference) -> list[str]:
        interval = difference.interval
        name = f"{difference.name} [{difference.unit}]" if difference.unit else difference.name
        change = f"{number(interval.mean)} ({number(interval.low)} to {number(interval.high)})" if interval.mean is not None else "-"
        counted = f"{difference.n_worse} worse, {difference.n_better} better" if difference.n_worse or difference.n_better else ""
        return [name, number(difference.before), number(difference.after), change, counted, "worse" if difference.worse else "better"]

    print(f"{found.n} samples in both, {found.only_before} only in the first, {found.only_after} only in the second")
    shown = [difference for difference in found.differences if difference.noticeable]
    if shown:
        heads = ["", "before", "after", f"change ({100 * level:g} % interval)", "failed or perfect in one only", ""]
        print_columns(heads, [cells(difference) for difference in shown])
    else:
        print("no difference larger than its noise")
    for note in found.notes:
        print(f"note: {note}")
    if found.regressions:
        raise typer.Exit(1)
