"""The result of an evaluation: a row for every sample and system, and what is computed from the rows."""

from __future__ import annotations

import csv
import dataclasses
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from tokkit.errors import InputError
from tokkit.evaluate.bootstrap import Interval, bootstrap_mean
from tokkit.evaluate.jackknife import jackknife
from tokkit.files import refuse_overwrite, replacing
from tokkit.metrics.base import Fold

if TYPE_CHECKING:
    from tokkit.evaluate.exhibit import Exhibit

FORMAT = "tokkit-evaluation"
VERSION = 1


@dataclass(frozen=True)
class MetricInfo:
    """What a table says about a metric."""

    name: str
    unit: str
    higher_is_better: bool


@dataclass(frozen=True, kw_only=True)
class Row:
    """One sample through one system.

    Attributes:
        extent: how large the sample is, in the evaluation's `unit` (pixels, say).
        payload_bits: nominal bits of the codes; of a classical codec its whole file; 0 where it is not known.
        file_bytes: of a file with this sample alone; 0 where it is not known.
        setting: what was chosen for this sample, such as "quality 34".
        over_budget: a baseline whose smallest file is larger than the tokens' file.
        values: of the metrics that could be computed; infinite is the PSNR of a perfect reconstruction.
        failures: metric -> why it could not.
    """

    sample: str
    system: str
    extent: float
    payload_bits: int
    file_bytes: int
    setting: str = ""
    over_budget: bool = False
    values: dict[str, float] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)

    @property
    def payload_rate(self) -> float:
        """Payload bits per pixel (or second, or sample)."""
        return self.payload_bits / self.extent

    @property
    def file_rate(self) -> float:
        """Bits of the file per pixel (or second, or sample)."""
        return 8 * self.file_bytes / self.extent


@dataclass(frozen=True)
class Skipped:
    """A sample that a system (or, where `system` is "", the reader) could not work with."""

    sample: str
    system: str
    reason: str


@dataclass(frozen=True)
class Point:
    """Means over the samples of a curve at one setting."""

    setting: int
    payload_rate: float
    file_bytes: float
    n: int
    values: dict[str, float]


@dataclass(frozen=True)
class Curve:
    """Rate against quality.

    Attributes:
        system: a codec, or the judged system.
        axis: what the settings count: "quality", "tokens" or "levels"; "" for a single point.
    """

    system: str
    axis: str
    points: list[Point]


@dataclass(frozen=True)
class Column:
    """One metric of one system over all samples.

    Attributes:
        interval: of the finite values.
        n_infinite: values that no mean can hold (the PSNR of a perfect reconstruction), counted apart.
        n_failed: samples that it could not be computed for.
    """

    interval: Interval
    n_infinite: int
    n_failed: int


@dataclass(frozen=True)
class Summary:
    """One line of the table."""

    system: str
    n: int
    n_skipped: int
    n_over_budget: int
    payload_rate: Interval
    file_rate: Interval
    file_bytes: Interval
    metrics: dict[str, Column]


@dataclass(frozen=True)
class Case:
    """A sample that the report shows: what the exhibit keeps of the original and of what each system made of it."""

    sample: str
    original: Tensor
    reconstructions: dict[str, Tensor]
    rows: dict[str, Row]
    worst: bool


