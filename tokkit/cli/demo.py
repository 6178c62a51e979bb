"""tokkit demo"""

from __future__ import annotations

import json
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Annotated

import typer

from tokkit.errors import InputError

if TYPE_CHECKING:
    from PIL.Image import Image

    from tokkit.evaluate.result import Evaluation
    from tokkit.recipe import Recipe

RECIPE = Path(__file__).with_name("demo.yaml")
BASELINES = ("jpeg", "webp")
_TIMED_STEPS = 9
_SIDE = 256


def demo_command(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for everything; an earlier demo there is replaced.")] = Path("demo"),
    minutes: Annotated[float, typer.Option(min=0.01, help="Time to train.")] = 2.0,
    steps: Annotated[int | None, typer.Option(min=1, help="Steps to train, instead of a time.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Use a folder that holds other things.")] = False,
) -> None:
    """Train a small tokenizer, encode pictures that it has not seen, decode them, and show what was lost.

    Needs no data and no GPU: the pictures come with scikit-image.

    tokkit demo

    tokkit demo --out /tmp/demo --minutes 0.5
    """
    started = time.monotonic()
    model = out / "model"
    if out.exists() and any(out.iterdir()) and not (model / "recipe.yaml").exists() and not force:
        raise InputError(f"{out} holds other things; pass --force to put the demo there, or another --out")

    import torch

    from tokkit.bulk.decode import decode_files
    from tokkit.bulk.encode import EncodeOptions, encode_files
    from tokkit.evaluate.report import write_report
    from tokkit.evaluate.run import Options, evaluate
    from tokkit.evaluate.table import print_table
    from tokkit.recipe import Recipe
    from tokkit.tokenizer import Tokenizer
    from tokkit.train import train

    training, pictures = write_training_pictures(out / "training"), write_held_out_pictures(out / "pictures")
    paths = [f"data.path={json.dumps(str(training))}", f"data.val={json.dumps(str(pictures))}"]
    limit = [f"train.minutes={minutes}"] if steps is None else [f"train.steps={steps}", f"train.warmup={min(50, steps // 10)}"]
    print(f"training {f'{minutes:g} minutes' if steps is None else f'{steps} steps'} on the pictures that come with scikit-image")
    recipe = Recipe.load(RECIPE, [*paths, *limit])
    torch.set_num_threads(quicker_threads(recipe))
    train(recipe, model, force=True)
    tokenizer = Tokenizer.from_pretrained(model, device="auto")

    encode_files(tokenizer, [pictures], out / "tokens", EncodeOptions(force=True))
    decode_files(tokenizer, [out / "tokens"], out / "decoded", force=True)
    evaluation = evaluate(tokenizer, sorted(pictures.iterdir()), baselines=BASELINES, options=Options(worst=len(list(pictures.iterdir()))))
    evaluation.write_json(out / "evaluation.json", force=True)
    write_report(evaluation, out / "report.html", force=True)
    side_by_side(evaluation).save(out / "comparison.png")

    print_table(evaluation)
    print_psnr(evaluation)
    told = {
        "tokenizer": model,
        "held out": pictures,
        "token files": out / "tokens",
        "decoded": out / "decoded",
        "comparison": out / "comparison.png",
        "report": out / "report.html",
    }
    for what, path in told.items():
        print(f"{what + ':':<12} {path}")
    print(f"done in {time.monotonic() - started:.0f} s")


def quicker_threads(recipe: Recipe) -> int:
    """All of torch's threads or half of them, whichever gets a training step done sooner.

    Where other work keeps the cores busy, threads that wait for each other can take several times as long as one.
    """
    import torch

    from tokkit.tokenizer import Tokenizer

    everything = torch.get_num_threads()
    tokenizer = Tokenizer.from_recipe(recipe).train()
    batch = torch.rand(recipe.section("train").batch_size, 3, 32, 32)
    seconds = {}
    for threads in {everything, max(1, everything // 2)}:
        torch.set_num_threads(threads)
        times = []
        for _ in range(_TIMED_STEPS):
            started = time.perf_counter()
            output = tokenizer(batch)
            (output.reconstruction.mean() + output.loss).backward()
            times.append(time.perf_counter() - started)
        seconds[threads] = median(times)
    torch.set_num_threads(everything)
    return min(seconds, key=lambda threads: seconds[threads])


def write_training_pictures(folder: Path) -> Path:
    """The pictures to train on; those in colour also with their channels in turn, for most are grey and none is blue."""
    from tokkit import registry

    image = registry.build("modality", "image")
    source = registry.build("data", "samples").open(image, split="train")
    for index in range(len(source)):
        sample = source.sample(index)
        red, green, _ = sample.values
        for turn in range(1 if red.equal(green) else 3):
            image.write(folder / f"{sample.name}-{turn}.png", sample.values.roll(turn, 0), force=True)
    return folder


def write_held_out_pictures(folder: Path) -> Path:
    """The middle of the pictures to judge by, 256 x 256."""
    from tokkit import registry

    image = registry.build("modality", "image")
    source = registry.build("data", "samples", size=_SIDE, resize=True).open(image, split="val")
    for index in range(len(source)):
        image.write(folder / f"{source.sample(index).name}.png", source[index], force=True)
    return folder


def side_by_side(evaluation: Evaluation) -> Image:
    """Every picture as it was and as each system gives it back, one picture a row."""
    from PIL import Image, ImageDraw, ImageFont

    from tokkit.baselines.pictures import to_picture

    systems = evaluation.systems
    heads = ["original", *systems]
    label, gap = 22, 4
    width, height = _SIDE + gap, _SIDE + label + gap
    canvas = Image.new("RGB", (len(heads) * width - gap, len(evaluation.cases) * height - gap), "white")
    draw = ImageDraw.Draw(canvas)
    font = ImageFont.load_default()
    for line, case in enumerate(sorted(evaluation.cases, key=lambda case: case.sample)):
        shown = {"original": case.original, **case.reconstructions}
        for column, name in enumerate(heads):
            if name not in shown:
                continue
            row = case.rows.get(name)
            facts = f"{name}  {row.values['psnr']:.1f} dB  {row.file_bytes} B" if row is not None else f"{case.sample}: {name}"
            draw.text((column * width + 2, line * height + 5), facts, fill="black", font=font)
            canvas.paste(to_picture(shown[name][:, :_SIDE, :_SIDE] / 255), (column * width, line * height + label))
    return canvas


def print_psnr(evaluation: Evaluation) -> None:
    """PSNR and bytes of every picture, one system a column."""
    from tokkit.evaluate.table import print_columns

    cells = {}
    for row in evaluation.rows:
        psnr = f"{row.values['psnr']:.2f}" if "psnr" in row.values else "failed"
        cells[row.sample, row.system] = f"{psnr} ({row.file_bytes} B)"
    samples = dict.fromkeys(sample for sample, _ in cells)
    rows = [[sample, *(cells.get((sample, system), "-") for system in evaluation.systems)] for sample in samples]
    print_columns(["PSNR [dB]", *evaluation.systems], rows)
