"""The audio recipes train: forwards, backwards, against discriminators, resumed, and through files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from tokkit.bulk.decode import decode_files
from tokkit.bulk.encode import EncodeOptions, encode_files
from tokkit.data.tones import Tones
from tokkit.errors import InputError
from tokkit.modalities.audio import Audio
from tokkit.modalities.image import Image
from tokkit.recipe import Recipe
from tokkit.tokenizer import Tokenizer
from tokkit.train import train

ROOT = Path(__file__).parents[2]
TINY = [
    "data={name: tones, size: 4800, count: 6, seconds: 0.3}",
    "train.steps=2",
    "train.batch_size=2",
    "train.workers=0",
    "train.log_every=1",
    "train.compile=false",
    "evaluate={every: 2, limit: 2, metrics: [si_sdr]}",
]
NETWORKS = {
    "dac-24k": ["encoder.width=2", "decoder.width=32", "decoder.dim=32", "quantizer.dim=32"],
    "dac-44k": ["encoder.width=2", "decoder.width=32", "decoder.dim=32", "quantizer.dim=32"],
    "mimi-like-24k-plain": [
        f"{part}.{option}" for part in ("encoder", "decoder") for option in ("width=2", "dim=16", "heads=2", "depth=1")
    ],
    "snac-like": ["encoder.width=2", "decoder.width=32", "decoder.dim=32", "quantizer.dim=32", "quantizer.codebook_size=16"],
    "wavtokenizer-like": ["encoder.width=2", "decoder.width=16", "decoder.hidden=16", "decoder.depth=1", "quantizer.codebook_size=16"],
}
JUDGES = {
    "dac-24k": "[{name: mpd, width: 1, periods: [2]}, {name: mrd, width: 1, windows: [256]}]",
    "dac-44k": "[{name: mpd, width: 1, periods: [2]}]",
    "mimi-like-24k-plain": "[{name: msstft, width: 1, windows: [256]}]",
    "snac-like": "[{name: mpd, width: 1, periods: [2]}]",
    "wavtokenizer-like": "[{name: mrd, width: 1, windows: [256]}]",
}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_recipe_trains_with_its_discriminators(name: str, tmp_path: Path) -> None:
    recipe = ROOT / "recipes" / "audio" / f"{name}.yaml"
    overrides = [*TINY, *NETWORKS[name], f"adversarial.discriminators={JUDGES[name]}", "train.precision=fp32"]
    train(Recipe.load(recipe, overrides), tmp_path / "run", cpu=True)
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert {"mel", "generator", "feature_matching", "discriminator", "quantizer"} <= lines[0].keys()
    tokenizer = Tokenizer.from_pretrained(tmp_path / "run")
    tokens = tokenizer.encode(torch.zeros(1, 5000))
    frames = -(-5000 // tokenizer.encoder.stride)
    assert tokens.codes.shape[1] == tokenizer.quantizer.num_codes(frames, (frames,)) and tokenizer.decode(tokens).shape == (1, 1, 5000)
    assert tokens.sample_rate == tokenizer.modality.sample_rate


def test_a_resumed_run_is_the_whole_run(tmp_path: Path) -> None:
    recipe = ROOT / "recipes" / "audio" / "smoke.yaml"
    short = [
        "data.count=8",
        "train.batch_size=2",
        "train.checkpoint_every=2",
        "evaluate.limit=2",
        "train.schedule=constant",
        "train.warmup=0",
    ]
    for out, steps in ((tmp_path / "whole", 4), (tmp_path / "parts", 2), (tmp_path / "parts", 4)):
        train(Recipe.load(recipe, [*short, f"train.steps={steps}"]), out, cpu=True, resume=True)
    states = [Tokenizer.from_pretrained(tmp_path / out).state_dict() for out in ("whole", "parts")]
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def test_a_folder_of_mixed_lengths_with_a_bad_file(tmp_path: Path) -> None:
    train(
        Recipe.load(ROOT / "recipes" / "audio" / "smoke.yaml", ["data.count=8", "train.steps=1", "evaluate.limit=2"]),
        tmp_path / "run",
        cpu=True,
    )
    tokenizer = Tokenizer.from_pretrained(tmp_path / "run")
    source = Tones(seconds=1.0).open(tokenizer.modality)
    lengths = {"a.wav": 16000, "b.wav": 100, "c.flac": 9999, "sub/d.wav": 1}
    for index, (name, length) in enumerate(lengths.items()):
        tokenizer.modality.write(tmp_path / "in" / name, source.sample(index).values[:, :length])
    (tmp_path / "in" / "bad.wav").write_bytes(b"RIFF nonsense")
    for shards in (False, True):
        out = tmp_path / f"tokens-{shards}"
        summary = encode_files(tokenizer, [tmp_path / "in"], out, EncodeOptions(shards=shards, levels=2))
        assert summary.done == 4 and [failure.name for failure in summary.failures] == ["bad.wav"]
        frames = sum(-(-length // 320) for length in lengths.values())
        assert summary.payload_bits == frames * 2 * 6, "two levels of 64 codes, to the bit"
        assert encode_files(tokenizer, [tmp_path / "in"], out, EncodeOptions(shards=shards, levels=2, resume=True)).skipped == 4
        done, failures = decode_files(tokenizer, [out], tmp_path / f"back-{shards}")
        assert done == 4 and not failures
        written = sorted((tmp_path / f"back-{shards}").rglob("*.wav"))
        assert {tokenizer.modality.read(path).values.shape[1] for path in written} == set(lengths.values())


def test_generated_sound_is_the_same_every_time_and_differs_by_seed() -> None:
    modality = Audio(sample_rate=16000)
    a, again, other = (Tones(seed=seed, seconds=0.4).open(modality) for seed in (0, 0, 1))
    assert torch.equal(a.sample(3).values, again.sample(3).values)
    assert not torch.equal(a.sample(3).values, other.sample(3).values)
    assert not torch.equal(a.sample(3).values, a.sample(4).values)
    assert len(a) == 64 and len(Tones().open(modality, split="val")) == 16
    assert all(0.05 < a.sample(index).values.abs().max() <= 1 for index in range(4))
    with pytest.raises(InputError, match="makes sound"):
        Tones().open(Image())
    with pytest.raises(InputError, match="positive"):
        Tones(seconds=0.0)
