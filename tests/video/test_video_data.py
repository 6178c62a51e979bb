"""Where training examples of video come from."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import tokkit
from tests.video.moving import moving
from tokkit.data.base import Source
from tokkit.errors import InputError
from tokkit.modalities.video import Video

VIDEO: Video = tokkit.build("modality", "video", clip=5)


def source(name: str, split: str = "train", **options: object) -> Source:
    return tokkit.build("data", name, **options).open(VIDEO, split=split)


@pytest.mark.parametrize("scene", ["drawings", "photographs"])
def test_generated_video_moves_and_is_the_same_every_time(scene: str) -> None:
    train, val = (source("moving", split, scene=scene, count=4, frames=9, size=16) for split in ("train", "val"))
    assert (len(train), len(val)) == (4, 1)
    sample = train.sample(1)
    assert sample.values.shape == (3, 9, 20, 20) and sample.extras == (25.0,)
    assert torch.equal(sample.values, source("moving", scene=scene, count=4, frames=9, size=16).sample(1).values)
    steps = sample.values.diff(dim=1).abs().mean((0, 2, 3))
    assert steps.min() > 1e-3 and steps.max() < 0.2, "it moves, without jumps"
    assert train.draw(0, seed=3).shape == (3, 5, 16, 16) and train[0].shape == (3, 5, 16, 16)
    assert not torch.equal(train.sample(0).values, val.sample(0).values)
    still = source("moving", scene=scene, count=4, frames=3, size=16, speed=0).sample(0).values
    assert torch.equal(still[:, 0], still[:, 2])


def test_folders_and_shards_of_videos(tmp_path: Path) -> None:
    import tarfile

    for name in ("a", "b"):
        VIDEO.write(tmp_path / "in" / f"{name}.mkv", moving(7, 20, 30, seed=ord(name)))
    VIDEO.write(tmp_path / "in" / "c", moving(7, 20, 30))
    with tarfile.open(tmp_path / "all.tar", "w") as tar:
        for name in ("a", "b"):
            tar.add(tmp_path / "in" / f"{name}.mkv", f"{name}.mkv")
    folder = source("folder", path=str(tmp_path / "in"), size=8, resize=True, flip=True)
    shards = source("shards", path=str(tmp_path / "all.tar"), size=8, cache=True)
    assert [folder.sample(index).name for index in range(3)] == ["a", "b", "c"] and len(shards) == 2
    assert folder.draw(2, 1).shape == shards.draw(1, 1).shape == (3, 5, 8, 8)


def test_clips_of_long_videos(tmp_path: Path) -> None:
    values = moving(23, 20, 30)
    VIDEO.write(tmp_path / "a.mkv", values)
    VIDEO.write(tmp_path / "short.mkv", values[:, :2])
    (tmp_path / "bad.mkv").write_bytes(b"nothing")
    clips = source("clips", path=str(tmp_path), size=16)
    assert [clips.sample(index).name for index in range(len(clips))] == ["a@0", "a@5", "a@10", "a@15", "short@0"]
    assert torch.equal(clips.sample(1).values, values[:, 5:14]) and clips.sample(0).extras == (25.0,)
    assert clips[4].shape == (3, 5, 16, 16), "a short one holds its last frame"
    starts = set()
    for seed in range(25):
        drawn = clips.draw(0, seed)
        places = values.unfold(1, 5, 1).unfold(2, 16, 1).unfold(3, 16, 1)
        ((time, _, _),) = ((places == drawn[:, None, None, None]).flatten(4).all(4).all(0)).nonzero().tolist()
        starts.add(time)
    assert starts == {0, 1, 2, 3, 4}
    with pytest.raises(InputError, match="cuts video"):
        tokkit.build("data", "clips", path=str(tmp_path)).open(tokkit.build("modality", "image"))
