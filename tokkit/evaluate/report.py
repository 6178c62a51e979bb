"""The report: one HTML file that needs nothing else. Every name in it is escaped, and its pictures are inside it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from pathlib import Path

from tokkit.evaluate.bootstrap import Interval
from tokkit.evaluate.exhibit import Exhibit
from tokkit.evaluate.page import SCRIPT, STYLE, VIEWER
from tokkit.evaluate.result import Case, Column, Curve, Evaluation, MetricInfo, Row, Skipped, Summary
from tokkit.evaluate.svg import SERIES_COLORS, Mark, Series, line_chart
from tokkit.files import refuse_overwrite, replacing

_LISTED = 200
_DASH, _MINUS = "\u2013", "\u2212"


def write_report(evaluation: Evaluation, path: str | Path, *, force: bool = False) -> None:
    """Write the report.

    Raises:
        InputError: the file exists and `force` is not set.
    """
    refuse_overwrite(path, force=force)
    with replacing(path) as part:
        part.write_text(render(evaluation), encoding="utf-8")


def render(evaluation: Evaluation) -> str:
    """The report as HTML."""
    lines = evaluation.summary()
    title = escape(f"{evaluation.model['name']}: evaluation")
    sections = [
        _head(evaluation, lines[0]),
        _table(evaluation, lines),
        _sets(evaluation),
        _rate_charts(evaluation),
        _length_charts(evaluation),
        _usage(evaluation),
        _cases(evaluation),
        _skipped(evaluation.skipped),
        _facts(evaluation),
    ]
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">'
        f'<link rel="icon" href="data:,"><title>{title}</title><style>{STYLE}</style></head><body><main>{"".join(sections)}</main>'
        f"{VIEWER}<script>{SCRIPT}</script>{evaluation.exhibit.page if evaluation.cases and evaluation.exhibit else ''}</body></html>\n"
    )


def _head(evaluation: Evaluation, own: Summary) -> str:
    tiles = [(_value(own.metrics[metric.name], metric), metric.name) for metric in evaluation.metrics[:3]]
    tiles.append((_number(own.payload_rate.mean), f"payload bits/{evaluation.unit}"))
    tiles.append((_number(own.file_bytes.mean), "bytes a file, all included"))
    if evaluation.usage:
        tiles.append((f"{100 * min(level['used'] for level in evaluation.usage):.3g} %", "codebook usage" + _lowest(evaluation)))
    shown = "".join(f'<div class="card"><b>{escape(value)}</b><span class="soft">{escape(label)}</span></div>' for value, label in tiles)
    count = f"{own.n} sample{'' if own.n == 1 else 's'}"
    lost = f', <span class="bad">{len(evaluation.unread)} skipped</span>' if evaluation.unread else ""
    notes = "".join(f'<p class="soft">{escape(note)}</p>' for note in evaluation.notes)
    created = escape(str(evaluation.provenance.get("created", "")))
    return (
        f"<h1>{escape(evaluation.model['name'])}</h1>"
        f'<div class="soft">{escape(evaluation.modality)} tokenizer, {count}{lost}, {created}</div>'
        f'<div class="tiles">{shown}</div>{notes}'
    )


def _lowest(evaluation: Evaluation) -> str:
    return ", lowest of " + str(len(evaluation.usage)) if len(evaluation.usage) > 1 else ""


def _table(evaluation: Evaluation, lines: Sequence[Summary]) -> str:
    unit, level = evaluation.unit, evaluation.settings["level"]
    heads = ["", "samples", f"payload bits/{unit}", f"file bits/{unit}", "file bytes", *map(_metric_head, evaluation.metrics)]
    rows = []
    for line in lines:
        cells = [f"<td>{escape(line.system)}</td><td>{line.n}{_remark(f'{line.n_skipped} skipped', line.n_skipped)}</td>"]
        cells += [_cell(_number(each.mean), each) for each in (line.payload_rate, line.file_rate)]
        over = _remark(f"{line.n_over_budget} over budget", line.n_over_budget)
        cells.append(_cell(_number(line.file_bytes.mean), line.file_bytes, over))
        for metric in evaluation.metrics:
            column = line.metrics[metric.name]
            remarks = _remark(f"{column.n_failed} failed", column.n_failed)
            remarks += f"<small>{column.n_infinite} infinite, not in the mean</small>" if column.n_infinite else ""
            cells.append(_cell(_number(column.interval.mean), column.interval, remarks))
        rows.append(f"<tr{' class=judged' if line.system == evaluation.model['name'] else ''}>{''.join(cells)}</tr>")
    explained = f"Means over samples; below each, the {100 * level:g} % bootstrap interval of the mean."
    if len(lines) > 1:
        explained += (
            " A codec “at the same bytes” got, for each sample, the highest quality whose file is not larger than the sample's own token "
            "file; where even its lowest quality is larger, that one was used, is counted as over budget, and its real size is in the mean."
        )
    head = "".join(f"<th>{escape(text)}</th>" for text in heads)
    return (
        f'<h2>Summary</h2><div class="card"><table><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'
        f'<p class="soft">{explained}</p>'
    )


def _sets(evaluation: Evaluation) -> str:
    """Metrics of all samples together."""
    names = list(dict.fromkeys(name for values in evaluation.sets.values() for name in values))
    if not names:
        return ""
    head = "".join(f"<th>{escape(name)}</th>" for name in ("all samples together", *names))
    rows = []
    for system in evaluation.sets:
        found = [evaluation.set_interval(system, name) for name in names]
        rows.append(f"<tr><td>{escape(system)}</td>{''.join(_cell(_number(own.mean), own) for own in found)}</tr>")
    told = f"Below each, its {100 * evaluation.settings['level']:g} % jackknife interval over blocks of samples."
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
    return f'<div class="card">{table}</div><p class="soft">{told}</p>'


def _cell(shown: str, interval: Interval, remarks: str = "") -> str:
    spread = ""
    if interval.low is not None and interval.high is not None and interval.low < interval.high:
        spread = f"<small>{_number(interval.low)} {_DASH} {_number(interval.high)}</small>"
    return f"<td>{shown}{spread}{remarks}</td>"


def _remark(text: str, count: int) -> str:
    return f'<small class="bad">{text}</small>' if count else ""


def _metric_head(metric: MetricInfo) -> str:
    return f"{_metric_label(metric)} {'↑' if metric.higher_is_better else '↓'}"


def _metric_label(metric: MetricInfo) -> str:
    return f"{metric.name} [{metric.unit}]" if metric.unit else metric.name


def _rate_charts(evaluation: Evaluation) -> str:
    """Every metric over the rate, one line a system, all over the same samples."""
    charts = []
    colors = _colors(evaluation.curves)
    for metric in evaluation.metrics:
        series = []
        for curve in evaluation.curves:
            own = curve.system == evaluation.model["name"]
            name = f"{curve.system} ({curve.axis})" if own and curve.axis else curve.system
            series.append(Series(name, _rate_marks(curve, metric.name), colors[curve.system], own))
        chart = line_chart(series, x_label=f"bits/{evaluation.unit}", y_label=_metric_label(metric), log_x=True)
        charts.append(f'<div class="card">{chart}</div>' if chart else "")
    if not any(charts):
        return ""
    n = max(point.n for curve in evaluation.curves for point in curve.points)
    told = f"Means over the same {n} sample{'' if n == 1 else 's'} on every line; codecs count their whole file, tokens their payload."
    return f'<h2>Rate and distortion</h2><div class="charts">{"".join(charts)}</div><p class="soft">{told}</p>'


def _rate_marks(curve: Curve, metric: str) -> list[Mark]:
    marks = []
    for point in curve.points:
        if metric in point.values and point.payload_rate > 0:
            at = f"{curve.axis} {point.setting}, " if curve.axis else ""
            label = f"{at}{point.payload_rate:.3g} bits, {point.values[metric]:.4g}"
            marks.append(Mark(point.payload_rate, point.values[metric], label))
    return marks


def _colors(curves: Sequence[Curve]) -> dict[str, int]:
    systems = list(dict.fromkeys(curve.system for curve in curves))
    return {system: index % SERIES_COLORS for index, system in enumerate(systems)}


def _length_charts(evaluation: Evaluation) -> str:
    """Every metric over the number of tokens or levels that were kept, for systems that can be cut."""
    charts = []
    for curve in evaluation.curves:
        if curve.axis not in ("tokens", "levels"):
            continue
        for metric in evaluation.metrics:
            points = [(point.setting, point.values[metric.name]) for point in curve.points if metric.name in point.values]
            marks = [Mark(setting, value, f"{setting} {curve.axis}, {value:.4g}") for setting, value in points]
            line = Series(curve.system, marks, 0, strong=True)
            chart = line_chart([line], x_label=f"{curve.axis} kept", y_label=_metric_label(metric), log_x=curve.axis == "tokens")
            charts.append(f'<div class="card">{chart}</div>' if chart else "")
    return f'<h2>Fewer tokens</h2><div class="charts">{"".join(charts)}</div>' if any(charts) else ""


def _usage(evaluation: Evaluation) -> str:
    if not evaluation.usage:
        return ""
    rows = []
    for index, level in enumerate(evaluation.usage):
        width = min(100.0, 100 * level["used"])
        bar = f'<span class="meter"><i style="width:{width:.2f}%"></i></span>'
        numbers = f"<td>{_number(level['perplexity'])}</td><td>{level['entropy']:.3f}</td><td>{math.ceil(math.log2(level['size']))}</td>"
        rows.append(f"<tr><td>{index}</td><td>{level['size']:.0f}</td><td>{100 * level['used']:.3g} %{bar}</td>{numbers}</tr>")
    head = "".join(f"<th>{text}</th>" for text in ("codebook", "entries", "used", "perplexity", "entropy [bits]", "stored [bits]"))
    total = sum(level["tokens"] for level in evaluation.usage) / len(evaluation.usage)
    told = f"Over {total:.0f} codes of each. A codebook with more entries than codes seen cannot be used whole."
    return (
        f'<h2>Codebook</h2><div class="card"><table><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'
        f'<p class="soft">{told}</p>'
    )


def _cases(evaluation: Evaluation) -> str:
    exhibit = evaluation.exhibit
    if not evaluation.cases or exhibit is None:
        return ""
    order = f"The worst by {escape(evaluation.metrics[0].name)} first. " if evaluation.metrics else ""
    picked = not all(case.worst for case in evaluation.cases)
    shown = "".join(_case(case, evaluation, exhibit, picked) for case in evaluation.cases)
    others = "Those without a mark were taken at random. " if picked else ""
    return f'<h2>{escape(exhibit.title)}</h2><p class="soft">{order}{others}{escape(exhibit.hint)}</p>{shown}'


def _case(case: Case, evaluation: Evaluation, exhibit: Exhibit, picked: bool) -> str:
    strip = exhibit.strip(case, evaluation.model["name"], lambda row: _figure_facts(row, evaluation))
    tag = '<span class="tag">worst</span>' if case.worst and picked else ""
    return f'<section class="case card"><h3>{escape(case.sample)}{tag}</h3><div class="strip">{strip}</div></section>'


def _figure_facts(row: Row, evaluation: Evaluation) -> str:
    facts = [f"{metric.name} {_number(row.values[metric.name])}" for metric in evaluation.metrics if metric.name in row.values]
    over = ", over budget" if row.over_budget else ""
    return ", ".join([*facts, f"{row.file_bytes} bytes{over}", *([row.setting] if row.setting else [])])


def _skipped(skipped: Sequence[Skipped]) -> str:
    if not skipped:
        return ""
    rows = "".join(
        f"<tr><td>{escape(entry.sample)}</td><td>{escape(entry.system or 'reading')}</td><td>{escape(entry.reason)}</td></tr>"
        for entry in skipped[:_LISTED]
    )
    more = f'<p class="soft">and {len(skipped) - _LISTED} more, all in the JSON file</p>' if len(skipped) > _LISTED else ""
    head = "<thead><tr><th>sample</th><th>failed at</th><th>why</th></tr></thead>"
    return f'<h2>Skipped</h2><div class="card"><table>{head}<tbody>{rows}</tbody></table></div>{more}'


def _facts(evaluation: Evaluation) -> str:
    facts: dict[str, str] = {key: str(value) for key, value in evaluation.model.items()}
    made = evaluation.provenance
    facts |= {key: str(made[key]) for key in ("command", "commit") if made.get(key)}
    for key in ("machine", "versions"):
        facts[key] = ", ".join(f"{name} {value}" for name, value in made.get(key, {}).items() if value is not None)
    facts["libraries"] = ", ".join(f"{name}: {value}" for name, value in evaluation.settings["libraries"].items() if value)
    facts["seed"] = str(evaluation.settings["seed"])
    rows = "".join(f"<dt>{escape(key)}</dt><dd><code>{escape(value)}</code></dd>" for key, value in facts.items() if value)
    return f'<h2>How this was made</h2><div class="card"><dl class="facts">{rows}</dl></div>'


def _value(column: Column, metric: MetricInfo) -> str:
    if column.interval.mean is None:
        return "∞" if column.n_infinite else _DASH
    return f"{_number(column.interval.mean)} {metric.unit}".strip()


def _number(value: float | None) -> str:
    """Four digits, more for large whole numbers."""
    if value is None:
        return _DASH
    if math.isinf(value):
        return "∞" if value > 0 else f"{_MINUS}∞"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
