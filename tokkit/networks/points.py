"""Point clouds to a set of latents, and a field from such a set (3DShape2VecSet, VAT)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from tokkit.errors import InputError
from tokkit.geometry.sampling import farthest_points
from tokkit.networks.base import Encoder, FieldDecoder, Grid, Latents
from tokkit.networks.layers import check_size
from tokkit.networks.sets import CrossBlock, Fourier, SelfBlocks
from tokkit.networks.transformer import learned_tokens, resolve_shape
from tokkit.registry import register


@register("encoder", "points")
class PointsEncoder(Encoder):
    """N queries attend to all points, then a transformer works on the queries (3DShape2VecSet, https://arxiv.org/abs/2301.11445).

    D is the width; the grid is ().

    Attributes:
        num_tokens: N.
    """

    def __init__(
        self,
        *,
        num_tokens: Annotated[int, Field(ge=1)] = 256,
        queries: Literal["learned", "fps"] = "learned",
        channels: Annotated[int, Field(ge=3)] = 6,
        width: Annotated[int, Field(ge=1)] = 384,
        depth: Annotated[int, Field(ge=1)] = 8,
        heads: Annotated[int, Field(ge=1)] = 6,
        frequencies: Annotated[int, Field(ge=1)] = 8,
        rounds: Annotated[int, Field(ge=1)] = 2,
    ):
        """
        Args:
            num_tokens: N.
            queries: "learned": N vectors, each of which always has the same part (VAT, https://arxiv.org/abs/2412.02202). "fps": N of the
                points, by farthest point sampling, so latents are bound to places and N can change when the network is used.
            channels: of a point: its place, then anything (normal, group).
            width: D.
            depth: number of self-attention blocks, over all rounds.
            heads: attention heads.
            frequencies: octaves of the Fourier features of places.
            rounds: how often the queries attend to the points; the self-attention blocks are spread between.

        Raises:
            InputError: the heads do not get an even number of channels each, or there are more rounds than blocks.
        """
        super().__init__()
        shape = resolve_shape("small", width, depth, heads)
        if depth % rounds:
            raise InputError(f"encoder points: depth={depth} must be a multiple of rounds={rounds}")
        self.channels, self.dim, self.rank, self.stride = channels, width, 1, 1
        self.num_tokens, self.from_points = num_tokens, queries == "fps"
        self.fourier = Fourier(frequencies)
        self.embed = nn.Sequential(nn.Linear(self.fourier.width + channels - 3, width), nn.GELU(), nn.Linear(width, width))
        self.queries = None if self.from_points else learned_tokens(num_tokens, width)
        self.attends = nn.ModuleList(CrossBlock(width, width, heads) for _ in range(rounds))
        self.works = nn.ModuleList(SelfBlocks(shape._replace(depth=depth // rounds)) for _ in range(rounds))

    def forward(self, inputs: Tensor) -> Latents:
        check_size("encoder points", inputs.shape[2:], self.rank, self.stride)
        rows = inputs.transpose(1, 2)
        features = self.embed(torch.cat([self.fourier(rows[..., :3]), rows[..., 3:].float()], -1).to(inputs.dtype))
        if self.queries is None:
            chosen = farthest_points(rows[..., :3].float(), self.num_tokens)
            tokens = features.gather(1, chosen.unsqueeze(-1).expand(-1, -1, features.shape[-1]))
        else:
            tokens = self.queries.to(features.dtype).expand(inputs.shape[0], -1, -1)
        for attend, work in zip(self.attends, self.works, strict=True):
            tokens = work(attend(tokens, features))
        return Latents(tokens, ())

    @classmethod
    def example_options(cls) -> dict[str, Any]:
        return {"num_tokens": 4, "width": 16, "depth": 2, "heads": 2}


@register("decoder", "vecset")
class VecSetDecoder(FieldDecoder):
    """A transformer over the latents; a point of the field attends to them once (3DShape2VecSet, https://arxiv.org/abs/2301.11445).

    D is the width. Takes up to N latents.
    """

    def __init__(
        self,
        *,
        num_tokens: Annotated[int, Field(ge=1)] = 256,
        layers: Annotated[int, Field(ge=1)] = 1,
        width: Annotated[int, Field(ge=1)] = 384,
        depth: Annotated[int, Field(ge=1)] = 8,
        heads: Annotated[int, Field(ge=1)] = 6,
        frequencies: Annotated[int, Field(ge=1)] = 8,
    ):
        """
        Args:
            num_tokens: N, the most latents it can take.
            layers: values of the field at a point: the modality's layers.
            width: D.
            depth: number of self-attention blocks.
            heads: attention heads.
            frequencies: octaves of the Fourier features of places.

        Raises:
            InputError: the heads do not get an even number of channels each.
        """
        super().__init__()
        shape = resolve_shape("small", width, depth, heads)
        self.channels, self.dim, self.rank, self.stride = layers, width, 1, 1
        self.num_tokens, self.layers = num_tokens, layers
        self.positions = learned_tokens(num_tokens, width)
        self.work = SelfBlocks(shape)
        self.fourier = Fourier(frequencies)
        self.embed = nn.Linear(self.fourier.width, width)
        self.attend = CrossBlock(width, width, heads)
        self.out = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, layers))

    def forward(self, latents: Tensor, grid: Grid) -> Tensor:
        given = latents.shape[1]
        if given > self.num_tokens:
            raise InputError(f"decoder vecset: got {given} latents, and it was built for at most num_tokens={self.num_tokens}")
        return self.work(latents + self.positions[:given].to(latents.dtype))

    def query(self, prepared: Tensor, points: Tensor) -> Tensor:
        return self.out(self.attend(self.embed(self.fourier(points).to(prepared.dtype)), prepared))

    @property
    def last_layer(self) -> nn.Parameter:
        return self.out[-1].get_parameter("weight")

    @classmethod
    def example_options(cls) -> dict[str, Any]:
        return {"num_tokens": 4, "width": 16, "depth": 2, "heads": 2}
