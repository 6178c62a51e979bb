"""The order of batches: a pure function of the seed and the step."""

from __future__ import annotations

from collections import Counter
from itertools import islice
from pathlib import Path

import pytest
import torch

import tokkit
from tokkit.data.loader import batches, draws
from tokkit.errors import InputError

IMAGE = tokkit.build("modality", "image")
SOURCE = tokkit.build("data", "synthetic", count=10, size=8, flip=True).open(IMAGE)


def test_an_epoch_takes_every_sample_at_most_once() -> None:
    for epoch in range(5):
        taken = [index for step in range(epoch * 3, epoch * 3 + 3) for index, _ in draws(10, 3, 0, step)]
        assert len(set(taken)) == 9
    assert len({tuple(index for index, _ in draws(10, 10, 0, step)) for step in range(20)}) == 20, "every epoch is shuffled anew"
    assert sorted(index for index, _ in draws(10, 10, 0, 7)) == list(range(10))


def test_fewer_samples_than_a_batch() -> None:
    counts = Counter(index for step in range(3) for index, _ in draws(4, 10, 0, step))
    assert sum(counts.values()) == 30 and max(counts.values()) - min(counts.values()) == 1
    assert len(draws(1, 5, 0, 0)) == 5 and len({seed for _, seed in draws(1, 5, 0, 0)}) == 5, "each time another example"


def test_seeds_differ_everywhere() -> None:
    seeds = [seed for run in (0, 1) for step in range(50) for _, seed in draws(100, 8, run, step)]
    assert len(set(seeds)) == len(seeds) and all(0 <= seed < 2**32 for seed in seeds)
    assert draws(100, 8, 0, 3) == draws(100, 8, 0, 3) != draws(100, 8, 1, 3)


def test_the_order_is_the_same_for_good() -> None:
    """A checkpoint resumed with a later version must go on with the same data."""
    assert draws(10, 3, 5, 4) == [(9, 4045419727), (0, 377464921), (7, 1218667499)]


@pytest.mark.parametrize("workers", [0, 2])
def test_resuming_gives_the_same_batches(workers: int) -> None:
    whole = list(batches(SOURCE, batch_size=4, seed=3, stop=8))
    assert [batch.shape for batch in whole] == [(4, 3, 8, 8)] * 8
    assert whole[0].dtype == torch.float32
    resumed = list(batches(SOURCE, batch_size=4, seed=3, start=5, stop=8, workers=workers))
    assert len(resumed) == 3 and all(torch.equal(a, b) for a, b in zip(whole[5:], resumed, strict=True))
    assert not torch.equal(whole[0], whole[5])


def test_ranks_share_a_batch() -> None:
    alone = list(batches(SOURCE, batch_size=6, stop=4))
    parts = [list(batches(SOURCE, batch_size=2, stop=4, rank=rank, world_size=3)) for rank in range(3)]
    for step, batch in enumerate(alone):
        assert torch.equal(torch.cat([part[step] for part in parts]), batch)


def test_the_global_generator_is_left_alone() -> None:
    before = torch.get_rng_state()
    list(batches(SOURCE, batch_size=2, stop=2))
    SOURCE[0], SOURCE.draw(0, 1)
    assert torch.equal(before, torch.get_rng_state())


def test_cached_sources_and_endless_streams() -> None:
    cached = tokkit.build("data", "synthetic", count=10, size=8, flip=True, cache=True).open(IMAGE)
    stream = batches(cached, batch_size=4, workers=1)
    for expected, batch in zip(batches(SOURCE, batch_size=4), islice(stream, 6), strict=False):
        assert torch.equal(expected, batch)


def test_refuses() -> None:
    with pytest.raises(InputError, match="not open"):
        batches(tokkit.build("data", "synthetic"), batch_size=4)
    for options in ({"batch_size": 0}, {"start": -1}, {"rank": 1}, {"workers": -1}):
        with pytest.raises(InputError, match="batches: need"):
            batches(SOURCE, **{"batch_size": 4, **options})
    assert list(batches(SOURCE, batch_size=4, start=5, stop=5)) == []


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_says_the_same_from_a_worker(tmp_path: Path, workers: int) -> None:
    (tmp_path / "bad.png").write_bytes(b"junk")
    source = tokkit.build("data", "folder", path=str(tmp_path)).open(IMAGE)
    with pytest.raises(InputError, match=r"^none of 1 samples can be read; the first: .*bad.png"):
        next(batches(source, batch_size=1, workers=workers))
