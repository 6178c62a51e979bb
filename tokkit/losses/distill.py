"""Distillation: the semantic code of a token should tell what a speech model hears."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from tokkit import dsp
from tokkit.errors import InputError
from tokkit.losses.base import Loss, Weight
from tokkit.losses.teachers import Teacher
from tokkit.output import TokenizerOutput
from tokkit.registry import register


@register("loss", "distill")
class Distill(Loss):
    """Distance of the semantic latents of the quantizer `split` to a frozen teacher's features of the original.

    "frames": 1 - cos of the two vectors of every frame, as in Mimi (https://arxiv.org/abs/2410.00037). "channels": -log sigmoid(cos) of
    every feature's course over time, SpeechTokenizer's (https://arxiv.org/abs/2308.16692). The teacher's frames are averaged over the span
    of a token, or interpolated between where tokens are more frequent.
    """

    def __init__(
        self,
        *,
        teacher: Teacher,
        sample_rate: Annotated[int, Field(ge=1)] = 24000,
        weight: Weight = 1.0,
        align: Literal["frames", "channels"] = "frames",
    ):
        """
        Args:
            teacher: whose features; `teacher_dim` of the quantizer is the size of them.
            sample_rate: of the sounds that train.
            weight: what the training loop multiplies the loss with; SpeechTokenizer's is 120, of "channels".
            align: see above.
        """
        super().__init__()
        self.weight, self.align, self.sample_rate = weight, align, sample_rate
        self.teacher = teacher.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> Distill:
        """Only the flag changes: a teacher has dropout."""
        super().train(mode)
        self.teacher.eval()
        return self

    def forward(self, target: Tensor, reconstruction: Tensor) -> Tensor:
        raise InputError("loss distill compares semantic latents, not reconstructions: the quantizer must be `split`")

    def of_output(self, target: Tensor, reconstruction: Tensor, output: TokenizerOutput) -> Tensor:
        """
        Raises:
            InputError: the quantizer has no semantic part, or one of another size than the teacher's features.
        """
        student = output.semantic
        if student is None:
            raise InputError("loss distill: the quantizer has no semantic part; take `split`")
        with torch.no_grad():
            sound = dsp.resample(target.float().mean(1), self.sample_rate, self.teacher.sample_rate)
            wanted = at_rate(self.teacher(sound).float(), student.shape[1])
        if wanted.shape[-1] != student.shape[-1]:
            raise InputError(
                f"loss distill: the semantic latents have {student.shape[-1]} features and the teacher's {wanted.shape[-1]}; "
                f"set quantizer.teacher_dim={wanted.shape[-1]}"
            )
        if self.align == "frames":
            return 1 - F.cosine_similarity(student.float(), wanted, dim=-1).mean()
        return -F.logsigmoid(F.cosine_similarity(student.float(), wanted, dim=1)).mean()


def at_rate(features: Tensor, frames: int) -> Tensor:
    """Features [B, n, F] on another number of frames: means over the span of each, linear where there are more than before."""
    if features.shape[1] == frames:
        return features
    mode = "area" if frames < features.shape[1] else "linear"
    return F.interpolate(features.transpose(1, 2), frames, mode=mode).transpose(1, 2)
