"""Charts side by side as one SVG file, for a page of documentation: no script, nothing outside of it, light and dark."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from tokkit.evaluate.page import CHART, THEME
from tokkit.evaluate.svg import HEIGHT, WIDTH, Series, line_chart

_LEGEND_LINE = 26


@dataclass(frozen=True)
class Panel:
    """One chart of a drawing: the options of `line_chart`."""

    series: Sequence[Series]
    x_label: str
    y_label: str
    log_x: bool = False


def drawing(panels: Sequence[Panel]) -> str:
    """An SVG document of the panels in a row, the names of their lines below. Panels without marks are left out; none left: ""."""
    charts = [line_chart(panel.series, x_label=panel.x_label, y_label=panel.y_label, log_x=panel.log_x) for panel in panels]
    bodies = [chart[: chart.index("</svg>") + len("</svg>")] for chart in charts if chart]
    if not bodies:
        return ""
    named = {line.name: line.color for panel in panels for line in panel.series if line.marks}
    width, height = WIDTH * len(bodies), HEIGHT + _LEGEND_LINE
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="system-ui,sans-serif">',
        f"<style>{THEME}{CHART}</style>",
        f'<rect width="{width}" height="{height}" fill="var(--card)"/>',
    ]
    for index, body in enumerate(bodies):
        place = f'<svg x="{index * WIDTH}" y="0" width="{WIDTH}" height="{HEIGHT}" '
        parts.append(
            body.replace("<svg ", place, 1).replace('class="chart" ', "", 1).replace("<svg ", '<g class="chart"><svg ', 1) + "</g>"
        )
    each = width / len(named)
    for index, (name, color) in enumerate(named.items()):
        left = index * each + 24
        parts.append(f'<rect x="{left:.0f}" y="{HEIGHT + 3}" width="12" height="12" rx="3" fill="var(--series-{color})"/>')
        parts.append(f'<text x="{left + 20:.0f}" y="{HEIGHT + 14}" font-size="13" fill="var(--text)">{escape(name)}</text>')
    return "".join([*parts, "</svg>\n"])
