"""What a run says while it trains: metrics.jsonl and the progress bar."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tokkit.errors import TokkitError
from tokkit.files import replacing

METRICS_FILE = "metrics.jsonl"


class MetricsFile:
    """One json object a line. A resumed run first drops the lines that a killed one wrote after its last checkpoint."""

    def __init__(self, folder: Path, step: int):
        self.path = folder / METRICS_FILE
        kept = [line for line in read_metrics(folder) if line["step"] <= step]
        with replacing(self.path) as part:
            part.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")

    def write(self, step: int, values: dict[str, float]) -> None:
        """
        Raises:
            TokkitError: the disk is full, say.
        """
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"step": step, **values}) + "\n")
        except OSError as error:
            raise TokkitError(f"step {step}: {self.path}: cannot be written: {error.strerror or error}") from error


def read_metrics(folder: Path) -> list[dict[str, float]]:
    """The lines of a run; a last line that was cut off while being written is left out."""
    path = folder / METRICS_FILE
    if not path.exists():
        return []
    lines = []
    for text in path.read_text(encoding="utf-8").splitlines():
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError:
            break
    return lines


class Bar:
    """A progress bar on a terminal; a line of text now and then elsewhere."""

    def __init__(self, total: int, step: int, shown: bool):
        self.total = total
        self.shown = shown
        console = Console(stderr=True)
        self.live = shown and console.is_terminal
        columns = (TextColumn("step"), MofNCompleteColumn(), BarColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
        self.progress = Progress(*columns, console=console, disable=not self.live)
        self.task = self.progress.add_task("", total=total, completed=step)

    def __enter__(self) -> Bar:
        self.progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.progress.stop()

    def advance(self, step: int) -> None:
        self.progress.update(self.task, completed=step)

    def describe(self, step: int, values: dict[str, float]) -> None:
        text = "  ".join(f"{name} {value:.4g}" for name, value in values.items())
        if self.live:
            self.progress.update(self.task, description=text)
        elif self.shown:
            print(f"step {step}/{self.total}  {text}", file=sys.stderr, flush=True)
