"""The family of vector-quantize-pytorch (lucidrains) behind tokkit's interface: what to compare with, and what tokkit has no own form of.

The library's modules are used as they are; only results are brought into one shape. Options have the library's names and meaning.
Left out: what gives no latents back from indices (RandomProjectionQuantizer, BinaryMapper), what is a whole autoencoder (EvoLFQ), and
HierarchicalVQ, which is built for one fixed grid (`multiscale` is not).
"""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
import vector_quantize_pytorch as vqp
from torch import Tensor, nn

from tokkit.errors import InputError
from tokkit.quantizers.base import Grid, Quantized, Quantizer
from tokkit.registry import register


class Adapted(Quantizer):
    """Base of the adapters: calls `inner`, and makes one `Quantized` of what it returns.

    The loss is the library's, already weighted, summed over levels and groups; `terms["auxiliary"]` is the same number.
    """

    def __init__(self, inner: nn.Module, dim: int, codebook_sizes: tuple[int, ...]):
        super().__init__()
        self.inner = inner
        self.dim = dim
        self.codebook_sizes = codebook_sizes

    def forward(self, latents: Tensor, grid: Grid | None = None) -> Quantized:
        self.check_latents(latents)
        shape = (*latents.shape[:2], len(self.codebook_sizes))
        nothing = latents.new_zeros((), dtype=torch.float32)
        if not latents.numel():
            return Quantized(latents, torch.zeros(shape, dtype=torch.int64, device=latents.device), nothing)
        with torch.autocast(latents.device.type, enabled=False):
            quantized, indices, loss = self._run(latents.float())
            codes = indices.long().reshape(shape)
            if not self.training:
                return Quantized(self.lookup(codes).to(latents.dtype), codes, nothing)
        return Quantized(quantized.to(latents.dtype), codes, loss, {"auxiliary": loss.detach()})

    def lookup(self, codes: Tensor, grid: Grid | None = None) -> Tensor:
        self.check_codes(codes)
        if not codes.numel():
            return torch.zeros(*codes.shape[:2], self.dim, device=codes.device)
        with torch.autocast(codes.device.type, enabled=False):
            return self._lookup(codes)

    def _run(self, latents: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Latents, indices [B, N, Q] or [B, N], and the loss as a scalar."""
        quantized, indices, *rest = self.inner(latents)
        return quantized, indices, rest[0].float().sum() if rest else latents.new_zeros(())

    def _lookup(self, codes: Tensor) -> Tensor:
        return self._inverse(codes.squeeze(-1) if codes.shape[-1] == 1 else codes)

    def _inverse(self, indices: Tensor) -> Tensor:
        """The library has two names for this."""
        name = "get_output_from_indices" if hasattr(self.inner, "get_output_from_indices") else "indices_to_codes"
        latents: Tensor = getattr(self.inner, name)(indices)
        return latents


class AdaptedResidual(Adapted):
    """The residual ones keep the axis of levels even when there is one."""

    def _lookup(self, codes: Tensor) -> Tensor:
        return self._inverse(codes)


class AdaptedGroups(Adapted):
    """The grouped residual ones stack groups first, [G, B, N, L]; a token here is its groups one after the other, [B, N, G * L]."""

    def __init__(self, inner: nn.Module, dim: int, codebook_sizes: tuple[int, ...], groups: int):
        super().__init__(inner, dim, codebook_sizes)
        self.groups = groups

    def _run(self, latents: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        quantized, indices, loss = super()._run(latents)
        return quantized, indices.permute(1, 2, 0, 3), loss

    def _lookup(self, codes: Tensor) -> Tensor:
        return self._inverse(codes.unflatten(-1, (self.groups, -1)).permute(2, 0, 1, 3))


@register("quantizer", "vqp.vector_quantize")
class VectorQuantize(Adapted):
    """vector-quantize-pytorch's VectorQuantize (https://arxiv.org/abs/1711.00937), with heads."""

    def __init__(
        self,
        *,
        dim: int,
        codebook_size: int,
        codebook_dim: int | None = None,
        heads: int = 1,
        separate_codebook_per_head: bool = False,
        decay: float = 0.8,
        kmeans_init: bool = False,
        use_cosine_sim: bool = False,
        threshold_ema_dead_code: float = 0,
        commitment_weight: float = 1.0,
        rotation_trick: bool = True,
    ):
        inner = vqp.VectorQuantize(
            dim=dim,
            codebook_size=codebook_size,
            codebook_dim=codebook_dim,
            heads=heads,
            separate_codebook_per_head=separate_codebook_per_head,
            decay=decay,
            kmeans_init=kmeans_init,
            use_cosine_sim=use_cosine_sim,
            threshold_ema_dead_code=threshold_ema_dead_code,
            commitment_weight=commitment_weight,
            rotation_trick=rotation_trick,
        )
        super().__init__(inner, dim, (codebook_size,) * heads)

    @classmethod
    def example_options(cls) -> dict[str, Any]:
        return {"dim": 8, "codebook_size": 16}


@register("quantizer", "vqp.residual_vq")
class ResidualVQ(AdaptedResidual):
    """vector-quantize-pytorch's ResidualVQ (https://arxiv.org/abs/2107.03312); `implicit_neural_codebook` is QINCo."""

    def __init__(
        self,
        *,
        dim: int,
        num_quantizers: int,
        codebook_size: int,
        codebook_dim: int | None = None,
        decay: float = 0.8,
        kmeans_init: bool = False,
        use_cosine_sim: bool = False,
        threshold_ema_dead_code: float = 0,
        commitment_weight: float = 1.0,
        implicit_neural_codebook: bool = False,
    ):
        inner = vqp.ResidualVQ(
            dim=dim,
            num_quantizers=num_quantizers,
            codebook_size=codebook_size,
            codebook_dim=codebook_dim,
            decay=decay,
            kmeans_init=kmeans_init,
            use_cosine_sim=use_cosine_sim,
            threshold_ema_dead_code=threshold_ema_dead_code,
            commitment_weight=commitment_weight,
            implicit_neural_codebook=implicit_neural_codebook,
        )
        super().__init__(inner, dim, (codebook_size,) * num_quantizers)

    @classmethod
    def example_options(cls) -> dict[str, Any]:
        return {"dim": 8, "num_quantizers": 3, "codebook_size": 16}


@register("quantizer", "vqp.grouped_residual_vq")
class GroupedResidualVQ(AdaptedGroups):
    """vector-quantize-pytorch's GroupedResidualVQ (https://arxiv.org/abs/2305.02765)."""

    def __init__(
        self,
        *,
        dim: int,
        groups: int,
        num_quantizers: int,
        codebook_size: int,
        decay: float = 0.8,
        kmeans_init: bool = False,
        use_cosine_sim: bool = False,
        threshold_ema_dead_code: float = 0,
        commitment_weight: float = 1.0,
    ):
        inner = vqp.GroupedResidualVQ(
            dim=dim,
            groups=groups,
            num_quantizers=num_quantizers,
            codebook_size=codebook_size,
            decay=decay,
            kmeans_init=kmeans_init,
            use_cosine_sim=use_cosine_sim,
            threshold_ema_dead_code=threshold_ema_dead_code,
            commitment_weight=commitment_weight,
        )
        super().__init__(inner, dim, (codebook_size,) * (groups * num_quantizers), groups)

    @classmethod
    def example_options(cls) -> dict[str, Any]:
        return {"dim": 8, "groups": 2, "num_quantizers": 2, "codebook_size": 16}


@register("quantizer", "vqp.sim_vq")
class SimVQ(Adapted):
    """vector-quantize-pytorch's SimVQ (https://arxiv.org/abs/2411.02038)."""

    def __init__(self, *, dim: int, codebook_size: int, rotation_trick: bool = True, commitment_weight: float = 1.0):
        inner = vqp.SimVQ(dim=dim, codebook_size=codebook_size, rotation_trick=rotation_trick, commitment_weight=commitment_weight)
        super().__init__(inner, dim, (codebook_size,))

    @classmethod
    def example_options(cls) -> dict[str, Any]:
        return {"dim": 8, "codebook_size": 16}


@register("quantizer", "vqp.residual_sim_vq")
class ResidualSimVQ(AdaptedResidual):
    """vector-quantize-pytorch's ResidualSimVQ: SimVQ at every level."""

    def __init__(self, *, dim: int, num_quantizers: int, codebook_size: int, rotation_trick: bool = True, commitment_weight: float = 1.0):
        inner = vqp.ResidualSimVQ(
            dim=dim,
            num_quantizers=num_quantizers,
            codebook_size=codebook_size,
            rotation_trick=rotation_trick,
            commitment_weight=commitment_weight,
        )
        super().__init__(inner, dim, (codebook_size,) * num_quantizers)

    @classmethod
    def example_options(cls) -> dict[str, Any]:
        return {"dim": 8, "num_quantizers": 2, "codebook_size": 16}


@register("quantizer", "vqp.lfq")
class LFQ(Adapted):
    """vector-quantize-pytorch's LFQ (https://arxiv.org/abs/2310.05737); `spherical` is BSQ. Its index has the first bit highest."""

    def __init__(
        self,
        *,
        codebook_size: int,
        dim: int | None = None,
        num_codebooks: int = 1,
        entropy_loss_weight: float = 0.1,
        commitment_loss_weight: float = 0.0,
        diversity_gamma: float = 1.0,
        spherical: bool = False,
        soft_clamp_input_value: float | None = None,
    ):
        _need_power_of_two("vqp.lfq", codebook_size)
        inner = vqp.LFQ(
            codebook_size=codebook_size,
            dim=dim,
            num_codebooks=num_codebooks,
            entropy_loss_weight=entropy_loss_weight,
            commitment_loss_weight=commitment_loss_weight,
            diversity_gamma=diversity_gamma,
            spherical=spherical,
            soft_clamp_input_value=soft_clamp_input_value,
        )
        super().__init__(inner, inner.dim, (codebook_size,) * num_codebooks)

    @classmethod
    def example_options(cls) -> dict[str, Any]:
        return {"codebook_size": 16, "dim": 6, "num_codebooks": 2}


@register("quantizer", "vqp.residual_lfq")
class ResidualLFQ(AdaptedResidual):
    """vector-quantize-pytorch's ResidualLFQ: LFQ of half the scale at every further level."""

    def __init__(
        self, *, dim: int, num_quantizers: int, codebook_size: int, entropy_loss_weight: float = 0.1, commitment_loss_weight: float = 0.0
    ):
        _need_power_of_two("vqp.residual_lfq", codebook_size)
        inner = vqp.ResidualLFQ(
            dim=dim,
            num_quantizers=num_quantizers,
            codebook_size=codebook_size,
            entropy_loss_weight=entropy_loss_weight,
            commitment_loss_weight=commitment_loss_weight,
        )
        super().__init__(inner, dim, (codebook_size,) * num_quantizers)

    @classmethod
    def example_options(cls) -> dict[str, Any]:
        return {"dim": 8, "num_quantizers": 2, "codebook_size": 16}


@register("quantizer", "vqp.fsq")
class FSQ(Adapted):
    """vector-quantize-pytorch's FSQ (https://arxiv.org/abs/2309.15505); `preserve_symmetry` is the symmetric form."""

    def __init__(
        self,
        *,
        levels: tuple[int, ...],
        dim: int | None = None,
        num_codebooks: int = 1,
        preserve_symmetry: bool = False,
        noise_dropout: float = 0.0,
        orthogonal_rotation: bool = False,
    ):
        inner = vqp.FSQ(
            levels=list(levels),
            dim=dim,
            num_codebooks=num_codebooks,
            preserve_symmetry=preserve_symmetry,
            noise_dropout=noise_dropout,
            orthogonal_rotation=orthogonal_rotation,
        )
        super().__init__(inner, inner.dim, (math.prod(levels),) * num_codebooks)

    @classmethod
    def example_options(cls) -> dict[str, Any]:
        return {"levels": (8, 5, 5), "dim": 6}


@register("quantizer", "vqp.residual_fsq")
class ResidualFSQ(AdaptedResidual):
    """vector-quantize-pytorch's ResidualFSQ: FSQ of a finer scale at every further level."""

    def __init__(self, *, levels: tuple[int, ...], num_quantizers: int, dim: int | None = None):
        inner = vqp.ResidualFSQ(levels=list(levels), num_quantizers=num_quantizers, dim=dim)
        super().__init__(inner, dim or len(levels), (math.prod(levels),) * num_quantizers)

    @classmethod
    def example_options(cls) -> dict[str, Any]:
        return {"levels": (8, 5, 5), "num_quantizers": 2, "dim": 6}


@register("quantizer", "vqp.grouped_residual_fsq")
class GroupedResidualFSQ(AdaptedGroups):
    """vector-quantize-pytorch's GroupedResidualFSQ."""

    def __init__(self, *, dim: int, groups: int, levels: tuple[int, ...], num_quantizers: int):
        inner = vqp.GroupedResidualFSQ(dim=dim, groups=groups, levels=list(levels), num_quantizers=num_quantizers)
        super().__init__(inner, dim, (math.prod(levels),) * (groups * num_quantizers), groups)

    @classmethod
    def example_options(cls) -> dict[str, Any]:
        return {"dim": 8, "groups": 2, "levels": (5, 5, 3), "num_quantizers": 2}


class _RoundedLatentQuantize(vqp.LatentQuantize):
    """The library cuts digits such as 0.9999999 down to 0 (vector-quantize-pytorch 1.32.0), a code off by one step."""

    def codes_to_indices(self, zhat: Tensor) -> Tensor:
        return (self._scale_and_shift(zhat).round().long() * self._basis).sum(-1)


@register("quantizer", "vqp.latent_quantize")
class LatentQuantize(Adapted):
    """vector-quantize-pytorch's LatentQuantize: learned scalar values for each channel (https://arxiv.org/abs/2305.18378)."""

    def __init__(self, *, levels: tuple[int, ...], dim: int, commitment_loss_weight: float = 0.1, quantization_loss_weight: float = 0.1):
        inner = _RoundedLatentQuantize(
            levels=list(levels), dim=dim, commitment_loss_weight=commitment_loss_weight, quantization_loss_weight=quantization_loss_weight
        )
        # The library's straight-through leaves these without a gradient, which DistributedDataParallel would wait for.
        inner.values_per_latent.requires_grad_(False)
        super().__init__(inner, dim, (math.prod(levels),))

    def _run(self, latents: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        quantized, indices, loss = super()._run(latents.transpose(1, 2))
        return quantized.transpose(1, 2), indices, loss

    def _lookup(self, codes: Tensor) -> Tensor:
        return super()._lookup(codes).transpose(1, 2)

    @classmethod
    def example_options(cls) -> dict[str, Any]:
        return {"levels": (5, 5, 3), "dim": 6}


@register("quantizer", "vqp.fsp")
class FSP(Adapted):
    """vector-quantize-pytorch's finite scalar perturbation (https://arxiv.org/abs/2602.17133)."""

    def __init__(
        self,
        *,
        levels: tuple[int, ...],
        dim: int | None = None,
        act_name: Literal["tanh", "sigmoid", "normal", "laplace", "cauchy"] = "tanh",
        quantize_rate: float = 0.0,
        vector_norm: Literal["none", "var", "kurt", "var_tanh", "var_sigmoid", "var_laplace"] = "var_tanh",
    ):
        inner = vqp.FSP(levels=levels, dim=dim, act_name=act_name, quantize_rate=quantize_rate, vector_norm=vector_norm)
        super().__init__(inner, inner.dim, (math.prod(levels),))

    @classmethod
    def example_options(cls) -> dict[str, Any]:
        return {"levels": (8, 5, 5), "dim": 6}


def _need_power_of_two(name: str, codebook_size: int) -> None:
    if codebook_size < 2 or codebook_size & (codebook_size - 1):
        raise InputError(f"{name}: codebook_size must be a power of two, got {codebook_size}")
