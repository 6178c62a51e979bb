"""A continuous bottleneck, to compare quantizers with."""

from __future__ import annotations

from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor

from tokkit.quantizers.base import FloatLinear, Grid, Quantized, Quantizer
from tokkit.registry import register

HALF_CODES = 1 << 16
LARGEST_HALF = torch.finfo(torch.float16).max
LOG_VARIANCE = (-30.0, 20.0)
"""Bounds, as in latent diffusion's code: outside of them the exponential leaves fp32."""


@register("quantizer", "kl")
class KL(Quantizer):
    """No quantizer: a diagonal Gaussian whose mean is kept in half precision, 16 bits a channel (VAE, https://arxiv.org/abs/1312.6114).

    A linear map gives mean m and log-variance of every channel. Training draws z from them and pays weight * KL(N(m, s^2) || N(0, 1)); eval
    mode takes z = m. It is what latent diffusion (https://arxiv.org/abs/2112.10752) and TiTok's VAE have in place of a quantizer.

    The codes are the 16 bits of each mean as an IEEE half float, sign bit highest. So everything that takes tokens takes these, at the rate
    that storing them costs; but they are numbers and no symbols: as the vocabulary of a language model, or as usage of a codebook, they say
    nothing.
    """

    def __init__(
        self,
        *,
        dim: Annotated[int, Field(ge=1)] = 256,
        code_dim: Annotated[int, Field(ge=1)] = 16,
        weight: Annotated[float, Field(ge=0)] = 1e-4,
    ):
        """
        Args:
            dim: D, the size of a latent; linear maps lead from it to 2 * `code_dim` numbers, and back from `code_dim`.
            code_dim: channels of the Gaussian, and codes of a token.
            weight: of the divergence of a token: the sum over its channels in nats, mean over batch and tokens. Latent diffusion sums over
                the N tokens as well, so that its 1e-6 is N * 1e-6 here.
        """
        super().__init__()
        self.dim = dim
        self.weight = weight
        self.codebook_sizes = (HALF_CODES,) * code_dim
        self.moments = FloatLinear(dim, 2 * code_dim)
        self.project_out = FloatLinear(code_dim, dim)

    def forward(self, latents: Tensor, grid: Grid | None = None) -> Quantized:
        self.check_latents(latents)
        with torch.autocast(latents.device.type, enabled=False):
            mean, log_variance = self.moments(latents).chunk(2, -1)
            if not self.training:
                codes = half_codes(mean)
                return Quantized(self.lookup(codes).to(latents.dtype), codes, mean.new_zeros(()))
            log_variance = log_variance.clamp(*LOG_VARIANCE)
            drawn = mean + (0.5 * log_variance).exp() * torch.randn_like(mean)
            divergence = gaussian_divergence(mean, log_variance)
            terms = {"kl": divergence.detach(), "deviation": (0.5 * log_variance.detach()).exp().sum() / max(log_variance.numel(), 1)}
            quantized = self.project_out(drawn)
        return Quantized(quantized.to(latents.dtype), half_codes(mean), self.weight * divergence, terms)

    def lookup(self, codes: Tensor, grid: Grid | None = None) -> Tensor:
        self.check_codes(codes)
        signed = torch.where(codes < HALF_CODES // 2, codes, codes - HALF_CODES)
        out: Tensor = self.project_out(signed.to(torch.int16).view(torch.float16).float())
        return out

    @classmethod
    def example_options(cls) -> dict[str, Any]:
        return {"dim": 8, "code_dim": 3}


def gaussian_divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(mean, exp(log_variance)) || N(0, 1)) of [B, N, C] in nats: summed over channels, mean over batch and tokens."""
    each = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance)
    return each.sum() / max(mean.shape[:-1].numel(), 1)


def half_codes(values: Tensor) -> Tensor:
    """The bits of each number as a half float, int64 in [0, 2^16); beyond its range the largest one."""
    halves = values.detach().clamp(-LARGEST_HALF, LARGEST_HALF).to(torch.float16).contiguous()
    return halves.view(torch.int16).long() & (HALF_CODES - 1)
