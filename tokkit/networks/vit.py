"""Transformer encoder and decoder with one latent a patch (the ViT-VQGAN idea, https://arxiv.org/abs/2110.04627)."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from tokkit.networks.base import Decoder, Encoder, Grid, Latents
from tokkit.networks.layers import check_size
from tokkit.networks.transformer import Patchify, Rank, Size, Transformer, Unpatchify, check_cells, resolve_shape
from tokkit.registry import register


@register("encoder", "vit")
class ViTEncoder(Encoder):
    """Patches through a transformer, one latent a patch (https://arxiv.org/abs/2110.04627). D is the width."""

    def __init__(
        self,
        *,
        channels: int = 3,
        patch: int = 16,
        size: Size = "base",
        width: int | None = None,
        depth: int | None = None,
        heads: int | None = None,
        rank: Rank = 2,
    ):
        """
        Args:
            channels: of the input.
            patch: side of a patch in pixels; the stride.
            size: names width, depth and heads; TiTok's small, base, large or FlexTok's d12, d18, d28.
            width: instead of the size's.
            depth: number of blocks, instead of the size's.
            heads: instead of the size's.
            rank: spatial axes of the input.

        Raises:
            InputError: a number is not positive, or the heads do not get an even number of channels each.
        """
        super().__init__()
        shape = resolve_shape(size, width, depth, heads)
        self.channels, self.dim, self.rank, self.stride = channels, shape.width, rank, patch
        self.patchify = Patchify(channels, self.strides, shape.width)
        self.transformer = Transformer(shape)

    def forward(self, inputs: Tensor) -> Latents:
        check_size("encoder vit", inputs.shape[2:], self.rank, self.stride)
        grid = tuple(size // self.stride for size in inputs.shape[2:])
        return Latents(self.transformer(self.patchify(inputs), grid), grid)

    @classmethod
    def example_options(cls) -> dict[str, Any]:
        return {"patch": 4, "width": 16, "depth": 1, "heads": 2}


@register("decoder", "vit")
class ViTDecoder(Decoder):
    """Latents, one a patch, through a transformer to pixels (https://arxiv.org/abs/2110.04627). D is the width."""

    def __init__(
        self,
        *,
        channels: int = 3,
        patch: int = 16,
        size: Size = "base",
        width: int | None = None,
        depth: int | None = None,
        heads: int | None = None,
        rank: Rank = 2,
        smooth: bool = True,
    ):
        """
        Args:
            channels: of the output.
            patch: side of a patch in pixels; the stride.
            size: names width, depth and heads; TiTok's small, base, large or FlexTok's d12, d18, d28.
            width: instead of the size's.
            depth: number of blocks, instead of the size's.
            heads: instead of the size's.
            rank: spatial axes of the output.
            smooth: end with a residual 3x3 convolution over the pixels, against seams between patches.

        Raises:
            InputError: a number is not positive, or the heads do not get an even number of channels each.
        """
        super().__init__()
        shape = resolve_shape(size, width, depth, heads)
        self.channels, self.dim, self.rank, self.stride = channels, shape.width, rank, patch
        self.transformer = Transformer(shape)
        self.unpatchify = Unpatchify(channels, self.strides, shape.width, smooth)

    def forward(self, latents: Tensor, grid: Grid) -> Tensor:
        check_cells("decoder vit", latents.shape[1], grid)
        return self.unpatchify(self.transformer(latents, grid), grid)

    @property
    def last_layer(self) -> nn.Parameter:
        return self.unpatchify.last_layer

    @classmethod
    def example_options(cls) -> dict[str, Any]:
        return ViTEncoder.example_options()
