"""The stored rows of `tokkit bench lookup` as a picture and a table for the documentation.

    python benchmarks/plot_lookup.py benchmarks/results/lookup-h100.json --out docs/lookup-h100.svg

A group of bars a case, the time of a method over tokkit's, on a logarithmic axis: left of the line is faster than tokkit.
"""

from __future__ import annotations

import argparse
import json
import math
from html import escape
from pathlib import Path
from typing import Any

from tokkit.evaluate.page import CHART, THEME

SHOWN = {
    "tokkit": "tokkit, exact",
    "vector-quantize-pytorch eval": "vector-quantize-pytorch",
    "vector-quantize-pytorch": "vector-quantize-pytorch",
    "cdist": "torch.cdist, argmin",
    "addmm fp32": "addmm fp32, argmin",
    "addmm fp32 loop": "addmm fp32, argmin",
    "compile naive fp32": "torch.compile of |c|^2 - 2 x.c",
    "compile naive tf32": "the same in TF32 (inexact)",
    "compile tf32 loop": "the same in TF32 (inexact)",
    "eager autograd": "eager torch",
    "eager uint8": "eager torch",
    "compile autograd": "torch.compile",
    "compile uint8": "torch.compile",
}
BAR, GAP, LEFT, RIGHT, TOP = 16, 14, 420, 70, 24
WIDTH, FASTEST, SLOWEST = 1000, 0.25, 128.0


def cases_of(rows: list[dict[str, Any]]) -> dict[str, list[tuple[str, float]]]:
    """Case -> (method, ms) of the methods that are shown and ran, tokkit first."""
    cases: dict[str, list[tuple[str, float]]] = {}
    for row in rows:
        if row["method"] in SHOWN and row["ms"]:
            cases.setdefault(row["case"], []).append((row["method"], row["ms"]))
    return cases


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown: what tokkit takes, and what the fastest exact and inexact methods take."""
    columns = ["case (N, d, K)", "tokkit, ms", "fastest exact peer, ms", "ratio", "extra memory, MiB", "fastest inexact peer, ms"]
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for case in dict.fromkeys(row["case"] for row in rows):
        ran = [row for row in rows if row["case"] == case and row["ms"] and "gemm" not in row["method"]]
        own = next(row for row in ran if row["method"] == "tokkit")
        peers = sorted((row for row in ran if not row["method"].startswith("tokkit")), key=lambda row: row["ms"])
        exact = next(row for row in peers if row["exact"])
        inexact = next((f"{row['ms']:.3f} {row['method']}" for row in peers if not row["exact"]), "")
        memory = f"{own['extra_bytes'] / 2**20:.1f} against {exact['extra_bytes'] / 2**20:.1f}"
        ratio = exact["ms"] / own["ms"]
        lines.append(f"| {case} | {own['ms']:.3f} | {exact['ms']:.3f} {exact['method']} | {ratio:.2f} | {memory} | {inexact} |")
    return "\n".join(lines)


def picture(cases: dict[str, list[tuple[str, float]]]) -> str:
    """An SVG document."""

    def across(ratio: float) -> float:
        share = math.log2(min(max(ratio, FASTEST), SLOWEST) / FASTEST) / math.log2(SLOWEST / FASTEST)
        return LEFT + share * (WIDTH - LEFT - RIGHT)

    height = TOP + sum(len(methods) * BAR + GAP for methods in cases.values()) + 24
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="system-ui,sans-serif" font-size="12">',
        f'<style>{THEME}{CHART}</style><rect width="{WIDTH}" height="{height}" fill="var(--card)"/>',
    ]
    for exponent in range(int(math.log2(FASTEST)), int(math.log2(SLOWEST)) + 1):
        x = across(2.0**exponent)
        stroke = "var(--text)" if exponent == 0 else "var(--line)"
        parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{TOP - 6}" y2="{height - 24}" stroke="{stroke}"/>')
        parts.append(f'<text x="{x:.1f}" y="{height - 8}" text-anchor="middle" fill="var(--soft)">{2.0**exponent:g}x</text>')
    y = TOP
    for case, methods in cases.items():
        own = next(ms for method, ms in methods if method == "tokkit")
        parts.append(f'<text x="8" y="{y + 12}" fill="var(--text)" font-weight="600">{escape(case)}</text>')
        for method, ms in methods:
            color = 0 if method == "tokkit" else 1 if "TF32" not in SHOWN[method] else 2
            start, end = sorted((across(1.0), across(ms / own)))
            parts.append(f'<text x="{LEFT - 8}" y="{y + 12}" text-anchor="end" fill="var(--soft)">{escape(SHOWN[method])}</text>')
            bar = max(end - start, 2)
            parts.append(
                f'<rect x="{start:.1f}" y="{y + 2}" width="{bar:.1f}" height="{BAR - 4}" rx="2" fill="var(--series-{color})"/>'
                f'<text x="{end + 5:.1f}" y="{y + 12}" fill="var(--text)">{ms:.3g} ms</text>'
            )
            y += BAR
        y += GAP
    return "".join([*parts, "</svg>\n"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("result", type=Path, help="what `tokkit bench lookup --json` wrote")
    parser.add_argument("--out", type=Path, required=True, help="the picture, .svg")
    given = parser.parse_args()
    rows = json.loads(given.result.read_text())["rows"]
    given.out.write_text(picture(cases_of(rows)))
    print(table(rows))


if __name__ == "__main__":
    main()