@dataclass
class Evaluation:
    """Everything that one run found.

    Attributes:
        model: what identifies the judged system; its "name" is the system's name in the rows.
        unit: what rates are per: "pixel", "second" or "sample".
        usage: for each codebook of a token: how much of it was used.
        set_metrics: those of all samples together, such as Fréchet distances.
        sets: system -> their values.
        folds: system -> metric -> its values without each block of samples.
        settings: seed, level of the intervals, and what was asked for.
        provenance: machine, commit, versions, command.
        notes: what the reader should know, one sentence each.
        cases, exhibit: what the report shows and how; only in memory.
    """

    model: dict[str, Any]
    modality: str
    unit: str
    metrics: list[MetricInfo]
    settings: dict[str, Any]
    rows: list[Row] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    usage: list[dict[str, float]] = field(default_factory=list)
    set_metrics: list[MetricInfo] = field(default_factory=list)
    sets: dict[str, dict[str, float]] = field(default_factory=dict)
    folds: dict[str, dict[str, list[Fold]]] = field(default_factory=dict)
    curves: list[Curve] = field(default_factory=list)
    provenance: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    cases: list[Case] = field(default_factory=list)
    exhibit: Exhibit | None = field(default=None, repr=False, compare=False)

    @property
    def systems(self) -> list[str]:
        """The judged system first, then the baselines in the order asked for."""
        return [self.model["name"], *(f"{name}@same-bytes" for name in self.settings["baselines"])]

    @property
    def unread(self) -> list[Skipped]:
        """The samples that are in no row: unreadable, or the judged system failed."""
        return [skipped for skipped in self.skipped if skipped.system in ("", self.model["name"])]

    def set_interval(self, system: str, metric: str) -> Interval:
        """A metric of all samples together, with its noise; without a mean where it has no value."""
        value = self.sets.get(system, {}).get(metric)
        n = sum(row.system == system for row in self.rows)
        if value is None:
            return Interval(None, None, None, n, self.settings["level"])
        return jackknife(value, self.folds.get(system, {}).get(metric, []), n, level=self.settings["level"])

    def summary(self) -> list[Summary]:
        """One line a system."""
        return [self._summarize(system) for system in self.systems]

    def _summarize(self, system: str) -> Summary:
        rows = [row for row in self.rows if row.system == system]

        def interval(numbers: Iterator[float]) -> Interval:
            return bootstrap_mean(list(numbers), level=self.settings["level"], seed=self.settings["seed"])

        sized = [row for row in rows if row.file_bytes]
        metrics = {}
        for metric in self.metrics:
            found = [row.values[metric.name] for row in rows if metric.name in row.values]
            finite = interval(value for value in found if math.isfinite(value))
            n_failed = sum(metric.name in row.failures for row in rows)
            metrics[metric.name] = Column(finite, len(found) - finite.n, n_failed)
        return Summary(
            system=system,
            n=len(rows),
            n_skipped=sum(skipped.system in ("", system, self.model["name"]) for skipped in self.skipped),
            n_over_budget=sum(row.over_budget for row in rows),
            payload_rate=interval(row.payload_rate for row in sized),
            file_rate=interval(row.file_rate for row in sized),
            file_bytes=interval(float(row.file_bytes) for row in sized),
            metrics=metrics,
        )

    def to_dict(self) -> dict[str, Any]:
        """Everything but the pictures, as plain values."""
        parts = {
            entry.name: getattr(self, entry.name) for entry in dataclasses.fields(self) if entry.name not in ("rows", "cases", "exhibit")
        }
        ordered = {**parts, "summary": self.summary(), "rows": self.rows}
        return {"format": FORMAT, "version": VERSION, **{key: plain(value) for key, value in ordered.items()}}

    def write_json(self, path: str | Path, *, force: bool = False) -> None:
        """Write the result.

        Raises:
            InputError: the file exists and `force` is not set.
        """
        refuse_overwrite(path, force=force)
        with replacing(path) as part:
            part.write_text(json.dumps(self.to_dict(), indent=1, allow_nan=False) + "\n", encoding="utf-8")

    def write_csv(self, path: str | Path, *, force: bool = False) -> None:
        """Write the rows; a metric that failed is an empty cell, and `failures` says why.

        Raises:
            InputError: the file exists and `force` is not set.
        """
        refuse_overwrite(path, force=force)
        names = [metric.name for metric in self.metrics]
        with replacing(path) as part, part.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            fixed = ["sample", "system", "setting", "over_budget", "payload_bits", "file_bytes", f"payload_bits_per_{self.unit}"]
            writer.writerow([*fixed, *names, "failures"])
            for row in self.rows:
                failures = "; ".join(f"{name}: {reason}" for name, reason in row.failures.items())
                about = [row.sample, row.system, row.setting, int(row.over_budget), row.payload_bits, row.file_bytes, row.payload_rate]
                writer.writerow([*about, *(row.values.get(name, "") for name in names), failures])

    @classmethod
    def from_json(cls, path: str | Path) -> Evaluation:
        """Read what `write_json` wrote.

        Raises:
            InputError: the file is not there or is something else.
        """
        path = Path(path)
        try:
            stored = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(f"{path}: cannot read the evaluation: {getattr(error, 'strerror', None) or error}") from error
        if not isinstance(stored, dict) or stored.get("format") != FORMAT or stored.get("version") != VERSION:
            raise InputError(f"{path}: not a result of `tokkit eval --json` (format {FORMAT!r}, version {VERSION})")
        try:
            return cls(
                metrics=[MetricInfo(**info) for info in stored["metrics"]],
                rows=[Row(**{**row, "values": {name: float(value) for name, value in row["values"].items()}}) for row in stored["rows"]],
                skipped=[Skipped(**entry) for entry in stored["skipped"]],
                curves=[Curve(**{**entry, "points": [Point(**point) for point in entry["points"]]}) for entry in stored["curves"]],
                sets=stored.get("sets", {}),
                set_metrics=[MetricInfo(**info) for info in stored.get("set_metrics", [])],
                folds={
                    system: {name: [Fold(**fold) for fold in folds] for name, folds in named.items()}
                    for system, named in stored.get("folds", {}).items()
                },
                **{key: stored[key] for key in ("model", "modality", "unit", "settings", "usage", "provenance", "notes")},
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(f"{path}: damaged evaluation: {error}") from error


def plain(value: Any) -> Any:
    """Dataclasses as mappings; infinite numbers, which JSON has none of, as "inf" and "-inf"."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {entry.name: plain(getattr(value, entry.name)) for entry in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return str(value) if isinstance(value, float) and math.isinf(value) else value
