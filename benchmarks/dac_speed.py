"""`recipes/audio/dac-24k.yaml` against descript-audio-codec's own code, in one process, by turns: a training step, and encoding 200 files.

    python benchmarks/dac_speed.py --peer .peers --out benchmarks/results/dac-speed.json --sounds sounds.tar

`--peer` is a folder with checkouts of descriptinc/descript-audio-codec as `dac` and descriptinc/audiotools as `audiotools`, and in `site`
what these import: `pip install --no-deps --target .peers/site julius flatten-dict ffmpy argbind randomname markdown2 importlib-resources
docstring-parser fire termcolor six pathlib2 pyloudnorm`. tensorboard, and librosa's mel filters, are stood in for where they are missing.

Training: both sides are their own trainers' step with the same networks (encoder width 64, decoder 1536, strides 2 4 5 8, 8 codebooks of
1024 x 8), crops, losses and discriminators. The peer runs as its trainer does, in fp32 (on a GPU with TF32 convolutions, PyTorch's
default) with two losses that it only logs; also under autocast (bf16 here, fp16 in its `amp`), and without those two losses ("lean").
tokkit's step is that of `tokkit train`, with its weight average, which the peer has not: in bf16 with compiled networks as the recipe
has it, and "eager", without the compiler.

Encoding: the peer's is the loop of `dac encode` (a file at a time, loudness normalised, windows of 5 s, a .dac file each), without loading
the model. tokkit's is `tokkit encode` to a token file each, with the same loudness normalisation.

`--device cpu --tiny --batch-size 1 --samples 1 --runs 1 --files 4` tries it where there is no GPU; such times say nothing.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import shutil
import sys
import tempfile
import time
import types
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from steps import Step, compare, set_up

from tokkit import dsp
from tokkit.bulk.encode import EncodeOptions, encode_files
from tokkit.data.base import Source
from tokkit.data.shards import Shards
from tokkit.data.tones import Tones
from tokkit.evaluate.provenance import provenance
from tokkit.modalities.audio import Audio
from tokkit.recipe import Recipe
from tokkit.tokenizer import Tokenizer
from tokkit.train.loop import Run

RECIPE = Path(__file__).parents[1] / "recipes" / "audio" / "dac-24k.yaml"
RATE, CODEBOOKS = 24000, 8
CROP = {False: 9120, True: 2500}
STRIDES = [2, 4, 5, 8]
LOUDNESS = -16.0
WIDTHS = {False: (64, 1536), True: (4, 32)}
MEL: dict[str, Any] = {
    "n_mels": [5, 10, 20, 40, 80, 160, 320],
    "window_lengths": [32, 64, 128, 256, 512, 1024, 2048],
    "mel_fmin": [0.0] * 7,
    "mel_fmax": [None] * 7,
    "pow": 1.0,
    "clamp_eps": 1e-5,
    "mag_weight": 0.0,
}
WEIGHTS = {"mel": 15.0, "feature_matching": 2.0, "generator": 1.0, "commitment": 0.25, "codebook": 1.0}


def enter(root: Path) -> Any:
    """The peer's package `dac`, from the checkouts below a folder."""
    for name in ("site", "audiotools", "dac"):
        if not (root / name).is_dir():
            raise SystemExit(f"{root / name}: not there; see `--help` for what --peer holds")
        sys.path.insert(0, str((root / name).resolve()))
    if importlib.util.find_spec("tensorboard") is None:
        _stand_in("torch.utils.tensorboard", SummaryWriter=object)
    if importlib.util.find_spec("librosa") is None:

        def mel(*, sr: int, n_fft: int, n_mels: int, fmin: float, fmax: float | None) -> Any:
            return dsp.mel_basis(sr, n_fft, n_mels).T.numpy()

        _stand_in("librosa", filters=_stand_in("librosa.filters", mel=mel))
    warnings.filterwarnings("ignore")
    return importlib.import_module("dac")


def _stand_in(name: str, **members: Any) -> types.ModuleType:
    module = types.ModuleType(name)
    vars(module).update(members)
    sys.modules[name] = module
    return module


