"""Relations between pictures, carried over to how their codes are used."""

from __future__ import annotations

from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from tokkit.errors import InputError
from tokkit.losses.align import cosines
from tokkit.losses.base import Loss, TokenizerParts, Weight
from tokkit.losses.vision import VisionTeacher
from tokkit.output import TokenizerOutput
from tokkit.registry import register

Temperature = Annotated[float, Field(gt=0)]
MOST_CODES = 1 << 16


@register("loss", "relation")
class Relation(Loss):
    """Pictures that mean the same should use the same codes: the idea of GloTok's codebook-wise histogram relation loss.

    Every picture has a histogram over the codebook, soft: the mean over its latents of softmax(cos(latent, code) / `sharpness`). Two
    histograms are as similar as sum sqrt(h h') says, two pictures as the cosine of a frozen timm model's pooled features. The loss is the
    mean over pictures of KL(softmax(s / `temperature`) || softmax(h / `temperature`)), over the other pictures of the batch, in nats.

    GloTok's formula is not public, and it has its relations from the whole data set before training; this form is tokkit's. Codes take no
    gradient here, latents do. The vectors compared take batch x N x K numbers.
    """

    def __init__(
        self,
        *,
        weight: Weight = 0.1,
        teacher: str = "vit_base_patch14_dinov2",
        weights: str = "pretrained",
        size: int | None = 224,
        sharpness: Temperature = 0.07,
        temperature: Temperature = 0.1,
    ):
        """
        Args:
            weight: what the training loop multiplies the loss with.
            teacher, weights, size: as of the loss `semantic`.
            sharpness: of the assignment of latents to codes; towards 0 the histogram becomes that of the nearest codes.
            temperature: of both relations.

        Raises:
            InputError: there is no such model, or its weights cannot be found or downloaded.
        """
        super().__init__()
        self.weight, self.sharpness, self.temperature = weight, sharpness, temperature
        self.teacher = VisionTeacher(teacher, weights, size)

    def attach(self, parts: TokenizerParts) -> None:
        sizes = parts.codebook_sizes
        if len(sizes) != 1 or sizes[0] > MOST_CODES:
            raise InputError(
                f"loss relation: needs one codebook of at most {MOST_CODES} codes, as vq and fsq have; these are {list(sizes)}"
            )
        self._size, self._lookup = sizes[0], parts.lookup

    def of_output(self, target: Tensor, reconstruction: Tensor, output: TokenizerOutput) -> Tensor:
        """
        Raises:
            InputError: fewer than three pictures have no relations to compare.
        """
        if len(target) < 3:
            raise InputError(f"loss relation: compares the pictures of a batch, at least 3, and got {len(target)}; raise train.batch_size")
        assert output.latents is not None
        with torch.no_grad():
            codes = self._lookup(torch.arange(self._size, device=target.device).view(1, -1, 1))[0].float()
            wanted = cosines(self.teacher(target).float().mean(1))
        histograms = soft_histograms(output.latents.float(), codes, self.sharpness)
        roots = histograms.clamp(min=1e-12).sqrt()
        return relation_divergence(wanted, roots @ roots.T, self.temperature)


def soft_histograms(latents: Tensor, codes: Tensor, sharpness: float) -> Tensor:
    """[B, N, D] and K codes [K, D] to [B, K], each row adding up to 1."""
    similar = F.normalize(latents, dim=-1) @ F.normalize(codes, dim=-1).T
    return (similar / sharpness).softmax(-1).mean(1)


def relation_divergence(wanted: Tensor, found: Tensor, temperature: float) -> Tensor:
    """Mean over rows of KL(softmax(wanted / t) || softmax(found / t)) of similarities [B, B], the diagonal left out."""
    size = len(wanted)
    others = ~torch.eye(size, dtype=torch.bool, device=wanted.device)
    p, q = (similar[others].view(size, size - 1) / temperature for similar in (wanted, found))
    return F.kl_div(q.log_softmax(-1), p.log_softmax(-1), log_target=True, reduction="batchmean")
