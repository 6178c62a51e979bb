"""What makes a discriminator and a generator compete: losses of logits, and what keeps them stable. Pure functions but for LeCam's average.

`Outputs` is what a `Discriminator` returns: for every sub-discriminator its feature maps, the last being the logits. Losses average over
the elements of the logits, then over the sub-discriminators.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

Outputs = list[list[Tensor]]
Kind = Literal["hinge", "nonsaturating", "lsgan"]


def _hinge(real: Tensor, fake: Tensor) -> Tensor:
    return (F.relu(1 - real).mean() + F.relu(1 + fake).mean()) / 2


def _nonsaturating(real: Tensor, fake: Tensor) -> Tensor:
    return (F.softplus(-real).mean() + F.softplus(fake).mean()) / 2


def _lsgan(real: Tensor, fake: Tensor) -> Tensor:
    return ((real - 1).square().mean() + fake.square().mean()) / 2


_DISCRIMINATOR: dict[Kind, Callable[[Tensor, Tensor], Tensor]] = {"hinge": _hinge, "nonsaturating": _nonsaturating, "lsgan": _lsgan}
_GENERATOR: dict[Kind, Callable[[Tensor], Tensor]] = {
    "hinge": lambda fake: -fake.mean(),
    "nonsaturating": lambda fake: F.softplus(-fake).mean(),
    "lsgan": lambda fake: (fake - 1).square().mean(),
}


def discriminator_loss(kind: Kind, real: Outputs, fake: Outputs) -> Tensor:
    """What the discriminator minimises.

    Args:
        kind: "hinge" (https://arxiv.org/abs/1705.02894), "nonsaturating" (https://arxiv.org/abs/1406.2661) or "lsgan"
            (https://arxiv.org/abs/1611.04076), each halved as in VQGAN.
        real: outputs for the targets.
        fake: outputs for the detached reconstructions.
    """
    function = _DISCRIMINATOR[kind]
    return torch.stack([function(r[-1].float(), f[-1].float()) for r, f in zip(real, fake, strict=True)]).mean()


def generator_loss(kind: Kind, fake: Outputs) -> Tensor:
    """What the tokenizer minimises; Open-MAGVIT2 pairs "nonsaturating" here with "hinge" in the discriminator."""
    function = _GENERATOR[kind]
    return torch.stack([function(f[-1].float()) for f in fake]).mean()


def feature_matching(real: Outputs, fake: Outputs) -> Tensor:
    """Mean absolute difference of the feature maps, the logits left out (https://arxiv.org/abs/1711.11585).

    No gradient goes to `real`. 0 where a discriminator returns logits only.
    """
    pairs = [(r, f) for of_real, of_fake in zip(real, fake, strict=True) for r, f in zip(of_real[:-1], of_fake[:-1], strict=True)]
    if not pairs:
        return fake[0][-1].new_zeros(())
    return torch.stack([F.l1_loss(f.float(), r.detach().float()) for r, f in pairs]).mean()


def adaptive_weight(reconstruction_loss: Tensor, generator_loss: Tensor, at: Tensor, *, maximum: float = 1e4) -> Tensor:
    """VQGAN's weight of the adversarial loss: the ratio of the gradients' norms at one place (https://arxiv.org/abs/2012.09841).

    Args:
        reconstruction_loss: scalar.
        generator_loss: scalar.
        at: where the gradients are measured: `decoder.last_layer` as in VQGAN, or the reconstruction itself, which costs no pass through
            a compiled decoder. Both graphs are kept; a compiled decoder may need `torch._functorch.config.donated_buffer = False` for that.
        maximum: the ratio is clamped to [0, maximum].

    Returns:
        Scalar, detached.
    """
    (of_reconstruction,) = torch.autograd.grad(reconstruction_loss, at, retain_graph=True)
    (of_generator,) = torch.autograd.grad(generator_loss, at, retain_graph=True)
    ratio = of_reconstruction.float().norm() / (of_generator.float().norm() + 1e-4)
    return ratio.clamp(0, maximum).detach()


def r1_penalty(real: Outputs, inputs: Tensor) -> Tensor:
    """Squared gradient norm of the logits at real inputs, averaged over the batch (https://arxiv.org/abs/1801.04406).

    Args:
        real: outputs for `inputs`.
        inputs: [B, C, *spatial], with `requires_grad`.
    """
    total = torch.stack([r[-1].float().sum() for r in real]).sum()
    (gradient,) = torch.autograd.grad(total, inputs, create_graph=True)
    return gradient.float().square().flatten(1).sum(1).mean()


class LeCam(nn.Module):
    """Pulls the logits toward the moving average of the other side's (https://arxiv.org/abs/2104.03310); added to the discriminator's loss.

    The averages are buffers, equal on every rank, so that a resumed run goes on with them.
    """

    average_real: Tensor
    average_fake: Tensor

    def __init__(self, decay: float = 0.999):
        super().__init__()
        self.decay = decay
        self.register_buffer("average_real", torch.zeros(()))
        self.register_buffer("average_fake", torch.zeros(()))

    def forward(self, real: Outputs, fake: Outputs) -> Tensor:
        """Update the averages, then the penalty: scalar, un-weighted (Open-MAGVIT2 weighs it 0.05)."""
        reals, fakes = ([outputs[-1].float() for outputs in side] for side in (real, fake))
        with torch.no_grad():
            means = torch.stack([torch.stack([logits.mean() for logits in side]).mean() for side in (reals, fakes)])
            if dist.is_available() and dist.is_initialized():
                dist.all_reduce(means)
                means /= dist.get_world_size()
            self.average_real.lerp_(means[0], 1 - self.decay)
            self.average_fake.lerp_(means[1], 1 - self.decay)
        above = [F.relu(logits - self.average_fake).square().mean() for logits in reals]
        below = [F.relu(self.average_real - logits).square().mean() for logits in fakes]
        return torch.stack(above).mean() + torch.stack(below).mean()