def peer_model(dac: Any, tiny: bool) -> Any:
    width, decoder_width = WIDTHS[tiny]
    torch.manual_seed(0)
    return dac.DAC(
        sample_rate=RATE,
        encoder_dim=width,
        encoder_rates=STRIDES,
        decoder_dim=decoder_width,
        decoder_rates=STRIDES[::-1],
        n_codebooks=CODEBOOKS,
        quantizer_dropout=0.5,
    )


def peer_step(dac: Any, device: torch.device, *, tiny: bool, amp: bool, lean: bool) -> Step:
    """The body of `train_loop` of the peer's scripts/train.py, called on its own networks and losses."""
    losses = importlib.import_module("dac.nn.loss")
    signal_of = importlib.import_module("audiotools").AudioSignal
    model = peer_model(dac, tiny).to(device).train()
    judge = importlib.import_module("dac.model.discriminator").Discriminator(sample_rate=RATE, rates=[]).to(device).train()
    gan, mel = losses.GANLoss(judge), losses.MelSpectrogramLoss(**MEL)
    stft, waveform = losses.MultiScaleSTFTLoss(window_lengths=[2048, 512]), losses.L1Loss()
    optimizers = [torch.optim.AdamW(each.parameters(), lr=1e-4, betas=(0.8, 0.99)) for each in (model, judge)]
    schedulers = [torch.optim.lr_scheduler.ExponentialLR(each, gamma=0.999996) for each in optimizers]

    def update(index: int, module: torch.nn.Module, loss: torch.Tensor, clip: float) -> None:
        optimizers[index].zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), clip)
        optimizers[index].step()
        schedulers[index].step()

    def step(batch: torch.Tensor) -> None:
        signal = signal_of(batch, RATE)
        with torch.autocast(device.type, torch.bfloat16, enabled=amp):
            out = model(signal.audio_data, RATE)
            made = signal_of(out["audio"].float(), RATE)
            of_judge = gan.discriminator_loss(made, signal)
        update(1, judge, of_judge, 10.0)
        with torch.autocast(device.type, torch.bfloat16, enabled=amp):
            if not lean:
                stft(made, signal)
                waveform(made, signal)
            found = {"mel": mel(made, signal), "commitment": out["vq/commitment_loss"], "codebook": out["vq/codebook_loss"]}
            found["generator"], found["feature_matching"] = gan.generator_loss(made, signal)
            loss = sum(WEIGHTS[name] * value for name, value in found.items())
        update(0, model, loss, 1e3)

    return step


def our_recipe(tiny: bool, batch_size: int, *options: str) -> Recipe:
    width, decoder_width = WIDTHS[tiny]
    overrides = [
        f"encoder.width={width}",
        f"decoder.width={decoder_width}",
        *(f"{part}.dim={16 * width}" for part in ("quantizer", "decoder")),
        f"data={{name: tones, size: {CROP[tiny]}, count: 2}}",
        "evaluate={limit: 1}",
        f"train.batch_size={batch_size}",
        "train.workers=0",
    ]
    return Recipe.load(RECIPE, [*overrides, *options])


def our_step(device: torch.device, *options: str, tiny: bool, batch_size: int) -> Step:
    recipe = our_recipe(tiny, batch_size, *options)
    run = Run(recipe, Path(tempfile.gettempdir()), cpu=device.type == "cpu")

    def step(batch: torch.Tensor) -> None:
        run._take_step(batch)
        run.step += 1
        run._window.clear()

    return step


def write_files(folder: Path, sounds: str | None, count: int) -> float:
    """WAV files for both sides; their seconds together."""
    modality = Audio(sample_rate=RATE)
    source: Source = (Tones(count=count, seconds=3.0) if sounds is None else Shards(path=sounds)).open(modality)
    seconds = 0.0
    for index in range(count):
        values = source.sample(index % len(source)).values
        modality.write(folder / f"{index:03d}.wav", values)
        seconds += values.shape[1] / RATE
    return seconds


def peer_encoder(dac: Any, device: torch.device, tiny: bool) -> Callable[[Path, Path], None]:
    signal_of = importlib.import_module("audiotools").AudioSignal
    model = peer_model(dac, tiny).to(device).eval()

    @torch.inference_mode()
    def encode(folder: Path, out: Path) -> None:
        out.mkdir()
        for file in sorted(folder.glob("*.wav")):
            model.compress(signal_of(file), 5.0).save(out / file.with_suffix(".dac").name)

    return encode


