"""Lookup-free quantization, whole (MAGVIT-v2) or in groups (WeTok)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field
from torch import Tensor

from tokkit.errors import InputError
from tokkit.ops.binary_entropy import group_entropy
from tokkit.quantizers.signs import SignQuantizer
from tokkit.registry import register

LARGEST_HISTOGRAM = 20
"""Bits of the largest group whose batch entropy, a histogram of 2^bits, is worth its memory."""


@register("quantizer", "lfq")
class LFQ(SignQuantizer):
    """Lookup-free quantization: the sign of each channel is a bit (https://arxiv.org/abs/2310.05737).

    q = +1 where x > 0, else -1. With `groups` it is WeTok's group-wise form (https://arxiv.org/abs/2508.05599): one code a group and the
    entropy over groups. loss = entropy_weight * (sample - batch) + commitment * mean (x - sg q)^2, the entropies in nats of
    softmax(2 x.c / temperature) over the codes c of a group: confident tokens, all codes in use. The sample entropy is the exact
    factorised sum over bits, never 2^bits wide.

    `levels` above 1 is the residual form: a channel's further bits are the signs of what is left of it, each at half the step of the last,
    so that a channel has 2^levels values where a bit alone has two. Groups, codes and entropies are over the bits as before.
    """

    def __init__(
        self,
        *,
        bits: Annotated[int, Field(ge=1)] = 18,
        groups: Annotated[int, Field(ge=1)] = 1,
        levels: Annotated[int, Field(ge=1)] = 1,
        temperature: Annotated[float, Field(gt=0)] = 0.01,
        entropy_weight: Annotated[float, Field(ge=0)] = 0.1,
        entropy_pool: Literal["shared", "per_group"] = "shared",
        commitment: Annotated[float, Field(ge=0)] = 0.25,
    ):
        """
        Args:
            bits: bits of a token; D = bits / levels.
            groups: codes of a token, Q; K = 2^(bits / groups) each. WeTok has 8 bits a group.
            levels: bits of a channel, side by side in the codes.
            temperature: of the soft assignment in the entropies.
            entropy_weight: of the entropy loss; 0 computes none.
            entropy_pool: the batch entropy's histogram: one over all groups, as WeTok's released code has it, or one for each group,
                as BSQ has it.
            commitment: weight of the commitment loss.

        Raises:
            InputError: the groups or levels do not divide the bits, or a group is too large for the histogram of its codes.
        """
        if bits % groups:
            raise InputError(f"lfq: {groups} groups do not divide {bits} bits")
        if entropy_weight > 0 and bits // groups > LARGEST_HISTOGRAM:
            raise InputError(
                f"lfq: the batch entropy of {bits // groups} bits a group needs a histogram of 2^{bits // groups}; use more groups (at "
                f"most {LARGEST_HISTOGRAM} bits each), entropy_weight=0, or the quantizer `binary`, whose entropy is over single bits"
            )
        super().__init__(
            bits=bits,
            group_bits=bits // groups,
            levels=levels,
            temperature=temperature,
            entropy_weight=entropy_weight,
            commitment=commitment,
        )
        self.entropy_pool: Literal["shared", "per_group"] = entropy_pool

    def entropies(self, values: Tensor) -> tuple[Tensor, Tensor]:
        return group_entropy(values, self.group_bits, self.temperature, self.entropy_pool)

    @classmethod
    def example_options(cls) -> dict[str, Any]:
        return {"bits": 12, "groups": 3}
