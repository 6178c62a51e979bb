"""Search over ordered tokens while generating: best of N, beams, lookahead (search-over-tokens, https://github.com/EPFL-VILAB/search-over-tokens).

Works because every prefix decodes: a verifier looks at what the first k tokens show, and only the promising prefixes go on. Knows no
tokenizer and no prior, only two functions:

    propose(prefixes [B, k, Q], length) -> [B, length, Q]      continues every prefix, k >= 0, by chance of its own
    verify(codes [B, k, Q]) -> [B]                             higher is better
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from tokkit.errors import InputError
from tokkit.tokens import Tokens

Propose = Callable[[Tensor, int], Tensor]
Verify = Callable[[Tensor], Tensor]


@dataclasses.dataclass(frozen=True)
class Found:
    """What a search found.

    Attributes:
        codes: [M, N, Q] int64, the best first.
        scores: [M], of the verifier, falling.
        verified: how many candidates the verifier saw: what the search cost.
    """

    codes: Tensor
    scores: Tensor
    verified: int


def geometric(length: int) -> tuple[int, ...]:
    """The lengths 1, 2, 4, ... up to `length`: the steps for tokens whose first ones say most."""
    return (*(2**power for power in range((length - 1).bit_length())), length)


def linear(length: int, step: int) -> tuple[int, ...]:
    """The lengths step, 2 step, ... up to `length`: the steps for tokens in the order of a grid."""
    return (*range(step, length, step), length)


def best_of(propose: Propose, verify: Verify, *, start: Tensor, length: int, count: int = 50) -> Found:
    """The best of `count` whole samples that continue `start` [1, k, Q], k >= 0."""
    return beam(propose, verify, start=start, steps=(length,), width=count, candidates=count)


def beam(
    propose: Propose,
    verify: Verify,
    *,
    start: Tensor,
    steps: Sequence[int],
    width: int = 5,
    candidates: int = 10,
    ahead: int = 0,
) -> Found:
    """Keep the `width` best prefixes from step to step.

    Args:
        propose: continues prefixes.
        verify: scores what it is shown; it sees prefixes of several lengths, but of one length a step.
        start: [1, k, Q] int64, what is given already; k = 0 for nothing.
        steps: lengths, rising, the last one that of the result: `geometric` or `linear`.
        width: prefixes that go on. Equal ones count once, so there may be fewer.
        candidates: continuations of every prefix, at every step.
        ahead: lookahead. A candidate is judged with this many more tokens of one continuation of it, which are then forgotten.

    Raises:
        InputError: steps that do not rise from the length of `start`, or a number below 1.
    """
    lengths = (start.shape[1], *steps)
    if not steps or any(below >= above for below, above in itertools.pairwise(lengths)):
        raise InputError(f"search: steps must rise from the {start.shape[1]} tokens given, got {tuple(steps)}")
    if len(start) != 1:
        raise InputError(f"search: one start is continued, got {len(start)}")
    if min(width, candidates) < 1 or ahead < 0:
        raise InputError(f"search: width={width} and candidates={candidates} must be at least 1, ahead={ahead} at least 0")
    beams = start
    verified = 0
    for length in steps:
        found = torch.unique(propose(beams.repeat_interleave(candidates, 0), length), dim=0)
        seen = min(length + ahead, steps[-1])
        scores = verify(propose(found, seen) if seen > length else found)
        verified += len(found)
        order = scores.argsort(descending=True, stable=True)[:width]
        beams, scores = found[order], scores[order]
    return Found(beams, scores, verified)


def lookahead(
    propose: Propose, verify: Verify, *, start: Tensor, steps: Sequence[int], width: int = 5, candidates: int = 10, ahead: int = 8
) -> Found:
    """`beam` that judges a prefix by where it leads."""
    return beam(propose, verify, start=start, steps=steps, width=width, candidates=candidates, ahead=ahead)


def uniform(codebook_sizes: Sequence[int], generator: torch.Generator) -> Propose:
    """A proposal without a prior: every code as likely as any other."""

    def propose(prefixes: Tensor, length: int) -> Tensor:
        batch, given, _ = prefixes.shape
        drawn = [torch.randint(size, (batch, length - given), generator=generator) for size in codebook_sizes]
        return torch.cat([prefixes, torch.stack(drawn, -1).to(prefixes.device)], 1)

    return propose


def pixel_verifier(decode: Callable[[Tokens], Tensor], like: Tokens, target: Tensor) -> Verify:
    """Judges by the mean squared error, negative, to a picture.

    Args:
        decode: of the tokenizer.
        like: one sample, for everything but the codes.
        target: [C, *spatial] in the public range.
    """

    def verify(codes: Tensor) -> Tensor:
        decoded = decode(_with_codes(like, codes))
        if decoded.shape[1:] != target.shape:
            raise InputError(
                f"search: the codes decode to {list(decoded.shape[1:])}, and the target is {list(target.shape)}; make them alike"
            )
        return -(decoded - target.to(decoded)).square().flatten(1).mean(1)

    return verify


def feature_verifier(decode: Callable[[Tokens], Tensor], like: Tokens, features: Callable[[Tensor], Tensor], wanted: Tensor) -> Verify:
    """Judges by the cosine of features of the decoded picture to wanted ones: those of another picture, or of a text with CLIP.

    Args:
        decode, like: as in `pixel_verifier`.
        features: [B, C, *spatial] in the public range to [B, D]; of CLIP: resize, normalize, `encode_image`.
        wanted: [D]; of CLIP: `encode_text`.
    """

    def verify(codes: Tensor) -> Tensor:
        found = features(decode(_with_codes(like, codes)))
        return F.cosine_similarity(found, wanted.to(found).unsqueeze(0), dim=-1)

    return verify


def clip_verifier(
    decode: Callable[[Tokens], Tensor], like: Tokens, text: str, *, model: str = "ViT-B-32", weights: str = "laion2b_s34b_b79k"
) -> Verify:
    """Judges by CLIP's cosine of the decoded picture and a text (https://arxiv.org/abs/2103.00020).

    Args:
        decode, like: as in `pixel_verifier`.
        text: what the picture should show.
        model, weights: as of `losses.contrastive.load_clip`. Pictures are scaled to the model's square (bicubic, antialiased).

    Raises:
        InputError: open_clip, the model or its weights are not there.
    """
    from tokkit.losses.contrastive import load_clip

    clip, read = load_clip(model, weights)
    visual = clip.visual
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (visual.image_mean, visual.image_std))
    with torch.inference_mode():
        wanted = clip.encode_text(read([text]))[0]

    @torch.inference_mode()
    def features(pictures: Tensor) -> Tensor:
        clip.to(pictures.device)
        size = visual.image_size if isinstance(visual.image_size, tuple) else (visual.image_size,) * 2
        scaled = F.interpolate(pictures.float().expand(-1, 3, -1, -1), size, mode="bicubic", antialias=True).clamp(0, 1)
        found: Tensor = clip.encode_image((scaled - mean.to(scaled)) / std.to(scaled))
        return found

    return feature_verifier(decode, like, features, wanted)


def _with_codes(like: Tokens, codes: Tensor) -> Tokens:
    count = len(codes)
    return dataclasses.replace(like, codes=codes, sizes=like.sizes * count, names=("",) * count, extras=like.extras * count)
