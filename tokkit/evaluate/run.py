"""Evaluates a system: every sample is coded, written to a file, read back, decoded and measured, beside classical codecs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import chain, islice
from typing import Any

from torch import Tensor

from tokkit import registry
from tokkit.baselines.base import Baseline
from tokkit.data.base import Source
from tokkit.errors import InputError, TokkitError
from tokkit.evaluate.curves import CurveBuilder
from tokkit.evaluate.exhibit import exhibit_for
from tokkit.evaluate.gallery import Gallery
from tokkit.evaluate.provenance import provenance
from tokkit.evaluate.result import Evaluation, MetricInfo, Row, Skipped
from tokkit.evaluate.systems import Coded, System, TokenizerSystem
from tokkit.metrics.base import Metric, MetricFailure, SetMetric
from tokkit.metrics.codebook_usage import CodebookUsage
from tokkit.metrics.frechet import build_frechet, is_frechet
from tokkit.modalities.base import Modality, Sample
from tokkit.tokenizer import Tokenizer

DEFAULT_METRICS = {
    "image": ("psnr", "ssim", "lpips_alex"),
    "video": ("psnr_clip", "ssim_frames", "lpips_vgg_frames", "psnr_differences", "flicker_still"),
    "audio": ("mel_distance_22k", "stft_distance_22k", "si_sdr", "pesq_wb_16k", "stoi"),
}
"""Modality -> what is measured when nothing is asked for; for another modality, all of its metrics."""

ORIGINALS = "originals"
"""The group of a `SetMetric` that reconstructions are held against."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """How to evaluate.

    Attributes:
        batch_size: samples that are coded together.
        limit: stop after so many samples; None for all.
        curve_samples: how many samples, the first ones, the curves of rate against quality are made of; 0 for no curves.
        worst: how many of the worst samples the report shows.
        others: how many samples it shows besides, taken at random.
        level: of the confidence intervals.
        seed: of the bootstrap and of the random choice.
    """

    batch_size: int = 8
    limit: int | None = None
    curve_samples: int = 32
    worst: int = 8
    others: int = 4
    level: float = 0.95
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("batch_size", 1), ("limit", 1), ("curve_samples", 0), ("worst", 0), ("others", 0)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise InputError(f"{name} must be at least {least}, got {value}")
        if not 0 < self.level < 1:
            raise InputError(f"level must be between 0 and 1, got {self.level}")


def evaluate(
    system: Tokenizer | System,
    inputs: Source | Iterable[Any],
    *,
    metrics: Sequence[str | Metric | SetMetric] | None = None,
    baselines: Sequence[str | Baseline] = (),
    options: Options | None = None,
    progress: Callable[[int], object] = lambda done: None,
) -> Evaluation:
    """Measure what a system loses.

    Args:
        system: what is judged.
        inputs: an opened data source, or whatever the modality takes: paths, tensors, `Sample`s; sources may be among them.
        metrics: names or objects; the modality's defaults when not given, without those whose weights are not there.
        baselines: names or objects of classical codecs, each given, for every sample, the bytes of the system's own file.
        options: see there.
        progress: called with the number of samples that are finished.

    Returns:
        A row for each sample and system. A sample that cannot be read or coded is in `skipped`; a metric that has no value for a sample is
        counted as failed.

    Raises:
        InputError: a metric or a baseline is unknown, of another modality, or lacks its weights; or no sample at all could be evaluated.
    """
    return prepare(system, metrics=metrics, baselines=baselines, options=options).over(inputs, progress)


def prepare(
    system: Tokenizer | System,
    *,
    metrics: Sequence[str | Metric | SetMetric] | None = None,
    baselines: Sequence[str | Baseline] = (),
    options: Options | None = None,
) -> Run:
    """An evaluation that has not begun; see `evaluate`.

    Raises:
        InputError: a metric or a baseline is unknown, of another modality, or lacks its weights.
    """
    judged = TokenizerSystem(system) if isinstance(system, Tokenizer) else system
    notes: list[str] = []
    of_sets = [metric for metric in metrics or () if isinstance(metric, SetMetric) or (isinstance(metric, str) and is_frechet(metric))]
    return Run(
        judged,
        find_metrics(judged.modality, None if metrics is None else [metric for metric in metrics if metric not in of_sets], notes),
        [_find_set_metric(metric, judged) for metric in of_sets],
        [_find("baseline", baseline, judged.modality) for baseline in baselines],
        options or Options(),
        notes,
    )


def find_metrics(modality: Modality, asked: Sequence[str | Metric | SetMetric] | None, notes: list[str]) -> list[Metric]:
    """The metrics as objects; of the defaults, those that work here, and a note about each other one.

    Raises:
        InputError: one that was asked for is unknown, of another modality, or lacks its weights.
    """
    if asked is not None:
        return [_find("metric", metric, modality) for metric in asked]
    names = DEFAULT_METRICS.get(modality.name) or [
        name for name in registry.names("metric") if getattr(registry.get("metric", name), "modality", None) == modality.name
    ]
    found = []
    for name in names:
        try:
            found.append(build_for("metric", name, modality))
        except InputError as error:
            notes.append(f"{name} is left out: {error}")
    return found


def _find_set_metric(given: Any, system: System) -> SetMetric:
    metric: SetMetric = build_frechet(given, device=system.device) if isinstance(given, str) else given
    if metric.modality != system.modality.name:
        raise InputError(f"metric {metric.name!r} judges {metric.modality}, and this is {system.modality.name}")
    return metric


def _find(kind: str, given: Any, modality: Modality) -> Any:
    component = build_for(kind, given, modality) if isinstance(given, str) else given
    if component.modality != modality.name:
        raise InputError(f"{kind} {component.name!r} judges {component.modality}, and this is {modality.name}")
    return component


def build_for(kind: str, name: str, modality: Modality) -> Any:
    """A component by name, for the sample rate of the modality where it asks for one."""
    rated = "sample_rate" in registry.signature(registry.get(kind, name)).parameters
    return registry.build(kind, name, **({"sample_rate": modality.sample_rate} if rated else {}))


def read_samples(modality: Modality, inputs: Source | Iterable[Any]) -> Iterator[Sample | Skipped]:
    """Samples one by one; those that cannot be read as `Skipped`."""
    if isinstance(inputs, Source):
        for index in range(len(inputs)):
            try:
                sample = inputs.sample(index)
                sample.text = inputs.text(index)
                yield sample
            except InputError as error:
                yield Skipped(f"sample {index}", "", str(error))
        return
    for item in inputs:
        if isinstance(item, Source):
            yield from read_samples(modality, item)
        elif isinstance(item, Sample):
            yield item
        else:
            try:
                found = modality.samples(item)
            except InputError as error:
                yield Skipped(str(item) if isinstance(item, str) or hasattr(item, "__fspath__") else type(item).__name__, "", str(error))
            else:
                yield from found


def extent_of(modality: Modality, values: Tensor) -> float:
    """How large a sample [C, *spatial] is, in `unit_of(modality)`."""
    if modality.sample_rate:
        return values.shape[-1] / modality.sample_rate
    return float(math.prod(values.shape[1:])) if modality.rank >= 2 else 1.0


def unit_of(modality: Modality) -> str:
    """What rates are per: "second" of sound, "pixel" of pictures and video, else "sample"."""
    if modality.sample_rate:
        return "second"
    return "pixel" if modality.rank >= 2 else "sample"


class Run:
    """One evaluation in progress. Memory holds a batch of samples, the numbers, and the pictures of the report.

    Attributes:
        counts: samples are counted: in rows, metrics of sets, and the use of codebooks.
        shows: samples are shown: in the gallery, and the first ones in the curves.
    """

    counts = True
    shows = True

    def __init__(
        self,
        system: System,
        metrics: list[Metric],
        set_metrics: list[SetMetric],
        baselines: list[Baseline],
        options: Options,
        notes: list[str],
    ):
        self.system, self.metrics, self.baselines, self.options = system, metrics, baselines, options
        self.set_metrics = set_metrics
        infos = [MetricInfo(metric.name, metric.unit, metric.higher_is_better) for metric in metrics]
        settings = {
            "seed": options.seed,
            "level": options.level,
            "limit": options.limit,
            "batch_size": options.batch_size,
            "curve_samples": options.curve_samples,
            "baselines": [baseline.name for baseline in baselines],
            "libraries": {baseline.name: baseline.library for baseline in baselines},
        }
        unit = unit_of(system.modality)
        of_sets = [MetricInfo(metric.name, metric.unit, metric.higher_is_better) for metric in set_metrics]
        self.result = Evaluation(system.describe(), system.modality.name, unit, infos, settings, set_metrics=of_sets, notes=notes)
        self.usage = CodebookUsage(system.codebook_sizes) if system.codebook_sizes else None
        self.curves = CurveBuilder()
        self.result.exhibit = exhibit_for(system.modality)
        self.gallery = Gallery(options.worst, options.others, infos[0] if infos else None, options.seed, self.result.exhibit)
        self.done = 0

    def over(self, inputs: Source | Iterable[Any], progress: Callable[[int], object]) -> Evaluation:
        found = islice(read_samples(self.system.modality, inputs), self.options.limit)
        while batch := list(islice(found, self.options.batch_size)):
            self.take(batch)
            progress(self.done + len(self.result.unread))
        return self.finish()

    def take(self, batch: Sequence[Sample | Skipped]) -> list[Sample]:
        """Judge a batch; the samples of it that could be judged."""
        self.result.skipped.extend(entry for entry in batch if isinstance(entry, Skipped))
        judged = []
        for sample, coded in self._code([entry for entry in batch if isinstance(entry, Sample)]):
            self._judge(sample, coded)
            self.done += 1
            judged.append(sample)
        return judged

    def finish(self) -> Evaluation:
        """The result of everything that was taken, in this process.

        Raises:
            InputError: no sample could be used.
        """
        if not self.result.rows:
            reason = f"; the first: {self.result.skipped[0].reason}" if self.result.skipped else ""
            raise InputError(f"nothing to evaluate: none of {len(self.result.skipped)} samples could be used{reason}")
        if self.usage is not None:
            self.result.usage = [asdict(level) for level in self.usage.compute(everyone=False).levels]
        for system in self.result.systems:
            self._of_sets(system)
        self.result.curves = self.curves.curves()
        self.result.cases = self.gallery.cases()
        self.result.provenance = provenance()
        return self.result

    def _code(self, samples: list[Sample]) -> Iterator[tuple[Sample, Coded]]:
        """A batch at once; when that fails, one by one, so that a bad sample takes no other with it."""
        if not samples:
            return iter(())
        try:
            coded = self.system.code(samples)
        except TokkitError as error:
            if len(samples) > 1:
                return chain.from_iterable(self._code([sample]) for sample in samples)
            self.result.skipped.append(Skipped(samples[0].name, self.system.name, str(error)))
            return iter(())
        return zip(samples, coded, strict=True)

    def _judge(self, sample: Sample, coded: Coded) -> None:
        """All rows of one sample."""
        name = self.system.name
        rows = {name: self._row(sample, name, coded)}
        reconstructions = {name: coded.values}
        for baseline in self.baselines:
            system = f"{baseline.name}@same-bytes"
            if not coded.file_bytes:
                self.result.skipped.append(Skipped(sample.name, system, f"{name} does not tell the bytes of its files"))
                continue
            try:
                fitted = baseline.fit(sample.values, coded.file_bytes)
            except InputError as error:
                self.result.skipped.append(Skipped(sample.name, system, str(error)))
                continue
            values = baseline.decode(fitted.data)
            own = Coded(values, 8 * len(fitted.data), len(fitted.data))
            rows[system] = self._row(sample, system, own, f"quality {fitted.quality}", over_budget=fitted.over_budget)
            reconstructions[system] = values
        if self.counts:
            self.result.rows.extend(rows.values())
            if self.usage is not None and coded.tokens is not None:
                self.usage.update(coded.tokens.codes)
            for metric in self.set_metrics:
                for group, values in {ORIGINALS: sample.values, **reconstructions}.items():
                    self._add(metric, group, sample.name, values)
        if self.shows:
            self.gallery.offer(sample.values, reconstructions, rows, name)
            if self.done < self.options.curve_samples:
                self._sweep(sample, coded, rows[name])

    def _add(self, metric: SetMetric, group: str, sample: str, values: Tensor) -> None:
        try:
            metric.add(group, values, key=sample)
        except MetricFailure as error:
            self.result.notes.append(f"{sample} of {group} is left out: {error}")

    def _of_sets(self, system: str) -> None:
        """The values of the set metrics that have one, with their noise."""
        for metric in self.set_metrics:
            try:
                value, folds = metric.compute(ORIGINALS, system), metric.folds(ORIGINALS, system)
            except MetricFailure as error:
                self.result.notes.append(f"{metric.name} of {system} has no value: {error}")
                continue
            self.result.sets.setdefault(system, {})[metric.name] = value
            self.result.folds.setdefault(system, {})[metric.name] = folds

    def _sweep(self, sample: Sample, coded: Coded, full: Row) -> None:
        """The sample's share of the curves: the system whole and shortened, and each codec at its own list of qualities."""
        self.curves.add("", 0, full)
        for part in self.system.shortened(coded):
            self.curves.add(part.axis, part.count, self._row(sample, self.system.name, part.coded))
        for baseline in self.baselines:
            for quality in baseline.sweep:
                try:
                    data = baseline.encode(sample.values, quality)
                except InputError:
                    break  # `_judge` has named this sample and codec
                own = Coded(baseline.decode(data), 8 * len(data), len(data))
                self.curves.add("quality", quality, self._row(sample, baseline.name, own))

    def _row(self, sample: Sample, system: str, coded: Coded, setting: str = "", *, over_budget: bool = False) -> Row:
        original = sample.values.to(self.system.device)
        reconstruction = coded.values.to(self.system.device)
        values: dict[str, float] = {}
        failures: dict[str, str] = {}
        for metric in self.metrics:
            try:
                value = metric.with_text(original, reconstruction, sample.text)
            except MetricFailure as error:
                failures[metric.name] = str(error)
                continue
            if math.isnan(value):
                failures[metric.name] = "not a number"
            else:
                values[metric.name] = value
        return Row(
            sample=sample.name,
            system=system,
            extent=extent_of(self.system.modality, sample.values),
            payload_bits=coded.payload_bits,
            file_bytes=coded.file_bytes,
            setting=setting,
            over_budget=over_budget,
            values=values,
            failures=failures,
        )
