"""Contrast of latents and captions: the formula by hand, a tiny text tower with random weights, and clear errors."""

from __future__ import annotations

import dataclasses
import json
import math
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import tokkit
from tests.small import tokenizer
from tokkit.errors import InputError
from tokkit.losses.base import TokenizerParts
from tokkit.losses.contrastive import Contrastive, contrast
from tokkit.output import TokenizerOutput
from tokkit.search import beam, clip_verifier, uniform

open_clip = pytest.importorskip("open_clip")
TINY: dict[str, Any] = {
    "embed_dim": 12,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 16, "head_width": 8, "patch_size": 16},
    "text_cfg": {"context_length": 8, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}


@pytest.fixture
def tiny(tmp_path: Path) -> str:
    (tmp_path / "tokkit-tiny.json").write_text(json.dumps(TINY))
    open_clip.add_model_config(tmp_path)
    return "tokkit-tiny"


def output(latents: torch.Tensor, captions: list[str] | None) -> TokenizerOutput:
    nothing = torch.zeros(())
    return TokenizerOutput(nothing, nothing, nothing.long(), nothing, latents=latents, captions=captions)


def attached(name: str) -> Contrastive:
    torch.manual_seed(0)
    loss = Contrastive(text=name, weights="random")
    quantizer = tokkit.build("quantizer", "fsq")
    loss.attach(TokenizerParts(nn.Identity(), 6, 4, 6, quantizer.codebook_sizes, quantizer.lookup, nullcontext))
    return loss


def test_contrast_by_hand() -> None:
    """Cosines 1, 0 in the first row and 0.6, 0.8 in the second, times 2."""
    pictures, texts = torch.tensor([[3.0, 0.0], [3.0, 4.0]]), torch.tensor([[1.0, 0.0], [0.0, 7.0]])
    rows = [math.log(1 + math.exp(-2)), math.log(1 + math.exp(2 * (0.6 - 0.8)))]
    columns = [math.log(1 + math.exp(2 * (0.6 - 1))), math.log(1 + math.exp(-1.6))]
    expected = (sum(rows) / 2 + sum(columns) / 2) / 2
    assert contrast(pictures, texts, torch.tensor(math.log(2))).item() == pytest.approx(expected, abs=1e-6)
    assert contrast(texts, texts, torch.tensor(20.0)).item() == pytest.approx(0, abs=1e-6), "the scale stops at 100"


def test_latents_learn_their_captions(tiny: str) -> None:
    loss = attached(tiny)
    assert not any(parameter.requires_grad for parameter in loss.teacher.parameters()) and not hasattr(loss.teacher.model, "visual")
    latents = torch.randn(3, 5, 6, requires_grad=True)
    captions = ["a red bus", "two cats", "the sea at night"]
    optimizer = torch.optim.Adam([latents, *(p for p in loss.parameters() if p.requires_grad)], lr=0.05)
    values = []
    for _ in range(40):
        value = loss.of_output(torch.zeros(3, 3, 8, 8), torch.zeros(3, 3, 8, 8), output(latents, captions))
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        values.append(value.item())
    assert values[0] > 0.5 and values[-1] < 0.2
    swapped = loss.of_output(torch.zeros(3, 3, 8, 8), torch.zeros(3, 3, 8, 8), output(latents, captions[::-1]))
    assert swapped.item() > 1


def test_what_is_missing_is_said(tiny: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"no captions; set data\.captions: true"):
        attached(tiny).of_output(torch.zeros(1), torch.zeros(1), output(torch.zeros(1, 5, 6), None))
    with pytest.raises(InputError, match="no model 'ViT-B-3', did you mean"):
        Contrastive(text="ViT-B-3", weights="random")
    with pytest.raises(InputError, match=r"'mine\.pt' is no file and no weights of tokkit-tiny; open_clip has: none"):
        Contrastive(text=tiny, weights="mine.pt")

    def offline(*args: Any, **options: Any) -> None:
        raise RuntimeError("no network")

    monkeypatch.setattr(open_clip, "create_model", offline)
    with pytest.raises(InputError, match=r"no network.*give the file as weights="):
        Contrastive()


def test_weights_from_a_file(tiny: str, tmp_path: Path) -> None:
    model = open_clip.create_model(tiny, load_weights=False)
    torch.save(model.state_dict(), tmp_path / "tiny.pt")
    loss = Contrastive(text=tiny, weights=str(tmp_path / "tiny.pt"))
    assert torch.equal(loss.teacher.model.token_embedding.weight, model.token_embedding.weight)


def test_search_with_clip_judges_by_the_text(tiny: str) -> None:
    """The scores are the cosines that open_clip's own preprocessing gives, and a search finds better ones."""
    model = tokenizer()
    tokens = model.encode(torch.rand(1, 3, 32, 32))
    torch.manual_seed(0)
    verify = clip_verifier(model.decode, tokens, "a red bus", model=tiny, weights="random")
    torch.manual_seed(0)
    clip = open_clip.create_model(tiny, load_weights=False).eval()
    codes = torch.randint(200, (3, 256, 1), generator=torch.Generator().manual_seed(0))
    decoded = torch.cat([model.decode(dataclasses.replace(tokens, codes=each[None])) for each in codes])
    mean, std = torch.tensor(clip.visual.image_mean).view(3, 1, 1), torch.tensor(clip.visual.image_std).view(3, 1, 1)
    with torch.no_grad():
        pictures = clip.encode_image((decoded - mean) / std)
        text = clip.encode_text(open_clip.get_tokenizer(tiny)(["a red bus"]))
    torch.testing.assert_close(verify(codes), torch.cosine_similarity(pictures, text), atol=1e-5, rtol=1e-4)
    found = beam(uniform((200,), torch.Generator().manual_seed(0)), verify, start=tokens.codes[:, :0], steps=(256,), width=2, candidates=8)
    assert found.scores[0] > found.scores[1] and found.verified == 8
