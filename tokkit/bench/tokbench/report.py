"""The result as one HTML file that needs nothing else: scores, and words of every bucket, the worst first, with what was read."""

from __future__ import annotations

import random
from collections.abc import Iterable
from html import escape
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from tokkit.bench.tokbench.prepare import open_picture
from tokkit.bench.tokbench.recognizers import crop_word
from tokkit.bench.tokbench.run import Method, Reading, Result
from tokkit.bench.tokbench.scores import BUCKETS, TEXT_EDGES, BucketScores, bucket_of, similarity
from tokkit.evaluate.exhibit import figure
from tokkit.evaluate.page import SCRIPT, STYLE, VIEWER
from tokkit.files import replacing

WORST, OTHERS = 12, 6
"""Words of a bucket that are shown: those read worst, and some of the rest taken at random."""


def write_report(result: Result, method: Method, path: str | Path, *, seed: int = 0) -> None:
    """Write the report; a file that is there is replaced.

    Args:
        result: of `run`.
        method: what was judged, for its reconstructions.
        path: of the file.
        seed: of the words taken at random.
    """
    title = escape(f"{result.method}: TokBench at {result.setting}")
    counts = f"{result.images} pictures, {result.words} words, {result.faces} faces"
    lost = f", {len(result.failures)} failures" if result.failures else ""
    body = [f'<h1>{title}</h1><div class="soft">{counts}{lost}</div>', _scores(result), *_buckets(result, method, seed)]
    page = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">'
        f'<link rel="icon" href="data:,"><title>{title}</title><style>{STYLE}</style></head><body><main>{"".join(body)}</main>'
        f"{VIEWER}<script>{SCRIPT}</script></body></html>\n"
    )
    with replacing(path) as part:
        part.write_text(page, encoding="utf-8")


def _scores(result: Result) -> str:
    rows = []
    for name, score in result.scores.items():
        cells = [f"<td>{_number(score.buckets[bucket])}<small>{score.counts[bucket]}</small></td>" for bucket in BUCKETS]
        rows.append(f"<tr><td>{escape(name)}</td>{''.join(cells)}<td>{_number(score.mean)}{_spread(score)}</td></tr>")
    head = "".join(f"<th>{name}</th>" for name in ("metric", *BUCKETS, "mean"))
    explained = (
        "The mean is that of the three buckets, unweighted, with its 95 % bootstrap interval over pictures; below each bucket, how many "
        "words or faces it has."
    )
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
    return f'<h2>Scores</h2><div class="card">{table}</div><p class="soft">{explained}</p>'


def _buckets(result: Result, method: Method, seed: int) -> Iterable[str]:
    edges = TEXT_EDGES[result.setting]
    for bucket in BUCKETS:
        inside = [own for own in result.readings if bucket_of(own.word.ratio, edges) == bucket]
        if not inside:
            continue
        ranked = sorted(inside, key=lambda own: similarity(own.word.text, own.read))
        rest = ranked[WORST:]
        shown = ranked[:WORST] + random.Random(seed).sample(rest, min(OTHERS, len(rest)))
        cases = "".join(_case(own, method, result.setting) for own in shown)
        worst = min(WORST, len(inside))
        note = f"Of {len(inside)} words the {worst} that were read worst, then {len(shown) - worst} at random."
        yield f'<h2>{bucket.capitalize()} text</h2><p class="soft">{note}</p>{cases}'


def _case(own: Reading, method: Method, setting: int) -> str:
    crops = (_crop(own.part.folder, own), _crop(method.folder(own.part, setting), own))
    tag = "" if own.read == own.word.text else '<span class="tag">misread</span>'
    figures = [
        figure(_tensor(crops[0]), "original", own.word.text),
        figure(_tensor(crops[1]), method.name, f"read: {own.read or '(nothing)'}"),
    ]
    place = escape(f"{own.part.name}/{own.image.name}: {own.word.text}")
    return f'<section class="case card"><h3>{place}{tag}</h3><div class="strip">{"".join(figures)}</div></section>'


def _crop(folder: Path, own: Reading) -> NDArray[np.uint8]:
    return crop_word(np.asarray(open_picture(folder / own.image.name)), own.word)


def _tensor(crop: NDArray[np.uint8]) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(crop)).permute(2, 0, 1)


def _spread(score: BucketScores) -> str:
    return "" if score.interval is None else f"<small>{score.interval[0]:.4f} to {score.interval[1]:.4f}</small>"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
