"""The patch discriminator of pix2pix."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any, Literal

from torch import Tensor, nn

from tokkit.errors import InputError
from tokkit.losses.base import Discriminator, pictures
from tokkit.registry import register


@register("discriminator", "patch")
class PatchDiscriminator(Discriminator):
    """PatchGAN: 4x4 convolutions, one logit a patch (https://arxiv.org/abs/1611.07004). The defaults are VQGAN's and LlamaGen's (2.8 M).

    Of video it judges every frame by itself, or, with `rank` 3, how frames follow each other.
    """

    ranks = (2, 3)

    def __init__(
        self,
        *,
        channels: int = 3,
        width: int = 64,
        layers: int = 3,
        norm: Literal["batch", "group", "none"] = "batch",
        rank: Literal[2, 3] = 2,
    ):
        """
        Args:
            channels: of the pictures.
            width: channels after the first layer; they double to at most 8 times as many.
            layers: how often the size is halved; a logit sees 70 pixels at 3.
            norm: between the layers. Batch norm makes a picture's logits depend on its batch.
            rank: 3: for video alone, convolutions over 3 frames as well, time halved where height and width are.

        Raises:
            InputError: a number is not positive, or width is no multiple of the 32 groups of a group norm.
        """
        super().__init__()
        if min(channels, width, layers) < 1:
            raise InputError(f"discriminator patch: channels, width and layers must be positive, got {(channels, width, layers)}")
        if norm == "group" and width % 16:
            raise InputError(f"discriminator patch: 32 norm groups need a width that is a multiple of 16, got {width}")
        norms: dict[str, Callable[[int], nn.Module]] = {
            "batch": nn.BatchNorm2d if rank == 2 else nn.BatchNorm3d,
            "group": lambda features: nn.GroupNorm(32, features),
            "none": lambda _: nn.Identity(),
        }
        widths = [width * min(2**level, 8) for level in range(layers + 1)]
        conv: Callable[..., nn.Module] = nn.Conv2d if rank == 2 else nn.Conv3d
        kernel = 4 if rank == 2 else (3, 4, 4)
        self.rank = rank
        self.per_sample = norm != "batch"
        self.smallest = 3 * 2**layers
        self.blocks = nn.ModuleList([nn.Sequential(conv(channels, width, kernel, 2, 1), nn.LeakyReLU(0.2))])
        for level, (before, after) in enumerate(pairwise(widths)):
            step = 2 if level < layers - 1 else 1
            layer = conv(before, after, kernel, step, 1, bias=norm != "batch")
            self.blocks.append(nn.Sequential(layer, norms[norm](after), nn.LeakyReLU(0.2)))
        self.blocks.append(conv(widths[-1], 1, kernel, 1, 1))
        self.apply(_initialise)

    def forward(self, inputs: Tensor) -> list[list[Tensor]]:
        inputs = pictures(inputs) if self.rank == 2 else inputs
        if inputs.ndim != self.rank + 2:
            raise InputError(f"discriminator patch: rank={self.rank} needs {self.rank} axes behind the channels, got {list(inputs.shape)}")
        if min(inputs.shape[-2:]) < self.smallest:
            raise InputError(f"discriminator patch: pictures need at least {self.smallest} pixels a side, got {list(inputs.shape[-2:])}")
        features = []
        for block in self.blocks:
            inputs = block(inputs)
            features.append(inputs)
        return [features]

    @classmethod
    def example_options(cls) -> dict[str, Any]:
        return {"width": 8, "layers": 2}


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d | nn.Conv3d):
        nn.init.normal_(module.weight, 0.0, 0.02)
    elif isinstance(module, nn.BatchNorm2d | nn.BatchNorm3d):
        nn.init.normal_(module.weight, 1.0, 0.02)