def our_encoder(device: torch.device, tiny: bool, precision: Any) -> Callable[[Path, Path], None]:
    recipe = our_recipe(tiny, 1, f"modality.loudness={LOUDNESS}")
    tokenizer = Tokenizer.from_recipe(recipe, precision=precision).to(device).eval()

    def encode(folder: Path, out: Path) -> None:
        summary = encode_files(tokenizer, [folder], out, EncodeOptions())
        assert not summary.failures, summary.failures[0]

    return encode


def compare_encoders(
    ways: dict[str, Callable[[], Callable[[Path, Path], None]]],
    folder: Path,
    runs: int,
    sound: float,
    rows: dict[str, dict[str, Any]],
    keep: Callable[[], None],
) -> None:
    """Every way by turns, its first time apart; of the best of the others, seconds of sound for each second."""
    encoders = {name: make() for name, make in ways.items()}
    for run in range(runs + 1):
        for name, encode in encoders.items():
            place = Path(tempfile.mkdtemp())
            started = time.perf_counter()
            encode(folder, place / "out")
            seconds = time.perf_counter() - started
            shutil.rmtree(place)
            if run == 0:
                rows[name] = {"first_seconds": seconds, "seconds": []}
            else:
                rows[name]["seconds"].append(seconds)
                rows[name]["times_real_time"] = sound / min(rows[name]["seconds"])
            print(f"{name:32} {seconds:8.2f} s  {sound / seconds:8.1f} x real time{'' if run else ' at first'}", flush=True)
            keep()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--batch-size", type=int, default=72)
    parser.add_argument("--samples", type=int, default=20)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--files", type=int, default=200)
    parser.add_argument("--sounds", help="a tar of sounds to encode; generated ones when not given")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="narrow networks")
    parser.add_argument("--only", help="names of training rows with commas between, or `encode`; everything when not given")
    arguments = parser.parse_args()
    device, tiny, size = torch.device(arguments.device), arguments.tiny, arguments.batch_size
    dac = enter(arguments.peer)
    training: dict[str, Callable[[], Step]] = {
        "dac": lambda: peer_step(dac, device, tiny=tiny, amp=False, lean=False),
        "dac bf16": lambda: peer_step(dac, device, tiny=tiny, amp=True, lean=False),
        "dac bf16 lean": lambda: peer_step(dac, device, tiny=tiny, amp=True, lean=True),
        "tokkit": lambda: our_step(device, tiny=tiny, batch_size=size),
        "tokkit eager fp32": lambda: our_step(device, "train.precision=fp32", "train.compile=false", tiny=tiny, batch_size=size),
        "tokkit eager bf16": lambda: our_step(device, "train.compile=false", tiny=tiny, batch_size=size),
    }
    chosen = arguments.only.split(",") if arguments.only else [*training, "encode"]
    result: dict[str, Any] = {"bench": "dac-speed", **provenance(), "batch": [size, 1, CROP[tiny]], "tiny": tiny}

    def keep() -> None:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps(result, indent=1) + "\n")

    if "encode" in chosen:
        with tempfile.TemporaryDirectory() as folder:
            sound = write_files(Path(folder), arguments.sounds, arguments.files)
            encoders = {
                "dac": lambda: peer_encoder(dac, device, tiny),
                "tokkit": lambda: our_encoder(device, tiny, "fp32"),
                "tokkit bf16": lambda: our_encoder(device, tiny, "bf16"),
            }
            result |= {"files": arguments.files, "seconds_of_sound": sound}
            compare_encoders(encoders, Path(folder), arguments.runs, sound, result.setdefault("encode", {}), keep)
    ways = {name: make for name, make in training.items() if name in chosen}
    if ways:
        set_up(device)
        batch = torch.rand(size, 1, CROP[tiny], device=device) * 0.5 - 0.25
        rows = result["train"] = {}
        compare(ways, batch, samples=arguments.samples, runs=arguments.runs, what="sounds", rows=rows, keep=keep)


if __name__ == "__main__":
    main()
