"""The discriminators of a run, their optimizer, and what each side pays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from tokkit.losses.adversarial import LeCam, Outputs, adaptive_weight, discriminator_loss, feature_matching, generator_loss
from tokkit.recipe import Adversarial, Train, specs
from tokkit.train.optim import clip_gradients, make_optimizer


class Adversary:
    """Discriminators that train beside the tokenizer, from `section.start` on."""

    def __init__(self, section: Adversarial, train: Train, device: torch.device, prepare: Callable[..., Any]):
        self.section = section
        self.train = train
        everything = _All(nn.ModuleList(spec.build() for spec in specs(section.discriminators))).to(device)
        self.per_sample = everything.per_sample
        self.module, self.optimizer = prepare(everything, make_optimizer(everything, train))
        self.lecam = LeCam().to(device) if section.lecam else None
        self.peak = section.lr or train.lr

    def generator_terms(self, target: Tensor, fake: Tensor, reconstruction_loss: Tensor, last_layer: nn.Parameter) -> dict[str, Tensor]:
        """What the tokenizer pays, weighted."""
        self.module.requires_grad_(False)
        with parametrize.cached():  # a weight is folded once for both
            judged = self.module(fake)
            with torch.no_grad():
                expected = self.module(target) if self.section.feature_matching else None
        loss = generator_loss(self.section.loss, judged)
        weight: float | Tensor = self.section.weight
        if self.section.adaptive:
            weight = weight * adaptive_weight(reconstruction_loss, loss, last_layer)
        terms = {"generator": weight * loss}
        if expected is not None:
            terms["feature_matching"] = self.section.feature_matching * feature_matching(expected, judged)
        self.module.requires_grad_(True)
        return terms

    def discriminator_terms(self, target: Tensor, fake: Tensor) -> dict[str, Tensor]:
        """What the discriminators pay; `fake` carries no gradient."""
        real, judged = self._judge(target, fake)
        terms = {"discriminator": discriminator_loss(self.section.loss, real, judged)}
        if self.lecam is not None:
            terms["lecam"] = self.section.lecam * self.lecam(real, judged)
        return terms

    def _judge(self, target: Tensor, fake: Tensor) -> tuple[Outputs, Outputs]:
        """What the discriminators say of both; in one pass, half as many small steps, where they look at each sample by itself."""
        if not self.per_sample:
            return self.module(target), self.module(fake)
        halves = [[each.chunk(2) for each in maps] for maps in self.module(torch.cat([target, fake]))]
        return [[real for real, _ in maps] for maps in halves], [[judged for _, judged in maps] for maps in halves]

    def clip(self) -> Tensor:
        return clip_gradients(self.module.parameters(), self.train.clip)

    def state_dict(self) -> dict[str, Any]:
        module = getattr(self.module, "module", self.module)
        return {
            "module": module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "lecam": self.lecam.state_dict() if self.lecam is not None else None,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        getattr(self.module, "module", self.module).load_state_dict(state["module"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.lecam is not None:
            self.lecam.load_state_dict(state["lecam"])


class _All(nn.Module):
    """Every discriminator's sub-discriminators in one list."""

    def __init__(self, members: nn.ModuleList):
        super().__init__()
        self.members = members
        self.per_sample = all(member.per_sample for member in members)

    def forward(self, inputs: Tensor) -> list[list[Tensor]]:
        return [maps for member in self.members for maps in member(inputs)]
