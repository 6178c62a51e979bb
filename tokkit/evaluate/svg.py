"""Line charts as inline SVG. Colours come from the page's style sheet (`--series-0` ...), so that they follow light and dark."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 720, 400
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 16, 16, 52
SERIES_COLORS = 8


@dataclass(frozen=True)
class Mark:
    """A point of a series; `label` is shown when the mouse rests on it."""

    x: float
    y: float
    label: str = ""


@dataclass(frozen=True)
class Series:
    """A line through its marks.

    Attributes:
        color: an index of the page's series colours.
        strong: drawn larger, for what the chart is about.
    """

    name: str
    marks: Sequence[Mark]
    color: int
    strong: bool = False


def line_chart(series: Sequence[Series], *, x_label: str, y_label: str, log_x: bool = False) -> str:
    """A chart with a legend. Series without marks are left out.

    Args:
        series: the lines, the first on top.
        x_label, y_label: of the axes, with units.
        log_x: logarithmic x axis (base 2); all x must be positive then.
    """
    shown = [line for line in series if line.marks]
    xs = [math.log2(mark.x) if log_x else mark.x for line in shown for mark in line.marks]
    ys = [mark.y for line in shown for mark in line.marks]
    if not xs:
        return ""
    x_low, x_high = _padded(min(xs), max(xs))
    y_low, y_high = _padded(min(ys), max(ys))

    def place(mark: Mark) -> tuple[float, float]:
        x = math.log2(mark.x) if log_x else mark.x
        across = (x - x_low) / (x_high - x_low)
        up = (mark.y - y_low) / (y_high - y_low)
        return _LEFT + across * (WIDTH - _LEFT - _RIGHT), HEIGHT - _BOTTOM - up * (HEIGHT - _TOP - _BOTTOM)

    parts = [f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(f"{y_label} over {x_label}")}">']
    for tick in log_ticks(x_low, x_high) if log_x else ticks(x_low, x_high):
        x = place(Mark(tick, y_low))[0]
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{HEIGHT - _BOTTOM}"/>')
        parts.append(f'<text class="tick" x="{x:.1f}" y="{HEIGHT - _BOTTOM + 18}" text-anchor="middle">{tick:.4g}</text>')
    for tick in ticks(y_low, y_high):
        y = place(Mark(xs[0] if not log_x else 2 ** xs[0], tick))[1]
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="tick" x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{tick:.4g}</text>')
    middle_x, middle_y = (_LEFT + WIDTH - _RIGHT) / 2, (_TOP + HEIGHT - _BOTTOM) / 2
    parts.append(f'<text class="axis" x="{middle_x}" y="{HEIGHT - 10}" text-anchor="middle">{escape(x_label)}</text>')
    turned = f'transform="rotate(-90 14 {middle_y})"'
    parts.append(f'<text class="axis" x="14" y="{middle_y}" text-anchor="middle" {turned}>{escape(y_label)}</text>')
    for line in reversed(shown):
        parts.append(_draw(line, [place(mark) for mark in line.marks]))
    return "".join([*parts, "</svg>", legend(shown)])


def legend(series: Sequence[Series]) -> str:
    """The names of the lines with their colours."""
    swatch = '<span class="swatch" style="background:var(--series-{})"></span>'
    items = "".join(f"<li>{swatch.format(line.color)}{escape(line.name)}</li>" for line in series)
    return f'<ul class="legend">{items}</ul>'


def ticks(low: float, high: float, wanted: int = 6) -> list[float]:
    """Round numbers inside [low, high]: multiples of 1, 2 or 5 times a power of ten."""
    rough = (high - low) / wanted
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    first = math.ceil(low / step - 1e-9)
    return [round(index * step, 12) for index in range(first, math.floor(high / step + 1e-9) + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Powers of two inside [2^low, 2^high], every one or every n-th, at most about ten."""
    first, last = math.ceil(low - 1e-9), math.floor(high + 1e-9)
    step = max(1, (last - first) // 8)
    return [2.0**exponent for exponent in range(first, last + 1, step)]


def _padded(low: float, high: float) -> tuple[float, float]:
    """A range a little wider than [low, high], never empty."""
    margin = (high - low) * 0.06 or max(abs(low) * 0.1, 0.5)
    return low - margin, high + margin


def _draw(line: Series, places: Sequence[tuple[float, float]]) -> str:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    radius = 6 if line.strong else 3.5
    parts = [f'<g style="--own:var(--series-{line.color})">']
    if len(places) > 1:
        parts.append(f'<polyline class="{"strong line" if line.strong else "line"}" points="{path}"/>')
    for mark, (x, y) in zip(line.marks, places, strict=True):
        label = escape(f"{line.name}: {mark.label}" if mark.label else line.name)
        parts.append(f'<circle class="mark" cx="{x:.1f}" cy="{y:.1f}" r="{radius}"><title>{label}</title></circle>')
    return "".join([*parts, "</g>"])
