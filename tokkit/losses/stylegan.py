"""The residual discriminator of StyleGAN2, with a logit for every place instead of one for the picture."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tokkit.errors import InputError
from tokkit.losses.base import Discriminator
from tokkit.registry import register

SLOPE = 0.2


@register("discriminator", "stylegan")
class StyleGANDiscriminator(Discriminator):
    """Residual blocks with blurred down-sampling and minibatch deviation (https://arxiv.org/abs/1912.04958).

    No norms, so it goes with the R1 penalty. Pictures may have any size; the minibatch deviation makes logits depend on the batch.
    """

    ranks = (2,)

    def __init__(self, *, channels: int = 3, width: int = 64, multipliers: tuple[int, ...] = (1, 2, 4, 8, 8)):
        """
        Args:
            channels: of the pictures.
            width: channels of a level are `width * multiplier`.
            multipliers: one a level, the full size first; the size is halved between levels.

        Raises:
            InputError: a number is not positive.
        """
        super().__init__()
        if min(channels, width, *multipliers, len(multipliers)) < 1:
            raise InputError(f"discriminator stylegan: every number must be positive, got {channels=}, {width=}, {multipliers=}")
        widths = [width * multiplier for multiplier in multipliers]
        self.smallest = 2 ** (len(widths) - 1)
        self.stem = nn.Sequential(nn.Conv2d(channels, widths[0], 1), nn.LeakyReLU(SLOPE))
        self.blocks = nn.ModuleList(_DownBlock(before, after) for before, after in pairwise(widths))
        self.last = nn.Sequential(nn.Conv2d(widths[-1] + 1, widths[-1], 3, padding=1), nn.LeakyReLU(SLOPE))
        self.logits = nn.Conv2d(widths[-1], 1, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, a=SLOPE)
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]

    def forward(self, inputs: Tensor) -> list[list[Tensor]]:
        if min(inputs.shape[2:]) < self.smallest:
            raise InputError(f"discriminator stylegan: pictures need at least {self.smallest} pixels a side, got {list(inputs.shape[2:])}")
        features = [self.stem(inputs)]
        for block in self.blocks:
            features.append(block(features[-1]))
        features.append(self.last(minibatch_deviation(features[-1])))
        return [[*features, self.logits(features[-1])]]

    @classmethod
    def example_options(cls) -> dict[str, Any]:
        return {"width": 4, "multipliers": (1, 2, 2)}


def minibatch_deviation(inputs: Tensor, group: int = 4) -> Tensor:
    """Append the mean deviation within groups of the batch as one channel (https://arxiv.org/abs/1710.10196).

    Args:
        inputs: [B, C, H, W].
        group: pictures a group; the largest divisor of B up to it is taken.

    Returns:
        [B, C + 1, H, W]; the new channel is 0 where a group has one picture.
    """
    batch = len(inputs)
    size = max(n for n in range(1, group + 1) if batch % n == 0)
    groups = inputs.float().unflatten(0, (size, -1))  # [size, B / size, C, H, W]
    deviation = (groups.var(0, correction=0) + 1e-8).sqrt().mean((1, 2, 3)) if size > 1 else inputs.new_zeros(batch)
    channel = deviation.to(inputs.dtype).repeat(size).view(batch, 1, 1, 1).expand(-1, -1, *inputs.shape[2:])
    return torch.cat([inputs, channel], 1)


class _DownBlock(nn.Module):
    """Two convolutions beside a 1x1 shortcut; both sides are blurred before they are halved, and the sum keeps its variance."""

    kernel: Tensor

    def __init__(self, width_in: int, width_out: int):
        super().__init__()
        self.conv1 = nn.Conv2d(width_in, width_in, 3, padding=1)
        self.conv2 = nn.Conv2d(width_in, width_out, 3, stride=2)
        self.shortcut = nn.Conv2d(width_in, width_out, 1, stride=2)
        taps = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
        self.register_buffer("kernel", torch.outer(taps, taps).expand(width_in, 1, -1, -1).clone(), persistent=False)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = F.leaky_relu(self.conv1(inputs), SLOPE)
        hidden = F.leaky_relu(self.conv2(self._blur(hidden, 2)), SLOPE)
        return (hidden + self.shortcut(self._blur(inputs, 1))) / math.sqrt(2)

    def _blur(self, inputs: Tensor, padding: int) -> Tensor:
        return F.conv2d(inputs, self.kernel, padding=padding, groups=len(self.kernel))
