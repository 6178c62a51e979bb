"""A semantic code and acoustic ones: what is said, and what it sounds like."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, cast

import torch
from pydantic import Field
from torch import Tensor, nn

from tokkit.errors import InputError
from tokkit.quantizers.base import FloatLinear, Grid, Quantized, Quantizer
from tokkit.quantizers.rvq import RVQ
from tokkit.quantizers.vq import VQ
from tokkit.registry import register


@register("quantizer", "split")
class Split(Quantizer):
    """The first code of a token is semantic: the loss `distill` teaches it the features of a speech model. The others are acoustic.

    In parallel, as in Mimi (https://arxiv.org/abs/2410.00037): `semantic` and `acoustic` both quantize the latents, each behind linear maps
    where its size is another, and their results add up. The decoder's gradient reaches the latents through both.
    In sequence, as in SpeechTokenizer (https://arxiv.org/abs/2308.16692), when `semantic` is not given: the first level of `acoustic`, a
    residual quantizer, is the semantic one, and the others code what it leaves.

    In training `Quantized.semantic` is what `distill` compares: the latents of the semantic code alone, mapped to the size of the teacher's
    features. loss = the sum of those of the quantizers inside.
    """

    def __init__(
        self,
        *,
        acoustic: Quantizer,
        semantic: Quantizer | None = None,
        dim: Annotated[int, Field(ge=1)] = 512,
        teacher_dim: Annotated[int, Field(ge=1)] | None = None,
    ):
        """
        Args:
            acoustic: of the acoustic codes; in sequence, of all of them.
            semantic: of the semantic code; None: in sequence.
            dim: D, the size of a latent.
            teacher_dim: the size of the teacher's features, to which a linear map leads; None: D, no map.

        Raises:
            InputError: a quantizer that does not give every latent a code of its own, or one for all that is not residual.
        """
        super().__init__()
        members = [acoustic] if semantic is None else [semantic, acoustic]
        for member in members:
            if member.variable_length or member.num_codes(2) != 2:
                raise InputError(f"split: {type(member).__name__} does not code single latents; take vq or fsq and rvq")
        if semantic is None and not acoustic.variable_levels:
            raise InputError(f"split: without `semantic`, acoustic must be residual (rvq), and {type(acoustic).__name__} is not")
        self.dim = dim
        self.members = nn.ModuleList(_Part(member, dim) for member in members)
        self.codebook_sizes = tuple(size for member in members for size in member.codebook_sizes)
        self.variable_levels = all(member.variable_levels or len(member.codebook_sizes) == 1 for member in members)
        self.to_teacher = nn.Identity() if teacher_dim is None else FloatLinear(dim, teacher_dim)

    def forward(self, latents: Tensor, grid: Grid | None = None) -> Quantized:
        self.check_latents(latents)
        with torch.autocast(latents.device.type, enabled=False):
            values = latents.float()
            found = [part(values, grid) for part in self._parts()]
            codes = torch.cat([each.codes for each in found], -1)
            if not self.training:
                return Quantized(self.lookup(codes, grid).to(latents.dtype), codes, values.new_zeros(()))
            first = found[0].latents
            if len(found) == 1:
                # The identity carries the gradient past the first code, as it does past all of them together.
                first = self._parts()[0].lookup(codes[..., :1], grid) + (values - values.detach())
            loss = torch.stack([each.loss for each in found]).sum()
            total = torch.stack([each.latents for each in found]).sum(0)
        terms: dict[str, Tensor] = {}
        for name, each in zip(("semantic", "acoustic")[-len(found) :], found, strict=True):
            terms |= {f"{name}_{key}": value for key, value in each.terms.items()}
        return Quantized(total.to(latents.dtype), codes, loss, terms, semantic=self.to_teacher(first))

    def lookup(self, codes: Tensor, grid: Grid | None = None) -> Tensor:
        """Latents of the semantic code and the leading acoustic ones: [B, N, k] int64, 1 <= k <= Q -> [B, N, D]."""
        self.check_codes(codes)
        found = []
        for part in self._parts():
            own, codes = codes[..., : part.levels], codes[..., part.levels :]
            if own.shape[-1]:
                found.append(part.lookup(own, grid))
        return torch.stack(found).sum(0)

    def initialize(self, latents: Tensor) -> None:
        for part in self._parts():
            part.quantizer.initialize(part.way_in(latents.float()))

    def _parts(self) -> list[_Part]:
        return [cast(_Part, member) for member in self.members]

    @classmethod
    def example_options(cls) -> dict[str, Any]:
        return {"semantic": VQ(dim=6, codebook_size=16), "acoustic": RVQ(dim=8, levels=3, codebook_size=16, dropout=0.5), "dim": 8}


class _Part(nn.Module):
    """A quantizer between linear maps from the latents and back, where its size is another."""

    def __init__(self, quantizer: Quantizer, dim: int):
        super().__init__()
        self.quantizer = quantizer
        self.levels = len(quantizer.codebook_sizes)
        same = quantizer.dim == dim
        self.way_in = nn.Identity() if same else FloatLinear(dim, quantizer.dim, bias=False)
        self.way_out = nn.Identity() if same else FloatLinear(quantizer.dim, dim, bias=False)

    def forward(self, values: Tensor, grid: Grid | None) -> Quantized:
        found: Quantized = self.quantizer(self.way_in(values), grid)
        return replace(found, latents=self.way_out(found.latents))

    def lookup(self, codes: Tensor, grid: Grid | None) -> Tensor:
        latents: Tensor = self.way_out(self.quantizer.lookup(codes, grid))
        return latents
