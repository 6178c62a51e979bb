"""Evaluations of many samples: by several processes together, and going on after an interruption, with the result of one process.

Samples are dealt out in chunks. Each process counts its own into files (see `parts.py`), and the first one joins them at the end; sums of
features are float64 moments that can be joined in any order. Pictures and curves are made at the end from a few samples, looked at again.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from tokkit.baselines.base import Baseline
from tokkit.data.base import Source
from tokkit.evaluate.gallery import Gallery
from tokkit.evaluate.indexed import Indexed
from tokkit.evaluate.parts import Chunk, Part, all_parts, claim
from tokkit.evaluate.result import Evaluation, Row
from tokkit.evaluate.run import Options, Run, prepare
from tokkit.evaluate.systems import System
from tokkit.files import make_folder
from tokkit.metrics.base import Metric, SetMetric
from tokkit.tokenizer import Tokenizer

CHUNK = 256
"""Samples of a chunk."""
_PATIENCE = timedelta(hours=12)


@dataclass(frozen=True)
class Processes:
    """Who works together.

    Attributes:
        rank, world: this process's number, and how many there are.
        device: of this process.
        wait: returns when every process has called it.
    """

    rank: int
    world: int
    device: str
    wait: Callable[[], object]

    @classmethod
    def join(cls, device: str) -> Processes:
        """The processes that `accelerate launch` (or torchrun) has started; this one alone where nothing has.

        Args:
            device: "auto" is the GPU of each process's own where there are some; "cpu" lets them talk through gloo.
        """
        if int(os.environ.get("WORLD_SIZE", "1")) == 1:
            return cls(0, 1, device, lambda: None)
        from accelerate import PartialState

        state = PartialState(cpu=device == "cpu", timeout=_PATIENCE)
        own = str(state.device) if device == "auto" else device
        return cls(state.process_index, state.num_processes, own, state.wait_for_everyone)


def evaluate_large(
    system: Tokenizer | System,
    inputs: Source | Iterable[Any],
    work: str | Path,
    *,
    metrics: Sequence[str | Metric | SetMetric] | None = None,
    baselines: Sequence[str | Baseline] = (),
    options: Options | None = None,
    processes: Processes | None = None,
    save_seconds: float = 60.0,
    progress: Callable[[int], object] = lambda done: None,
) -> Evaluation | None:
    """As `evaluate`, resumable and by several processes.

    Args:
        system, inputs, metrics, baselines, options: as for `evaluate`; the inputs must be the same in every process.
        work: folder where finished work is kept; the same one goes on, with any number of processes. It is on a disk that all of them see.
        processes: who works together; this process alone when not given.
        save_seconds: how much work an interruption costs at most, besides one chunk.
        progress: called with the number of this process's finished samples.

    Returns:
        The evaluation of all samples; None in every process but the first.

    Raises:
        InputError: as `evaluate`; or `work` belongs to another evaluation.
    """
    together = processes or Processes(0, 1, "cpu", lambda: None)
    work, options = Path(work), options or Options()
    run = prepare(system, metrics=metrics, baselines=baselines, options=options)
    samples = Indexed(run.system.modality, inputs, limit=options.limit)
    identity = _identity(run, samples)
    if together.rank == 0:
        make_folder(work)
        claim(work, identity)
    together.wait()
    claim(work, identity)
    done = {chunk for part in all_parts(work) for chunk in part.finished}
    together.wait()  # nobody saves before everybody has looked
    left = [chunk for chunk in range(-(-len(samples) // CHUNK)) if chunk not in done]
    notes = run.result.notes
    _count(run, samples, left[together.rank :: together.world], Part(work, together.rank), save_seconds, progress)
    together.wait()
    if together.rank:
        return None
    return _join(run, samples, all_parts(work), notes)


def _identity(run: Run, samples: Indexed) -> dict[str, Any]:
    options = {key: run.result.settings[key] for key in ("seed", "level", "limit", "baselines")}
    names = [*(metric.name for metric in run.metrics), *(metric.name for metric in run.set_metrics)]
    return {"model": run.system.describe(), "metrics": names, **options, "samples": len(samples), "inputs": samples.digest}


def _count(run: Run, samples: Indexed, chunks: list[int], part: Part, save_seconds: float, progress: Callable[[int], object]) -> None:
    """Judge this process's chunks."""
    part.begin()
    _add_sums(run, part.sums())
    run.shows = False
    finished, saved, done = list(part.finished), time.monotonic(), 0
    for number in chunks:
        run.result.rows, run.result.skipped, run.result.notes = [], [], []
        numbers: list[int] = []
        stop = min((number + 1) * CHUNK, len(samples))
        for start in range(number * CHUNK, stop, run.options.batch_size):
            batch = {index: samples[index] for index in range(start, min(start + run.options.batch_size, stop))}
            judged = {id(sample) for sample in run.take(list(batch.values()))}
            numbers += [index for index, entry in batch.items() if id(entry) in judged]
            done += len(batch)
            progress(done)
        part.add(number, Chunk(numbers, run.result.rows, run.result.skipped, run.result.notes))
        finished.append(number)
        if number == chunks[-1] or time.monotonic() - saved >= save_seconds:
            part.save(finished, _sums(run))
            saved = time.monotonic()


def _sums(run: Run) -> dict[str, NDArray[Any]]:
    found = {f"{metric.name}|{name}": array for metric in run.set_metrics for name, array in metric.state().items()}
    if run.usage is not None:
        found |= {f"usage|{name}": array for name, array in run.usage.state().items()}
    return found


def _add_sums(run: Run, sums: dict[str, NDArray[Any]]) -> None:
    def of(owner: str) -> dict[str, NDArray[Any]]:
        return {name.removeprefix(f"{owner}|"): array for name, array in sums.items() if name.startswith(f"{owner}|")}

    for metric in run.set_metrics:
        metric.join(of(metric.name))
    if run.usage is not None:
        run.usage.join(of("usage"))


def _join(run: Run, samples: Indexed, parts: list[Part], notes: list[str]) -> Evaluation:
    """Everything that all processes have counted, in the order of the samples."""
    chunks: dict[int, Chunk] = {}
    for part in parts:
        chunks |= part.chunks()
        if part.number:  # the sums of the first process are there
            _add_sums(run, part.sums())
    ordered = [chunks[number] for number in sorted(chunks)]
    _show(run, samples, [number for chunk in ordered for number in chunk.numbers], [row for chunk in ordered for row in chunk.rows])
    run.result.rows = [row for chunk in ordered for row in chunk.rows]
    run.result.skipped = [entry for chunk in ordered for entry in chunk.skipped]
    run.result.notes = [*notes, *(note for chunk in ordered for note in chunk.notes)]
    return run.finish()


def _show(run: Run, samples: Indexed, numbers: list[int], rows: list[Row]) -> None:
    """Look again at the first samples, for the curves, and at those that the gallery has room for."""
    run.counts, run.shows, run.done = False, True, 0
    gallery, run.gallery = run.gallery, Gallery(0, 0, None, 0)
    for number in numbers[: run.options.curve_samples]:
        run.take([samples[number]])
    run.gallery, run.done = gallery, run.options.curve_samples
    own = [row for row in rows if row.system == run.system.name]
    for place in gallery.pick(own):
        run.take([samples[numbers[place]]])
