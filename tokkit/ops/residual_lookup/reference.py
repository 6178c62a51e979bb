"""Residual lookup as its definition: nearest code in float64, subtract in fp32, next level."""

import torch
from torch import Tensor

from tokkit.ops.codebook_lookup.reference import reference_lookup


def residual_reference(x: Tensor, codebooks: Tensor) -> tuple[Tensor, Tensor]:
    """`[N, d]` fp32, `[L, K, d]` fp32 -> codes `[N, L]` int64 and the sum of the codes in level order, `[N, d]` fp32."""
    residual, quantized = x, torch.zeros_like(x)
    codes = []
    for codebook in codebooks:
        codes.append(reference_lookup(residual, codebook, "euclidean"))
        near = codebook[codes[-1]]
        residual, quantized = residual - near, quantized + near
    return torch.stack(codes, dim=1), quantized
