"""What every encoder and decoder is: tensors to latents and back. Knows no codes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

Grid = tuple[int, ...]


class Latents(NamedTuple):
    """What an encoder makes of its input.

    Attributes:
        values: [B, N, D].
        grid: the spatial arrangement behind the latents: (H, W), (T,), (T, H, W), or () for a set. N equals its product where every
            cell has one latent; 1D tokenizers keep the patch grid here, because the decoder needs it, and N is their number of tokens.
    """

    values: Tensor
    grid: Grid


class Encoder(nn.Module):
    """Base of encoders.

    Attributes:
        channels: C of the input [B, C, *spatial].
        dim: D of the latents.
        rank: the number of spatial axes of the input.
        stride: every spatial axis of the input must be a multiple of it; the tokenizer pads. Of video it is that of height and width.
    """

    kind: ClassVar[str] = "encoder"
    channels: int
    dim: int
    rank: int
    stride: int

    @property
    def strides(self) -> tuple[int, ...]:
        """One for each spatial axis: `stride`, unless the axes differ."""
        return (self.stride,) * self.rank

    @property
    def tile_axes(self) -> int:
        """How many spatial axes, the last ones, may be cut into tiles."""
        return self.rank

    def padded_size(self, size: tuple[int, ...]) -> tuple[int, ...]:
        """The smallest spatial size, none of its axes shorter than in `size`, that this encoder takes."""
        return tuple(-(-length // step) * step for length, step in zip(size, self.strides, strict=True))

    def forward(self, inputs: Tensor) -> Latents:
        """Encode [B, C, *spatial]; pictures are in [-1, 1]."""
        raise NotImplementedError

    @classmethod
    def example_options(cls) -> dict[str, Any]:
        """Small options that a contract test builds this encoder with."""
        return {}


class Decoder(nn.Module):
    """Base of decoders.

    Attributes:
        channels: C of the output.
        dim: D of the latents it takes.
        stride: the size of the output over that of the grid.
    """

    kind: ClassVar[str] = "decoder"
    channels: int
    dim: int
    rank: int
    stride: int

    @property
    def strides(self) -> tuple[int, ...]:
        """One for each spatial axis: `stride`, unless the axes differ."""
        return (self.stride,) * self.rank

    def output_size(self, grid: Grid) -> tuple[int, ...]:
        """The spatial size of what is decoded from a grid."""
        return tuple(cells * step for cells, step in zip(grid, self.strides, strict=True))

    def forward(self, latents: Tensor, grid: Grid) -> Tensor:
        """Decode [B, N, D] on a grid to [B, C, *output_size(grid)]."""
        raise NotImplementedError

    def adopted(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """The state that this decoder starts in from another's weights, by its own names; as they are, where it knows no better."""
        return weights

    @property
    def last_layer(self) -> nn.Parameter:
        """The weight of the final layer: what the adaptive adversarial weight of VQGAN measures gradients at."""
        raise NotImplementedError

    @classmethod
    def example_options(cls) -> dict[str, Any]:
        """Small options that a contract test builds this decoder with."""
        return {}


class GenerativeDecoder(Decoder):
    """Base of decoders that draw one of the inputs which the latents allow, and so bring the loss that they learn by.

    `forward` draws with the noise of `seed`: the same output for a sample alone and in any batch, on any device. In training the tokenizer
    calls `learn` in its place.

    Attributes:
        seed: of the noise.
    """

    seed: int = 0

    def learn(self, latents: Tensor, grid: Grid, target: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """One step of training on [B, N, D].

        Args:
            latents: [B, N, D], what `forward` takes.
            grid: their arrangement.
            target: [B, C, *spatial] in the networks' range, spatial = grid * stride.

        Returns:
            An estimate of the target [B, C, *spatial] that other losses can judge, and the decoder's own weighted losses by name.
        """
        raise NotImplementedError


class FieldDecoder(Decoder):
    """Base of decoders that describe a shape as a field: `forward` prepares once a shape what `query` then reads at any points.

    Values are negative inside and positive outside. `rank` is that of the encoder's input; `stride` is 1.

    Attributes:
        layers: values at a point, one for each layer of the shape.
    """

    layers: int

    def forward(self, latents: Tensor, grid: Grid) -> Tensor:
        """Latents [B, N, D] to whatever `query` needs, the batch first."""
        raise NotImplementedError

    def query(self, prepared: Tensor, points: Tensor) -> Tensor:
        """The field at points [B, M, 3] in [-1, 1]: [B, M, layers]."""
        raise NotImplementedError

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """As torch has it, and `query` too, where the many points of a training step are."""
        super().compile(*args, **kwargs)
        self.query = torch.compile(self.query, *args, **kwargs)  # type: ignore[method-assign]

    def fields(self, prepared: Tensor) -> Iterator[Callable[[Tensor], Tensor]]:
        """For every shape of a batch a function of points [M, 3] to values [M, layers]."""

        def field(shape: Tensor, points: Tensor) -> Tensor:
            return self.query(shape, points.unsqueeze(0).to(prepared.dtype))[0]

        return (partial(field, shape) for shape in prepared.split(1))
