"""The moving average of a module's weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Average:
    """Exponential moving average of the parameters; buffers (codebooks kept by their own averages) are the newest.

    The decay starts low and rises to its value, `min(decay, (1 + n) / (10 + n))` after n updates, so that early weights are forgotten.
    """

    def __init__(self, module: nn.Module, decay: float):
        self.decay = decay
        self.updates = 0
        self.weights = {name: parameter.detach().clone().float() for name, parameter in module.named_parameters()}

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        newest = dict(module.named_parameters())
        torch._foreach_lerp_(list(self.weights.values()), [newest[name].detach().float() for name in self.weights], 1 - decay)

    @torch.no_grad()
    def swap(self, module: nn.Module) -> None:
        """Exchange the module's parameters and the averages; twice is the identity."""
        for name, parameter in module.named_parameters():
            newest = parameter.detach().clone()
            parameter.copy_(self.weights[name])
            self.weights[name].copy_(newest)

    def state_dict(self) -> dict[str, Tensor | int | dict[str, Tensor]]:
        return {"updates": self.updates, "weights": self.weights}

    def load_state_dict(self, state: dict[str, object]) -> None:
        self.updates = int(state["updates"])  # type: ignore[call-overload]
        for name, weight in state["weights"].items():  # type: ignore[attr-defined]
            self.weights[name].copy_(weight)
