"""How far a run is from the end of its warm-up to its last step: by its steps or, where it was given minutes, by the time."""

from __future__ import annotations

import time
from typing import Any

import torch

from tokkit.recipe import Train
from tokkit.train.optim import share_of_steps

TICK = 10
"""Steps between looks at the time, which all processes must agree on."""


class Clock:
    """Counts the time of a run, also over the parts that it is resumed in.

    With `minutes` the schedule's way from warm-up to the end is the time that is left when the warm-up is over, however long the
    compiler took before (https://arxiv.org/abs/2212.14034 trains against such a budget). `steps` stays an upper limit.
    """

    def __init__(self, options: Train, device: torch.device, processes: int):
        self.options, self.device, self.processes = options, device, processes
        self.progress = 0.0
        self.over = False
        self._warm_at: float | None = None
        self._spent = 0.0
        self._since: float | None = None

    def start(self, step: int) -> None:
        """The time begins to count, at a step that the run takes up."""
        self._since = time.monotonic()
        self.progress = max(self.progress, share_of_steps(step, self.options))

    def tick(self, step: int) -> None:
        """Look at the time; called by every process with the number of steps that it has taken."""
        minutes, warm = self.options.minutes, step >= self.options.warmup
        self.progress = max(self.progress, share_of_steps(step, self.options))
        if minutes is None or step % TICK:
            return
        spent, allowed = self._agreed(self._elapsed()), 60 * minutes
        self.over = spent >= allowed
        if warm:
            self._warm_at = spent if self._warm_at is None else self._warm_at
            left = max(allowed - self._warm_at, 1e-9)
            self.progress = max(self.progress, min(1.0, (spent - self._warm_at) / left))

    def state_dict(self) -> dict[str, Any]:
        return {"spent": self._elapsed(), "warm_at": self._warm_at, "progress": self.progress, "over": self.over}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._spent, self._warm_at, self.progress, self.over = state["spent"], state["warm_at"], state["progress"], state["over"]

    def _elapsed(self) -> float:
        return self._spent + (0.0 if self._since is None else time.monotonic() - self._since)

    def _agreed(self, seconds: float) -> float:
        """What the first process's clock says."""
        if self.processes == 1:
            return seconds
        said = torch.tensor([seconds], dtype=torch.float64, device=self.device)
        torch.distributed.broadcast(said, src=0)
        return said.item()
