"""Suites: the same samples, metrics and settings for several systems, written down in a yaml file; run, resumed, and put into one table."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, cast

from pydantic import Field

from tokkit import config
from tokkit.bench.journal import Journal
from tokkit.bench.tokbench.faces import build_embedder
from tokkit.bench.tokbench.generate import make_text
from tokkit.bench.tokbench.layout import read_layout
from tokkit.bench.tokbench.methods import home_of, open_method
from tokkit.bench.tokbench.recognizers import build_recognizer
from tokkit.bench.tokbench.run import Result
from tokkit.bench.tokbench.run import run as run_tokbench
from tokkit.bench.tokbench.video import run_video
from tokkit.bench.tokbench.video_layout import read_video_layout
from tokkit.data.base import Source
from tokkit.errors import InputError, TokkitError
from tokkit.evaluate.adapters import open_system
from tokkit.evaluate.provenance import provenance
from tokkit.evaluate.run import Options, evaluate
from tokkit.files import replacing
from tokkit.modalities.base import Modality
from tokkit.registry import Spec

FORMAT = "tokkit-suite"
Positive = Annotated[int, Field(ge=1)]


@dataclass(frozen=True, kw_only=True)
class TokBench:
    """TokBench for every system of the suite.

    Attributes:
        data: folder of the data.
        make_images: render so many pictures into `data` where it is not there; 0 makes none.
        settings: sides of the square.
        recognizer, faces: see `tokkit bench tokbench`; "none" leaves them out.
        video: the videos of `data` instead of its pictures.
    """

    data: str
    make_images: Annotated[int, Field(ge=0)] = 0
    settings: tuple[int, ...] = (256,)
    recognizer: str = "rapidocr"
    faces: str = "dlib"
    video: bool = False


@dataclass(frozen=True, kw_only=True)
class Suite:
    """A suite.

    Attributes:
        modality: of the samples.
        data: held-out samples of these sources, one after the other.
        systems: as `tokkit eval` takes them.
        metrics: names; the modality's usual ones when there are none.
        baselines: codecs at the same bytes.
        limit: samples to look at.
        batch_size: samples a pass of the network.
        seed: of the confidence intervals.
        tokbench: also run TokBench.
    """

    modality: Modality
    data: tuple[Source, ...]
    systems: tuple[str, ...]
    metrics: tuple[str, ...] = ()
    baselines: tuple[str, ...] = ()
    limit: Positive | None = None
    batch_size: Positive = 8
    seed: int = 0
    tokbench: TokBench | None = None

    @classmethod
    def load(cls, path: str | Path) -> Suite:
        """Read and check a suite.

        Raises:
            RecipeError: with every problem, each as `file:line:col: path: message`.
        """
        problems = config.Problems()
        options = config.check(config.read(path, problems), cls, "", problems, {})
        problems.raise_if_any()
        return cls(**options or {})

    def to_dict(self) -> dict[str, Any]:
        """The plain form, components by name and options."""
        plain = {key: value for key, value in vars(self).items() if value is not None}
        plain["modality"] = cast(Spec, self.modality).to_dict()
        plain["data"] = [cast(Spec, source).to_dict() for source in self.data]
        if self.tokbench is not None:
            plain["tokbench"] = asdict(self.tokbench)
        return cast(dict[str, Any], json.loads(json.dumps(plain)))


@dataclass
class SuiteResult:
    """What a suite found.

    Attributes:
        rows: a system's name, number of samples, rates, means of the metrics, and scores of TokBench ("t_acc/rapidocr@256").
        failures: systems that could not be judged, or not on every sample, and why.
    """

    rows: list[dict[str, Any]]
    failures: list[str]


def run_suite(suite: Suite, out: str | Path, *, device: str = "auto", report: Callable[[str], object] = lambda system: None) -> SuiteResult:
    """Judge every system that is not finished yet, and write `suite.json`; the details of each are in files beside it.

    Args:
        suite: what to do.
        out: folder of the results; the same folder goes on with an interrupted run.
        device: where systems run.
        report: called with each system before its turn.

    Raises:
        InputError: `out` holds the results of another suite.
    """
    out = Path(out)
    result = SuiteResult([], [])
    with Journal(out / "finished.jsonl", suite.to_dict()) as journal:
        for named in suite.systems:
            skipped = f"skipped by {named}"  # kept as the row is: what is missing from its means stays so when the suite goes on
            if named not in journal.done:
                report(named)
                failures: list[str] = []
                try:
                    row = _judge(suite, named, out, device, failures)
                except TokkitError as error:
                    result.failures += [*failures, f"{named}: {error}"]
                    continue
                journal.add(skipped, failures)
                journal.add(named, row)
            result.failures += journal.done.get(skipped, [])
            result.rows.append(journal.done[named])
    with replacing(out / "suite.json") as part:
        stored = {"format": FORMAT, "version": 1, "suite": suite.to_dict(), **asdict(result), "provenance": provenance()}
        part.write_text(json.dumps(stored, indent=1) + "\n", encoding="utf-8")
    return result


def _judge(suite: Suite, named: str, out: Path, device: str, failures: list[str]) -> dict[str, Any]:
    """One system's row."""
    modality: Modality = cast(Spec, suite.modality).build()
    system = open_system(named, modality, device=device)
    sources = [cast(Source, cast(Spec, source).build()).open(system.modality, split="val") for source in suite.data]
    options = Options(batch_size=suite.batch_size, limit=suite.limit, seed=suite.seed)
    evaluation = evaluate(system, sources, metrics=list(suite.metrics) or None, baselines=suite.baselines, options=options)
    home = out / home_of(named).name
    evaluation.write_json(home / "evaluation.json", force=True)
    failures += [f"{named}: {skipped.sample}: {skipped.reason}" for skipped in evaluation.skipped]
    line = evaluation.summary()[0]
    row: dict[str, Any] = {"system": named, "samples": line.n, f"bits/{evaluation.unit}": line.payload_rate.mean}
    row |= {name: column.interval.mean for name, column in line.metrics.items()}
    row |= evaluation.sets.get(system.name, {})
    if suite.tokbench is not None:
        row |= _tokbench(suite.tokbench, named, home, suite.batch_size, device, failures)
    return row


def _tokbench(section: TokBench, named: str, home: Path, batch_size: int, device: str, failures: list[str]) -> dict[str, Any]:
    data = Path(section.data)
    recognizer = None if section.recognizer == "none" else build_recognizer(section.recognizer)
    if section.make_images and not data.exists():
        if recognizer is None:
            raise InputError("tokbench: make_images needs a recognizer, which says what can be read")
        make_text(data, recognizer, images=section.make_images)
    parts: Any = read_video_layout(data) if section.video else read_layout(data)
    portraits = section.faces != "none" and any(part.kind == "face_data" for part in parts)
    embedder = build_embedder(section.faces) if portraits else None
    judge: Any = run_video if section.video else run_tokbench
    scores: dict[str, Any] = {}
    for setting in section.settings:
        method = open_method(named, home, device, modality="video" if section.video else "image")
        out = home / (f"video-{setting}" if section.video else str(setting))
        found: Result = judge(method, parts, out, setting=setting, recognizer=recognizer, embedder=embedder, batch_size=batch_size)
        found.write_json(out / "result.json")
        failures += [f"{named}: {failure}" for failure in found.failures]
        scores |= {f"{name}@{setting}": score.mean for name, score in found.scores.items()}
    return scores
