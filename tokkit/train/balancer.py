"""EnCodec's loss balancer: what a loss weighs is its share of the gradient, whatever its scale."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import torch
import torch.distributed as dist
from torch import Tensor, nn

from tokkit.losses.base import Loss
from tokkit.recipe import Balance, Recipe

EPSILON = 1e-12


class Balancer(nn.Module):
    """Rescales the gradients of losses at the reconstruction (https://arxiv.org/abs/2210.13438, and audiocraft's `Balancer`).

    With g_i the gradient of loss i at the reconstruction and n_i the moving average of its norm, mean over the samples of the batch, the
    reconstruction receives norm * sum of (w_i / sum of w) * g_i / n_i. Losses of something else, such as the quantizer's, stay as they are.

    Attributes:
        totals, counts: [losses] fp32, the sums behind the averages; equal on every rank, so that a resumed run goes on with them.
    """

    totals: Tensor
    counts: Tensor

    def __init__(self, section: Balance, weights: dict[str, float], *, parts: int = 1):
        """
        Args:
            section: the options.
            weights: of the losses by the names of their terms.
            parts: that the gradients of a step are averaged over, so that a batch computed in parts weighs as much as a whole one.
        """
        super().__init__()
        self.section, self.weights, self.parts = section, weights, parts
        self.register_buffer("totals", torch.zeros(len(weights)))
        self.register_buffer("counts", torch.zeros(len(weights)))

    @classmethod
    def of_run(cls, recipe: Recipe, names: Iterable[str], losses: Iterable[nn.Module], device: torch.device) -> Balancer | None:
        """That of a recipe, with the weights of its losses by the names of their terms; None where it asks for none."""
        options = recipe.section("train")
        if options.balancer is None:
            return None
        weights = {name: cast(Loss, loss).weight for name, loss in zip(names, losses, strict=True)}
        if recipe.adversarial is not None:
            weights |= {"generator": recipe.adversarial.weight, "feature_matching": recipe.adversarial.feature_matching}
        return cls(options.balancer, weights, parts=options.accumulate).to(device)

    def forward(self, terms: dict[str, Tensor], reconstruction: Tensor) -> dict[str, Tensor]:
        """Terms with the same values whose sum has the balanced gradient.

        Args:
            terms: weighted losses by name, for the log; the weights are those of the constructor.
            reconstruction: that they were computed from, part of the graph.
        """
        found: dict[str, Tensor] = {}
        for name in self.weights:
            if name in terms and terms[name].requires_grad:
                (gradient,) = torch.autograd.grad(terms[name], reconstruction, retain_graph=True, allow_unused=True)
                if gradient is not None:
                    found[name] = gradient.float()
        if not found:
            return terms
        norms = self._averages(found)
        whole = sum(self.weights[name] for name in found)
        scale = self.section.norm * self.parts / max(whole, EPSILON)
        total = torch.zeros_like(reconstruction, dtype=torch.float32)
        for name, gradient in found.items():
            # The term carries its weight: in gradient and average it cancels.
            total += scale * self.weights[name] / (EPSILON + norms[name]) * gradient
        carrier = (reconstruction.float() * total).sum()
        settled = {name: term.detach() if name in found else term for name, term in terms.items()}
        return settled | {"balanced": carrier - carrier.detach()}

    @torch.no_grad()
    def _averages(self, gradients: dict[str, Tensor]) -> dict[str, Tensor]:
        """Move the averages of these gradients' norms, and give them."""
        norms = torch.stack([gradient.flatten(1).norm(dim=1).mean() for gradient in gradients.values()])
        if dist.is_available() and dist.is_initialized():
            dist.all_reduce(norms)
            norms /= dist.get_world_size()
        names = list(self.weights)
        which = torch.tensor([names.index(name) for name in gradients], device=norms.device)
        decay = self.section.decay
        self.totals[which] = self.totals[which] * decay + norms
        self.counts[which] = self.counts[which] * decay + 1
        return dict(zip(gradients, self.totals[which] / self.counts[which], strict=True))
