"""The ten-minute image trainings side by side on the GPUs of this machine, judged with JPEG, WebP and AVIF in the same tables.

python benchmarks/train_images.py --train images-train.tar --val images-val.tar --out benchmarks/results/images-h100

Every training runs twice: for a few steps to learn the machine's pace (and to compile), then for as many steps as fit into --minutes at
that pace, so that the learning rate reaches its end in time. Writes for each: NAME.jsonl (the loss curve), NAME.yaml, NAME-eval.json.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

RECIPES = Path(__file__).parent / "training"
NAMES = ("wetok-gq", "vq-f16", "uniwetok-binary-128")
TRIAL_STEPS = 300
QUIET = ["train.sample_every=1000000", "evaluate.every=2000", "train.checkpoint_every=5000"]


def tokkit(*arguments: object, gpu: int | None) -> None:
    environment = os.environ if gpu is None else {**os.environ, "CUDA_VISIBLE_DEVICES": str(gpu)}
    subprocess.run([sys.executable, "-m", "tokkit", *map(str, arguments)], check=True, env=environment)


def train(name: str, steps: int, run: Path, given: argparse.Namespace, gpu: int | None) -> None:
    data = [f"data.path={given.train}", f"evaluate.data.path={given.val}", f"train.steps={steps}"]
    tokkit("train", RECIPES / f"{name}-10min.yaml", *data, *QUIET, *given.override, "--out", run, "--force", gpu=gpu)


def steps_that_fit(run: Path, minutes: float) -> int:
    """From the pace of the last logged steps of a trial; a twentieth of the time is left for looking and saving."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    pace = [line["samples_per_second"] for line in lines if "samples_per_second" in line][-1]
    batch = next(int(line.split(":")[1]) for line in (run / "recipe.yaml").read_text().splitlines() if "batch_size" in line)
    return int(0.95 * 60 * minutes * pace / batch)


def judge(name: str, run: Path, given: argparse.Namespace, gpu: int | None) -> None:
    result = given.out / f"{name}-eval.json"
    options = ["--metrics", "psnr,ssim,ms_ssim", "--baselines", "jpeg,webp,avif", "--json", result, "--force"]
    tokkit("eval", run, given.val, *options, gpu=gpu)
    for source, target in (("metrics.jsonl", f"{name}.jsonl"), ("recipe.yaml", f"{name}.yaml")):
        shutil.copy(run / source, given.out / target)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=Path, required=True, help="pictures to train on: tar files")
    parser.add_argument("--val", type=Path, required=True, help="pictures to judge on")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=8.0, help="of each training, the trial not counted")
    parser.add_argument("--gpus", type=int, default=1, help="trainings are dealt out to so many; 0 leaves the choice to torch")
    parser.add_argument("--only", default=",".join(NAMES), help="names with commas between")
    parser.add_argument("override", nargs="*", help="options of every recipe, key.sub=value")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    names = given.only.split(",")
    gpus = [index % given.gpus if given.gpus else None for index in range(len(names))]
    with tempfile.TemporaryDirectory() as scratch, ThreadPoolExecutor(len(names)) as pool:
        runs = [Path(scratch) / name for name in names]
        list(pool.map(lambda job: train(job[0], TRIAL_STEPS, job[1], given, job[2]), zip(names, runs, gpus, strict=True)))
        steps = [steps_that_fit(run, given.minutes) for run in runs]
        print(dict(zip(names, steps, strict=True)), flush=True)
        list(pool.map(lambda job: train(job[0], job[1], job[2], given, job[3]), zip(names, steps, runs, gpus, strict=True)))
        list(pool.map(lambda job: judge(job[0], job[1], given, job[2]), zip(names, runs, gpus, strict=True)))


if __name__ == "__main__":
    main()
