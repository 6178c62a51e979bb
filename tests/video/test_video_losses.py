"""Losses and discriminators of pictures, with video."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import tokkit
from tests.video.moving import moving
from tokkit.errors import InputError
from tokkit.recipe import Recipe
from tokkit.train import train

ROOT = Path(__file__).parents[2]


def test_motion_counts_change_alone() -> None:
    loss = tokkit.build("loss", "motion")
    target = moving(4, 16, 16)[None]
    assert loss(target, target + 0.3) < 1e-6
    pulse = target.clone()
    pulse[:, :, 1::2] += 0.3
    assert loss(target, pulse) == pytest.approx(0.3)
    assert loss(target[:, :, :1], pulse[:, :, 1:2]) == 0
    with pytest.raises(InputError, match="expected video"):
        loss(target[0], target[0])


def test_patches_of_frames_and_of_time() -> None:
    videos = torch.stack([moving(5, 32, 40), moving(5, 32, 40, seed=1)])
    torch.manual_seed(0)
    frames = tokkit.build("discriminator", "patch", width=8, layers=2, norm="none")
    logits = frames(videos)[0][-1]
    assert logits.shape[:2] == (10, 1)
    torch.testing.assert_close(logits[7:8], frames(videos[1, :, 2][None])[0][-1])
    time = tokkit.build("discriminator", "patch", width=8, layers=2, rank=3)
    assert time(videos)[0][-1].shape[:2] == (2, 1)
    assert not torch.allclose(time(videos)[0][-1], time(videos[:, :, [3, 1, 4, 0, 2]])[0][-1], atol=1e-3), "it sees the order of frames"
    assert time(videos[:, :, :1])[0][-1].isfinite().all()
    with pytest.raises(InputError, match="rank=3 needs 3 axes"):
        time(videos[:, :, 0])


def test_adversarial_training_of_video(tmp_path: Path) -> None:
    text = """\
modality: {name: video, clip: 5}
data: {name: moving, size: 24, count: 4, frames: 5, cache: true}
encoder: {name: causal3d, width: 8, multipliers: [1, 2], time: [4], blocks: 1, dim: 8}
quantizer: {name: multiscale, quantizer: {name: fsq, levels: [8, 5, 5]}, scales: [3, 6, 12], rank: 3}
decoder: {name: causal3d, width: 8, multipliers: [1, 2], time: [4], blocks: 1, dim: 8}
losses: [{name: l1}, {name: motion}]
adversarial: {discriminators: [{name: patch, width: 8, layers: 2, rank: 3}], weight: 0.1}
train: {steps: 2, batch_size: 2, lr: 1e-3, log_every: 1, sample_every: 2, checkpoint_every: 2}
evaluate: {every: 2, limit: 2, metrics: [psnr_clip]}
"""
    (tmp_path / "r.yaml").write_text(text)
    out = train(Recipe.load(tmp_path / "r.yaml"), tmp_path / "run", cpu=True)
    tok = tokkit.Tokenizer.from_pretrained(out)
    values = moving(5, 24, 24)
    tokens = tok.encode(values)
    lengths = tok.quantizer.prefix_lengths(2 * 12 * 12, tokens.grid)
    assert tokens.grid == (2, 12, 12) and tokens.codes.shape[1] == lengths[-1]
    assert lengths[0] == 1 * 3 * 3, "the coarsest scale: one latent frame for the whole clip"
    assert tok.decode(tok.encode(values, num_tokens=lengths[0])).shape == (1, *values.shape)
    sheet = tok.modality.read(out / "samples" / "step-00000002.mp4").values
    assert sheet.shape == (3, 5, 2 * 24, 24), "originals above reconstructions"
