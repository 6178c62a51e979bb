"""Contrast of pictures and their captions: latents that know what a text would say."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tokkit.errors import InputError
from tokkit.losses.base import Loss, TokenizerParts, Weight
from tokkit.output import TokenizerOutput
from tokkit.registry import register, suggest

LARGEST_SCALE = math.log(100)


@register("loss", "contrastive")
class Contrastive(Loss):
    """The mean latent of a picture should tell its caption from the others of the batch (CLIP, https://arxiv.org/abs/2103.00020).

    Symmetric cross-entropy of the cosines between the latents' mean, mapped linearly, and the caption's embedding, times a learned scale.
    The text tower is open_clip's and stays as it is (LiT, https://arxiv.org/abs/2111.07991, the other way round). VTP
    (https://github.com/MiniMax-AI/VTP) has a loss of this kind; its code is not public.

    The data must have captions: `captions: true`. With several processes each contrasts its own part of the batch.
    """

    def __init__(self, *, weight: Weight = 0.1, text: str = "ViT-B-32", weights: str = "laion2b_s34b_b79k"):
        """
        Args:
            weight: what the training loop multiplies the loss with.
            text: a model of open_clip, whose text tower is taken.
            weights: a name of open_clip's (downloaded once), a file of them, or "random", for tests: it teaches nothing.

        Raises:
            InputError: open_clip or the weights are not there.
        """
        super().__init__()
        self.weight = weight
        self.teacher, self.read = load_text_tower(text, weights)
        self.scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def attach(self, parts: TokenizerParts) -> None:
        with torch.no_grad():
            size = self.teacher(self.read(["a"])).shape[-1]
        self.project = nn.Linear(parts.dim, size)

    def of_output(self, target: Tensor, reconstruction: Tensor, output: TokenizerOutput) -> Tensor:
        """
        Raises:
            InputError: the batch has no captions.
        """
        if output.captions is None:
            raise InputError("loss contrastive: the data has no captions; set data.captions: true")
        assert output.latents is not None
        with torch.no_grad():
            texts = self.teacher(self.read(output.captions).to(target.device)).float()
        return contrast(self.project(output.latents.float().mean(1)), texts, self.scale)


def contrast(pictures: Tensor, texts: Tensor, scale: Tensor) -> Tensor:
    """CLIP's loss of [B, E] and [B, E], partners in the same row; `scale` is a logarithm, at most that of 100."""
    logits = scale.clamp(max=LARGEST_SCALE).exp() * F.normalize(pictures, dim=-1) @ F.normalize(texts, dim=-1).T
    partners = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, partners) + F.cross_entropy(logits.T, partners)) / 2


class TextTower(nn.Module):
    """The text side of an open_clip model: ids [B, T] to embeddings [B, E]."""

    def __init__(self, model: Any):
        super().__init__()
        for name in ("visual", "visual_projection"):
            if hasattr(model, name):
                delattr(model, name)
        self.model = model

    def train(self, mode: bool = True) -> TextTower:
        """Only the flag changes: a teacher has dropout."""
        super().train(mode)
        self.model.eval()
        return self

    def forward(self, ids: Tensor) -> Tensor:
        found: Tensor = self.model.encode_text(ids)
        return found


def load_text_tower(name: str, weights: str) -> tuple[TextTower, Any]:
    """A text tower of open_clip and what turns a list of texts into its ids; raises what `load_clip` raises."""
    model, read = load_clip(name, weights)
    return TextTower(model), read


def load_clip(name: str, weights: str) -> tuple[Any, Any]:
    """A model of open_clip, frozen and in eval mode, and what turns a list of texts into its ids.

    Args:
        name: open_clip's.
        weights: a name of open_clip's (downloaded once), a file of them, or "random", for tests.

    Raises:
        InputError: open_clip, the model or its weights are not there; the message says what to do.
    """
    if importlib.util.find_spec("open_clip") is None:
        raise InputError("CLIP: open_clip is not installed (pip install 'tokkit[clip]')")
    import open_clip

    if name not in open_clip.list_models():
        raise InputError(f"CLIP: open_clip has no model {name!r}{suggest(name, open_clip.list_models())}")
    random = weights == "random"
    known = open_clip.list_pretrained_tags_by_model(name)
    if not random and weights not in known and not Path(weights).expanduser().is_file():
        raise InputError(f"CLIP: {weights!r} is no file and no weights of {name}; open_clip has: {', '.join(known) or 'none'}")
    try:
        model = open_clip.create_model(name, pretrained=None if random else weights, load_weights=not random)
    except (OSError, RuntimeError, ValueError, KeyError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise InputError(
            f"CLIP: the weights {weights!r} of {name} are not there or do not fit ({reason}); "
            "download them where there is a network and give the file as weights="
        ) from error
    return model.requires_grad_(False).eval(), open_clip.get_tokenizer(name)
