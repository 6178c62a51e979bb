"""The ten-minute shape trainings side by side on the GPUs of this machine, judged with Draco and other codecs in the same tables.

python benchmarks/train_meshes.py --train meshes-train/ --val meshes-val/ --out benchmarks/results/meshes-h100

Prepares the shapes where that was not done. Every training takes --minutes, compiling included, and its learning rate reaches its end in
that time. A name may carry options, to compare designs: 'vat-512B encoder.cells=8 quantizer.levels=[4,4,4,4]'. Writes for each:
NAME.jsonl (the loss curve), NAME.yaml, NAME-eval.json, NAME/ (the tokenizer).
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from train_images import RECIPES, STEPS, tokkit

NAMES = ("vat-512B", "vat-256B", "vat-4KB")


def prepared(meshes: Path, shards: Path) -> None:
    """The shards of a folder of meshes; a shape that has no inside is left out, which is exit code 1."""
    if not (shards / "report.json").exists():
        command = [sys.executable, "-m", "tokkit", "prepare", str(meshes), "-o", str(shards), "--layers", "2", "--fit", "box", "--force"]
        subprocess.run([*command, "--surface", "12288", "--sharp", "4096"], check=False)


def train(design: str, run: Path, given: argparse.Namespace, gpu: int | None) -> None:
    name, *options = design.split()
    data = [f"data.path={given.shards}/train", f"data.val={given.shards}/val"]
    time = [f"train.steps={STEPS}", f"train.minutes={given.minutes}"]
    tokkit("train", RECIPES / f"{name}-10min.yaml", *data, *time, *options, *given.override, "--out", run, "--force", gpu=gpu)


def judge(run: Path, given: argparse.Namespace) -> None:
    for source, target in (("metrics.jsonl", f"{run.name}.jsonl"), ("recipe.yaml", f"{run.name}.yaml")):
        shutil.copy(run / source, given.out / target)
    command = [sys.executable, str(Path(__file__).parent / "mesh_eval.py"), str(run), "--data", str(given.val)]
    command += ["--workers", str(given.judges), "--limit", str(given.limit), "--baselines", given.baselines, "--device", given.device]
    subprocess.run([*command, "--out", str(given.out / f"{run.name}-eval.json")], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=Path, required=True, help="folder of meshes to train on")
    parser.add_argument("--val", type=Path, required=True, help="folder of meshes to judge on")
    parser.add_argument("--shards", type=Path, default=Path(".data/mesh-shards"), help="prepared shapes: train/ and val/ in this folder")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=8.0, help="of each training")
    parser.add_argument("--gpus", type=int, default=1, help="trainings are dealt out to so many; 0 leaves the choice to torch")
    parser.add_argument("--only", default=",".join(NAMES), help="names, with ; or , between (; where options hold commas)")
    parser.add_argument("--judges", type=int, default=4, help="processes that judge a tokenizer")
    parser.add_argument("--limit", type=int, default=1000, help="judge on the first so many meshes")
    parser.add_argument("--baselines", default="draco,quantized_mesh,decimated_mesh")
    parser.add_argument("--device", default="cpu", help="to decode on when judging")
    parser.add_argument("--stages", default="prepare,train,judge", help="some of these, where time is given in pieces")
    parser.add_argument("override", nargs="*", help="options of every recipe, key.sub=value")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    designs = given.only.split(";" if ";" in given.only or "=" in given.only else ",")
    gpus = [index % given.gpus if given.gpus else None for index in range(len(designs))]
    runs = [given.out / re.sub(r"[^\w.-]+", "_", design) for design in designs]
    if "prepare" in given.stages:
        prepared(given.train, given.shards / "train")
        prepared(given.val, given.shards / "val")
    with ThreadPoolExecutor(len(designs)) as pool:
        if "train" in given.stages:
            jobs = list(zip(designs, runs, gpus, strict=True))
            list(pool.map(lambda job: train(job[0], job[1], given, job[2]), jobs))
        if "judge" in given.stages:
            list(pool.map(lambda run: judge(run, given), runs))


if __name__ == "__main__":
    main()
