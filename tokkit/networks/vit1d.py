"""Transformer encoder and decoder whose latents are register tokens: N of them whatever the picture's size.

TiTok (https://arxiv.org/abs/2406.07550); with `causal` the ordered registers of FlexTok (https://arxiv.org/abs/2502.13967).
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from tokkit.errors import InputError
from tokkit.networks.base import Decoder, Encoder, Grid, Latents
from tokkit.networks.layers import check_size
from tokkit.networks.transformer import Patchify, Rank, Size, Transformer, Unpatchify, learned_tokens, register_mask, resolve_shape
from tokkit.registry import register

REGISTER_STD = 1.0
POSITION_STD = 0.3
"""Of registers and of the decoder's places at the start: at 0.02 the first block outweighs them, and all tokens begin as the same one."""


@register("encoder", "vit1d")
class ViT1DEncoder(Encoder):
    """Patches and N learned registers through a transformer; the registers are the latents (https://arxiv.org/abs/2406.07550).

    D is the width. The grid it returns is that of the patches.

    Attributes:
        num_tokens: N.
    """

    def __init__(
        self,
        *,
        num_tokens: int = 128,
        causal: bool = False,
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
            num_tokens: N, the number of latents of a picture of any size.
            causal: a register looks at the patches and at earlier registers only, and patches look at no register, so that the first k
                latents do not depend on how many follow.
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
        _check_tokens(num_tokens)
        self.channels, self.dim, self.rank, self.stride = channels, shape.width, rank, patch
        self.num_tokens, self.causal = num_tokens, causal
        self.patchify = Patchify(channels, self.strides, shape.width)
        self.registers = learned_tokens(num_tokens, shape.width, REGISTER_STD)
        self.transformer = Transformer(shape)

    def forward(self, inputs: Tensor) -> Latents:
        check_size("encoder vit1d", inputs.shape[2:], self.rank, self.stride)
        grid = tuple(size // self.stride for size in inputs.shape[2:])
        patches = self.patchify(inputs)
        registers = self.registers.to(patches.dtype).expand(inputs.shape[0], -1, -1)
        mask = register_mask(self.num_tokens, patches.shape[1], patches.device) if self.causal else None
        tokens = self.transformer(torch.cat([registers, patches], 1), grid, mask)
        return Latents(tokens[:, : self.num_tokens], grid)

    @classmethod
    def example_options(cls) -> dict[str, Any]:
        return {"num_tokens": 5, "patch": 4, "width": 16, "depth": 1, "heads": 2}


@register("decoder", "vit1d")
class ViT1DDecoder(Decoder):
    """Latents and a mask token for every patch through a transformer; the mask tokens become pixels (https://arxiv.org/abs/2406.07550).

    D is the width. Takes any number of leading latents up to N.

    Attributes:
        num_tokens: N.
    """

    def __init__(
        self,
        *,
        num_tokens: int = 128,
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
            num_tokens: N, the most latents it can take.
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
        _check_tokens(num_tokens)
        self.channels, self.dim, self.rank, self.stride = channels, shape.width, rank, patch
        self.num_tokens = num_tokens
        self.positions = learned_tokens(num_tokens, shape.width, POSITION_STD)
        self.mask_token = learned_tokens(1, shape.width)
        self.transformer = Transformer(shape)
        self.unpatchify = Unpatchify(channels, self.strides, shape.width, smooth)

    def forward(self, latents: Tensor, grid: Grid) -> Tensor:
        given = latents.shape[1]
        if given > self.num_tokens:
            raise InputError(f"decoder vit1d: got {given} latents, and it was built for at most num_tokens={self.num_tokens}")
        placed = latents + self.positions[:given].to(latents.dtype)
        cells = math.prod(grid)
        masks = self.mask_token.to(latents.dtype).expand(latents.shape[0], cells, -1)
        tokens = self.transformer(torch.cat([placed, masks], 1), grid)
        return self.unpatchify(tokens[:, given:], grid)

    @property
    def last_layer(self) -> nn.Parameter:
        return self.unpatchify.last_layer

    @classmethod
    def example_options(cls) -> dict[str, Any]:
        return ViT1DEncoder.example_options()


def _check_tokens(num_tokens: int) -> None:
    if num_tokens < 1:
        raise InputError(f"vit1d: num_tokens must be positive, got {num_tokens}")
