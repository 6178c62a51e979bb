"""The ten-minute image trainings side by side on the GPUs of this machine, judged with JPEG, WebP and AVIF in the same tables.

python benchmarks/train_images.py --train images-train.tar --val images-val.tar --out benchmarks/results/images-h100

The one-dimensional ones, which have a fixed number of tokens, are judged at the size that they are trained at:

python benchmarks/train_images.py --train images-train.tar --val images-val.tar --out benchmarks/results/tokens-1d \\
    --only plain-1d,nested-1d,flow-1d --crop 128 --runs runs/
python benchmarks/rate_distortion.py plain=plain-1d-eval.json nested=nested-1d-eval.json flow=flow-1d-eval.json --out docs/rd.svg
python benchmarks/pictures_at.py runs/nested-1d runs/flow-1d --num-tokens 8 --scale 256 --size 128 --out docs/at-8-tokens.png

Every training takes --minutes, compiling included, and its learning rate reaches its end in that time. flow-1d has nested-1d's encoder, so
it is trained when that one is: the first ones, side by side, then have --first-share of the minutes, and flow-1d the rest. Writes for each:
NAME.jsonl (the loss curve), NAME.yaml, NAME-eval.json.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tokkit import registry

RECIPES = Path(__file__).parent / "training"
NAMES = ("wetok-gq", "vq-f16", "uniwetok-binary-128")
STARTS_FROM = {"flow-1d": "nested-1d"}
"""What is trained after another one, from whose encoder it starts; that one's run lies beside its own."""
STEPS = 1_000_000
"""More than any training takes: the time ends it."""
QUIET = ["train.sample_every=1000000", "evaluate.every=2000", "train.checkpoint_every=5000"]


def tokkit(*arguments: object, gpu: int | None) -> None:
    environment = os.environ if gpu is None else {**os.environ, "CUDA_VISIBLE_DEVICES": str(gpu)}
    subprocess.run([sys.executable, "-m", "tokkit", *map(str, arguments)], check=True, env=environment)


def train(name: str, run: Path, minutes: float, given: argparse.Namespace, gpu: int | None) -> None:
    data = [f"data.of.path={given.train}", f"evaluate.data.path={given.val}", f"train.steps={STEPS}", f"train.minutes={minutes}"]
    if name in STARTS_FROM:
        data.append(f"train.init_from={run.with_name(STARTS_FROM[name])}")
    tokkit("train", RECIPES / f"{name}-10min.yaml", *data, *QUIET, *given.override, "--out", run, "--force", gpu=gpu)


def judge(name: str, run: Path, given: argparse.Namespace, gpu: int | None) -> None:
    result = given.out / f"{name}-eval.json"
    metrics = "psnr,ssim,patch_spectrum" if given.crop else "psnr,ssim,ms_ssim,patch_spectrum"
    options = ["--metrics", metrics, "--baselines", given.baselines, "--json", result, "--force"]
    if given.reports:
        options += ["--report", given.reports / f"{name}.html"]
    for source, target in (("metrics.jsonl", f"{name}.jsonl"), ("recipe.yaml", f"{name}.yaml")):
        shutil.copy(run / source, given.out / target)
    tokkit("eval", run, cropped(given.val, given.crop, run) if given.crop else given.val, *options, gpu=gpu)


def cropped(pictures: Path, side: int, run: Path) -> Path:
    """The middle of every picture, side x side pixels, as files in a folder of the run."""
    source = registry.build("data", "shards", path=str(pictures), size=side).open(modality := registry.build("modality", "image"))
    folder = run / "held-out"
    for index in range(len(source)):
        modality.write(folder / f"{source.sample(index).name}.png", source[index], force=True)
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=Path, required=True, help="pictures to train on: tar files")
    parser.add_argument("--val", type=Path, required=True, help="pictures to judge on")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--runs", type=Path, help="keep the trained tokenizers in this folder")
    parser.add_argument("--reports", type=Path, help="folder for html reports, which hold the pictures: mind their licence")
    parser.add_argument("--minutes", type=float, default=8.0, help="of each training; of both where one starts from another")
    parser.add_argument("--first-share", type=float, default=0.55, help="of the minutes, where trainings start from others of these")
    parser.add_argument("--crop", type=int, help="judge the middle of this size of each picture; whole pictures when not given")
    parser.add_argument("--baselines", default="jpeg,webp,avif", help="codecs in the same tables; they take longer than the tokenizer")
    parser.add_argument("--gpus", type=int, default=1, help="trainings are dealt out to so many; 0 leaves the choice to torch")
    parser.add_argument("--only", default=",".join(NAMES), help="names with commas between")
    parser.add_argument("override", nargs="*", help="options of every recipe, key.sub=value")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    if given.reports:
        given.reports.mkdir(parents=True, exist_ok=True)
    names = given.only.split(",")
    gpu_of = {name: index % given.gpus if given.gpus else None for index, name in enumerate(names)}
    second = [name for name in names if STARTS_FROM.get(name) in names]
    first = [name for name in names if name not in second]
    share = given.first_share if second else 1.0
    with tempfile.TemporaryDirectory() as scratch, ThreadPoolExecutor(len(names)) as pool:
        runs = {name: (given.runs or Path(scratch)) / name for name in names}
        for group, minutes in ((first, share * given.minutes), (second, (1 - share) * given.minutes)):
            list(pool.map(lambda name, minutes=minutes: train(name, runs[name], minutes, given, gpu_of[name]), group))
        list(pool.map(lambda name: judge(name, runs[name], given, gpu_of[name]), names))


if __name__ == "__main__":
    main()
