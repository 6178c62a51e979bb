"""Quality against the number of tokens, of several stored evaluations: a picture for the documentation, a table, and what is asked of them.

    python benchmarks/rate_distortion.py plain=plain-1d-eval.json nested=nested-1d-eval.json flow=flow-1d-eval.json \\
        --metrics psnr,patch_spectrum --out docs/rate-distortion.svg

The files are those of `tokkit eval --json` on the same samples. A system whose tokens are ordered is a line, any other a point.
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path

from tokkit.errors import InputError
from tokkit.evaluate.drawing import Panel, drawing
from tokkit.evaluate.result import Evaluation, MetricInfo
from tokkit.evaluate.svg import Mark, Series

Line = dict[int, dict[str, float]]
"""Number of tokens -> metric -> mean over the samples of the curves."""


def line_of(evaluation: Evaluation) -> Line:
    """The judged system at every length that was measured; all its tokens last."""
    own = evaluation.model["name"]
    points: Line = {}
    for curve in evaluation.curves:
        if curve.system == own and curve.axis in ("", "tokens"):
            whole = next(row.payload_bits for row in evaluation.rows if row.system == own) // evaluation.model["bits_per_token"]
            points |= {point.setting or whole: point.values for point in curve.points}
    if not points:
        raise InputError(f"{own}: the evaluation has no curve; run `tokkit eval` without --curve-samples 0")
    return dict(sorted(points.items()))


def table(lines: dict[str, Line], metrics: list[MetricInfo]) -> str:
    """Markdown: a row a number of tokens, a column a system and metric."""
    lengths = sorted(set().union(*lines.values()))
    columns = [(name, metric.name) for metric in metrics for name in lines]
    rows = [["tokens", *(f"{name} {metric}" for name, metric in columns)], ["---"] * (len(columns) + 1)]
    for length in lengths:
        found = [lines[name].get(length, {}).get(metric) for name, metric in columns]
        rows.append([str(length), *("" if value is None else f"{value:.3f}" for value in found)])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def findings(lines: dict[str, Line]) -> list[str]:
    """What ordered tokens are asked for in PSNR: that it rises, by how much, and what order costs beside `plain`."""
    told = []
    for name, line in lines.items():
        values = {length: point["psnr"] for length, point in line.items() if "psnr" in point}
        powers = [length for length in values if length & (length - 1) == 0]
        if len(powers) < 2:
            continue
        falls = [after for before, after in itertools.pairwise(powers) if values[after] < values[before]]
        told.append(f"{name}: PSNR {'rises with every power of two' if not falls else f'falls at {falls} tokens'}")
        if 4 in values:
            told.append(f"{name}: {values[powers[-1]] - values[4]:+.2f} dB from 4 to {powers[-1]} tokens")
        plain = lines.get("plain", {}).get(powers[-1], {}).get("psnr")
        if plain is not None and name != "plain":
            told.append(f"{name}: {values[powers[-1]] - plain:+.2f} dB beside plain at {powers[-1]} tokens")
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("evaluations", nargs="+", metavar="NAME=FILE.json")
    parser.add_argument("--metrics", default="psnr,patch_spectrum", help="names with commas between")
    parser.add_argument("--out", type=Path, required=True, help="an .svg file")
    given = parser.parse_args()
    read = {name: Evaluation.from_json(path) for name, _, path in (text.partition("=") for text in given.evaluations)}
    samples = {name: sorted(row.sample for row in found.rows if row.system == found.model["name"]) for name, found in read.items()}
    if len(set(map(tuple, samples.values()))) > 1:
        raise SystemExit("the evaluations are of different samples: " + ", ".join(f"{name} {len(each)}" for name, each in samples.items()))
    known = {metric.name: metric for found in read.values() for metric in found.metrics}
    missing = [name for name in given.metrics.split(",") if name not in known]
    if missing:
        raise SystemExit(f"no evaluation has {', '.join(missing)}; they have {', '.join(known)}")
    metrics = [known[name] for name in given.metrics.split(",")]
    lines = {name: line_of(found) for name, found in read.items()}
    panels = []
    for metric in metrics:
        label = f"{metric.name}{f' [{metric.unit}]' if metric.unit else ''}, {'higher' if metric.higher_is_better else 'lower'} is better"
        series = []
        for color, (name, line) in enumerate(lines.items()):
            marks = [Mark(length, values[metric.name], f"{length} tokens") for length, values in line.items() if metric.name in values]
            series.append(Series(name, marks, color, strong=len(marks) == 1))
        panels.append(Panel(series, "tokens", label, log_x=True))
    given.out.write_text(drawing(panels), encoding="utf-8")
    print(table(lines, metrics), *findings(lines), sep="\n")


if __name__ == "__main__":
    main()
