"""Self-distillation: what the encoder sees in a picture with holes should be what its own average sees in the whole."""

from __future__ import annotations

import copy
import math
from typing import Annotated, Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from tokkit.errors import InputError
from tokkit.losses.base import Loss, TokenizerParts, Weight
from tokkit.output import TokenizerOutput
from tokkit.registry import register

Share = Annotated[float, Field(ge=0, le=1)]
Temperature = Annotated[float, Field(gt=0)]


@register("loss", "self_distill")
class SelfDistill(Loss):
    """The encoder learns from a moving average of itself, without labels or another model (DINO, https://arxiv.org/abs/2104.14294).

    The teacher, the average, sees the original; the student, the encoder, sees it with `masked` of its patches grey. Both end in a head of
    `prototypes` classes. The loss is the cross-entropy of the student's classes to the teacher's, which are centred and sharpened: of the
    mean over latents (DINO) plus of the single latents (iBOT, https://arxiv.org/abs/2111.07832), those of masked places where there is one
    latent a place. VTP (https://github.com/MiniMax-AI/VTP) trains tokenizers with losses of this kind; its code is not public, and crops of
    several sizes, which DINO has beside, are left out.

    It costs a pass of the encoder with gradients and one without, and the memory of a second encoder.
    """

    kept = ("teacher", "teacher_head", "centre")

    def __init__(
        self,
        *,
        weight: Weight = 0.1,
        masked: Share = 0.4,
        prototypes: Annotated[int, Field(ge=2)] = 4096,
        hidden: Annotated[int, Field(ge=1)] = 1024,
        momentum: Share = 0.996,
        student_temperature: Temperature = 0.1,
        teacher_temperature: Temperature = 0.04,
    ):
        """
        Args:
            weight: what the training loop multiplies the loss with.
            masked: the share of the patches that are masked; of each sample others.
            prototypes: classes of the head.
            hidden: width of the head.
            momentum: of the teacher; that of the centre is 0.9.
            student_temperature, teacher_temperature: of the classes.
        """
        super().__init__()
        self.weight, self.masked, self.momentum = weight, masked, momentum
        self.prototypes, self.hidden = prototypes, hidden
        self.temperatures = student_temperature, teacher_temperature
        self._student: tuple[nn.Module, ...] = ()  # in a tuple, so that it is no part of this module

    def attach(self, parts: TokenizerParts) -> None:
        self._student, self._autocast, self._stride = (parts.encoder,), parts.autocast, parts.stride
        self.head = Head(parts.encoder_dim, self.hidden, self.prototypes)
        self.teacher = copy.deepcopy(parts.encoder).requires_grad_(False)
        self.teacher_head = copy.deepcopy(self.head).requires_grad_(False)
        self.centre: Tensor
        self.register_buffer("centre", torch.zeros(2, self.prototypes))

    def of_output(self, target: Tensor, reconstruction: Tensor, output: TokenizerOutput) -> Tensor:
        """
        Raises:
            InputError: the batch is no picture, or smaller than a patch.
        """
        if target.ndim != 4:
            raise InputError(f"loss self_distill: expected pictures [B, C, H, W], got {list(target.shape)}")
        height, width = (size // self._stride * self._stride for size in target.shape[2:])
        whole = target[..., :height, :width]
        holes = self._draw_holes(whole)
        self._follow()
        with self._autocast():
            seen, grid = self._student[0](whole.masked_fill(self._spread(holes), 0))
            with torch.no_grad():
                known, _ = self.teacher(whole)
        seen, known = seen.float(), known.float()
        student = [self.head(seen.mean(1, keepdim=True)), self.head(seen)]
        with torch.no_grad():
            teacher = [self.teacher_head(known.mean(1, keepdim=True)), self.teacher_head(known)]
        judged = holes.flatten(1) if seen.shape[1] == math.prod(grid) else None
        losses = [
            distillation(mine, theirs, centre, *self.temperatures, judged=mask)
            for mine, theirs, centre, mask in zip(student, teacher, self.centre, (None, judged), strict=True)
        ]
        self._move_centre(teacher)
        return torch.stack(losses).sum()

    def _draw_holes(self, pictures: Tensor) -> Tensor:
        """[B, h, w] bool, true where a patch is masked; the same number in each sample, at least one."""
        batch, _, height, width = pictures.shape
        cells = (height // self._stride) * (width // self._stride)
        if not cells:
            raise InputError(f"loss self_distill: pictures of {height} x {width} are smaller than the stride {self._stride}")
        count = max(1, round(self.masked * cells))
        order = torch.rand(batch, cells, device=pictures.device).argsort(1).argsort(1)
        return (order < count).view(batch, height // self._stride, -1)

    def _spread(self, holes: Tensor) -> Tensor:
        """Of patches to pixels, [B, 1, H, W]."""
        return holes.repeat_interleave(self._stride, 1).repeat_interleave(self._stride, 2).unsqueeze(1)

    @torch.no_grad()
    def _follow(self) -> None:
        """The teacher moves towards the student."""
        for theirs, mine in ((self.teacher, self._student[0]), (self.teacher_head, self.head)):
            pairs: Any = zip(theirs.parameters(), mine.parameters(), strict=True)
            for average, new in pairs:
                average.lerp_(new.detach(), 1 - self.momentum)

    @torch.no_grad()
    def _move_centre(self, logits: list[Tensor]) -> None:
        """Towards the mean of the teacher's logits, over all processes: what keeps one class from taking everything."""
        means = torch.stack([part.flatten(0, 1).mean(0) for part in logits])
        if dist.is_initialized():
            dist.all_reduce(means)
            means /= dist.get_world_size()
        self.centre.lerp_(means, 0.1)


class Head(nn.Module):
    """[..., D] to classes: a small network, to the unit sphere, to the cosines with unit vectors (DINO's)."""

    def __init__(self, dim: int, hidden: int, prototypes: int, bottleneck: int = 256):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.GELU(), nn.Linear(hidden, bottleneck))
        self.prototypes = nn.Parameter(torch.randn(prototypes, bottleneck))

    def forward(self, values: Tensor) -> Tensor:
        return F.normalize(self.net(values), dim=-1) @ F.normalize(self.prototypes, dim=-1).T


def distillation(
    student: Tensor,
    teacher: Tensor,
    centre: Tensor,
    student_temperature: float,
    teacher_temperature: float,
    *,
    judged: Tensor | None = None,
) -> Tensor:
    """Mean cross-entropy of softmax((teacher - centre) / t) and softmax(student / t), logits [B, N, K]; of the `judged` [B, N] alone."""
    wanted = ((teacher - centre) / teacher_temperature).softmax(-1)
    each = -(wanted * (student / student_temperature).log_softmax(-1)).sum(-1)
    return each.mean() if judged is None else each[judged].mean()
