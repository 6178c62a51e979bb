"""Index backpropagation quantization."""

from __future__ import annotations

from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from tokkit.ops.codebook_lookup import codebook_lookup
from tokkit.quantizers.base import Grid, Quantized, Quantizer, squared_error
from tokkit.registry import register

CHUNK_ELEMENTS = 2**24
"""Size of the largest soft assignment, rows x K, held at once: 64 MB in fp32."""


@register("quantizer", "ibq")
class IBQ(Quantizer):
    """Index backpropagation: every code has a gradient in every step, so large codebooks stay in use (https://arxiv.org/abs/2412.02692).

    With s = softmax(x E') and h its one-hot argmax, q = (h + s - sg s) E: the codebook row forward, the soft assignment backward.
    loss = mean (q - x)^2 + mean (sg q - x)^2 + commitment * mean (hE - sg x)^2 + entropy_weight * (sample - batch), the entropies of
    softmax(x E' / temperature). The soft assignment is computed in chunks of rows and again in the backward pass, never N x K at once.
    """

    def __init__(
        self,
        *,
        dim: Annotated[int, Field(ge=1)] = 256,
        codebook_size: Annotated[int, Field(ge=1)] = 16384,
        commitment: Annotated[float, Field(ge=0)] = 0.25,
        entropy_weight: Annotated[float, Field(ge=0)] = 0.05,
        temperature: Annotated[float, Field(gt=0)] = 0.01,
    ):
        """
        Args:
            dim: D, the size of a latent and of a code vector.
            codebook_size: K.
            commitment: weight of the term that pulls codes to latents.
            entropy_weight: of the entropy loss; 0 computes none.
            temperature: of the soft assignment in the entropies.
        """
        super().__init__()
        self.dim = dim
        self.codebook_sizes = (codebook_size,)
        self.commitment = commitment
        self.entropy_weight = entropy_weight
        self.temperature = temperature
        self.weight = nn.Parameter(torch.empty(codebook_size, dim).uniform_(-1 / codebook_size, 1 / codebook_size))

    def forward(self, latents: Tensor, grid: Grid | None = None) -> Quantized:
        self.check_latents(latents)
        with torch.autocast(latents.device.type, enabled=False):
            values, weight = latents.float(), self.weight.float()
            rows = values.reshape(-1, self.dim)
            codes = codebook_lookup(rows.detach(), weight.detach(), metric="dot").view(*values.shape[:-1], 1)
            hard = self.lookup(codes)
            if not self.training:
                return Quantized(hard.to(latents.dtype), codes, values.new_zeros(()))
            soft, sample, batch = self._soft(rows, weight)
            soft = soft.view_as(values)
            quantized = hard + (soft - soft.detach())
            terms = {
                "index": squared_error(quantized, values),
                "commitment": squared_error(values, hard.detach()),
                "codebook": squared_error(hard, values.detach()),
            }
            loss = terms["index"] + terms["commitment"] + self.commitment * terms["codebook"]
            if self.entropy_weight > 0:
                terms |= {"entropy_sample": sample, "entropy_batch": batch}
                loss = loss + self.entropy_weight * (sample - batch)
        return Quantized(quantized.to(latents.dtype), codes, loss, {name: term.detach() for name, term in terms.items()})

    def lookup(self, codes: Tensor, grid: Grid | None = None) -> Tensor:
        self.check_codes(codes)
        return functional.embedding(codes.squeeze(-1), self.weight.float())

    def _soft(self, rows: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The soft assignment times the codebook [n, d], and the sample and batch entropy in nats."""
        parts = [
            checkpoint(self._soft_part, part, weight, use_reentrant=False) for part in rows.split(max(1, CHUNK_ELEMENTS // len(weight)))
        ]
        soft = torch.cat([part[0] for part in parts])
        total = max(len(rows), 1)
        mean = torch.stack([part[2] for part in parts]).sum(0) / total
        return soft, torch.stack([part[1] for part in parts]).sum() / total, -torch.xlogy(mean, mean.clamp(min=1e-30)).sum()

    def _soft_part(self, rows: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        logits = rows @ weight.t()
        soft = logits.softmax(-1) @ weight.detach()
        if self.entropy_weight == 0:
            return soft, rows.new_zeros(()), weight.new_zeros(len(weight))
        log_share = (logits / self.temperature).log_softmax(-1)
        share = log_share.exp()
        return soft, -(share * log_share).sum(), share.sum(0)

    @classmethod
    def example_options(cls) -> dict[str, Any]:
        return {"dim": 8, "codebook_size": 16}
