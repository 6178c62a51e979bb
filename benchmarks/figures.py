"""The figures that take a GPU, in lanes: each lane has a GPU of its own and does its jobs one after the other, all by a deadline.

    python benchmarks/figures.py --data DATA --work work/ --pack figures.tgz --seconds 560 --lane wetok-gq --lane tests,sweep,lookup

DATA holds images-train.tar, images-val.tar, audio-train.tar, audio-val.tar, meshes-train/ and meshes-val/ (or .tar.gz); --peers the
checkouts that dac_speed.py and train_step_1d.py ask for. A training takes the time that the jobs behind it in its lane leave, its
learning rate ends with it, and it is judged in that time too; a job that is not done by the deadline is stopped. What is finished is
packed after every job, so nothing is lost with a machine that goes. Compiling takes many cores for a minute or two: put jobs that measure
times behind it.

    --set 'wetok-gq quantizer.entropy_weight=0.01'      options of a training

Jobs: {names}
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

HERE = Path(__file__).parent
ROOT = HERE.parent
TOKKIT = [sys.executable, "-m", "tokkit"]
PART_BYTES = 15 * 2**20
"""Of a pack: larger ones are cut into .00, .01, ..., to be joined with cat."""

Command = list[str]


@dataclass
class Place:
    """Where things are, and what the command line said."""

    data: Path
    work: Path
    peers: Path | None
    pack: Path
    overrides: dict[str, list[str]]
    packing: threading.Lock = field(default_factory=threading.Lock)

    @property
    def out(self) -> Path:
        """What is worth keeping."""
        return self.work / "out"

    @property
    def runs(self) -> Path:
        return self.work / "runs"

    def script(self, name: str, *arguments: object) -> Command:
        return [sys.executable, str(HERE / name), *map(str, arguments)]

    def unpacked(self, name: str) -> Path:
        """The folder of an archive, or the folder that is there already."""
        folder = self.data / name
        if folder.is_dir():
            return folder
        target = self.work / name
        if not target.exists():
            archive = next(path for suffix in (".tar", ".tar.gz") if (path := self.data / f"{name}{suffix}").exists())
            part = target.with_name(f"{name}.part")
            with tarfile.open(archive) as tar:
                tar.extractall(part, filter="data")
            part.rename(target)
        return target

    def keep(self) -> None:
        """Pack what is finished."""
        with self.packing:
            part = self.pack.with_suffix(".part")
            with tarfile.open(part, "w:gz") as tar:
                tar.add(self.out, arcname=".")
            content = part.read_bytes()
            part.unlink()
            for index in range(-(-len(content) // PART_BYTES)):
                name = self.pack.name if len(content) <= PART_BYTES else f"{self.pack.name}.{index:02}"
                self.pack.with_name(name).write_bytes(content[index * PART_BYTES : (index + 1) * PART_BYTES])


@dataclass(frozen=True)
class Job:
    """`commands(place, minutes)` one after the other; `seconds` is what to reserve (of a training: for what comes after it)."""

    commands: Callable[[Place, float], list[Command]]
    seconds: float
    trains: bool = False


def pictures(names: str, *options: object) -> Job:
    """Image trainings side by side on one GPU."""

    def commands(place: Place, minutes: float) -> list[Command]:
        data = ("--train", place.data / "images-train.tar", "--val", place.data / "images-val.tar", "--baselines", "")
        given = [option for name in names.split(",") for option in place.overrides.get(name, [])]
        where = ("--out", place.out, "--runs", place.runs, "--only", names, "--gpus", 0, "--minutes", minutes)
        return [place.script("train_images.py", *data, *where, *options, "train.log_every=250", *given)]

    return Job(commands, 60, trains=True)


def meshes(place: Place, minutes: float) -> list[Command]:
    shards, runs = place.work / "shards", place.runs / "meshes"
    data = ("--train", place.unpacked("meshes-train"), "--val", place.unpacked("meshes-val"), "--shards", shards, "--gpus", 0)
    train = place.script("train_meshes.py", *data, "--out", runs, "--minutes", minutes, "--judges", 8, *place.overrides.get("meshes", []))
    return [
        train,
        [
            "cp",
            *(str(runs / f"{name}{end}") for name in ("vat-512B", "vat-256B", "vat-4KB") for end in ("-eval.json", ".jsonl", ".yaml")),
            str(place.out),
        ],
    ]


def mixed_shards(place: Place, minutes: float) -> list[Command]:
    """Shards of the training meshes and twice as many recombined ones."""
    both, prepare = place.work / "meshes-both", ["--layers", "2", "--fit", "box", "--surface", "12288", "--sharp", "4096", "--force"]
    both.mkdir(exist_ok=True)
    for path in place.unpacked("meshes-train").iterdir():
        shutil.copy(path, both / path.name)
    made = [("train", both), ("val", place.unpacked("meshes-val"))]
    lists = [[*TOKKIT, "prepare", str(folder), "-o", str(place.work / "shards" / name), *prepare] for name, folder in made]
    return [place.script("mix_meshes.py", place.unpacked("meshes-train"), "--out", both), *lists]


def dac(place: Place, minutes: float) -> list[Command]:
    """Training, and the held-out sounds decoded: PESQ and Opus may be missing here (`tokkit eval folder:... sounds/` judges elsewhere)."""
    run, sounds, out = place.runs / "dac-24k", place.unpacked("audio-val"), place.out / "dac-24k"
    of = [f"data.of.path={place.data / 'audio-train.tar'}", f"data.of.val={place.data / 'audio-val.tar'}"]
    time_limit = ["train.steps=1000000", f"train.minutes={minutes}"]
    recipe = str(HERE / "training" / "dac-24k-10min.yaml")
    return [
        [*TOKKIT, "train", recipe, *of, *time_limit, *place.overrides.get("dac", []), "--out", str(run), "--force"],
        ["mkdir", "-p", str(out)],
        ["cp", str(run / "metrics.jsonl"), str(run / "recipe.yaml"), str(out)],
        [*TOKKIT, "encode", str(run), str(sounds), "-o", str(out / "tokens"), "--force"],
        [*TOKKIT, "decode", str(run), str(out / "tokens"), "-o", str(out / "decoded"), "--force"],
    ]


def encode(place: Place, minutes: float) -> list[Command]:
    """1,000 JPEGs through LlamaGen's VQ-16 with fresh weights, whose pace is that of trained ones."""
    model, photos = place.work / "vq16", place.work / "photos"
    fresh = (
        "import sys; from tokkit.recipe import Recipe; from tokkit.tokenizer import Tokenizer; r = Recipe.load(sys.argv[1]); "
        "Tokenizer.from_recipe(r).save(sys.argv[2], recipe=r, force=True)"
    )
    if not photos.exists():
        photos.mkdir()
        for path in sorted(place.unpacked("images-train").rglob("*.jp*g"))[:1000]:
            shutil.copy(path, photos)
    options = ("--storage", f"{place.work},/dev/shm", "--workers", "4,8", "--precision", "bf16")
    measure = place.script("encode_folder.py", photos, model, "--out", place.out / "encode.json", *options)
    return [[sys.executable, "-c", fresh, str(ROOT / "recipes" / "image" / "vq-f16.yaml"), str(model)], measure]


def step_1d(place: Place, minutes: float) -> list[Command]:
    """As the peer's trainer runs it first; with the peer compiled too, which takes its time, second."""

    def measure(name: str, only: str) -> Command:
        given = ("--peer", f"{place.peers}/titok", "--samples", 10, "--only", only)
        return place.script("train_step_1d.py", *given, "--out", place.out / f"{name}.json")

    return [measure("train-step-1d", "titok,tokkit,tokkit compiled"), measure("train-step-1d-compiled", "titok compiled,tokkit compiled")]


def dac_speed(place: Place, minutes: float) -> list[Command]:
    """First what each trainer does by itself; every way takes a minute or two to start."""

    def measure(name: str, *options: object) -> Command:
        given = ("--peer", place.peers, "--sounds", place.data / "audio-val.tar", "--out", place.out / f"{name}.json")
        return place.script("dac_speed.py", *given, *options)

    training = ("--samples", 10, "--runs", 2, "--only")
    return [
        measure("dac-train-step", *training, "dac,tokkit,tokkit eager fp32"),
        measure("dac-encode", "--only", "encode", "--runs", 1),
        measure("dac-train-step-bf16", *training, "dac bf16,tokkit eager bf16"),
    ]


def tokbench(place: Place, minutes: float) -> list[Command]:
    models = ["identity", *(f"jpeg@{quality}" for quality in (10, 30, 60, 90))]
    trained = place.runs / "wetok-gq"
    models += [str(trained)] if (trained / "recipe.yaml").exists() else []
    faces = place.data / "face_meta.json"
    given = ["--work", place.work / "tokbench", "--out", place.out / "tokbench-1000.json", "--models", ",".join(models)]
    return [place.script("tokbench_thousand.py", *given, *(["--faces", faces] if faces.exists() else []))]


def pictures_1d(place: Place, minutes: float) -> list[Command]:
    runs = [place.runs / name for name in ("nested-1d", "flow-1d")]
    options = ("--num-tokens", "8,64", "--scale", 256, "--size", 128)
    return [place.script("pictures_at.py", *runs, *options, "--out", place.out / "at-8.png", "--json", place.out / "at-8.json")]


JOBS = {
    "pictures": pictures("wetok-gq,uniwetok-binary-128"),
    "wetok-gq": pictures("wetok-gq"),
    "vq-f16": pictures("vq-f16"),
    "uniwetok-binary-128": pictures("uniwetok-binary-128"),
    "plain-1d": pictures("plain-1d", "--crop", 128),
    "nested-1d": pictures("nested-1d,flow-1d", "--crop", 128),
    "pictures-1d": Job(pictures_1d, 40),
    "mixed-shards": Job(mixed_shards, 170),
    "meshes": Job(meshes, 60, trains=True),
    "dac": Job(dac, 100, trains=True),
    "tests": Job(
        lambda place, minutes: [
            [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-n", "4", str(ROOT / "tests"), "-p", "no:cacheprovider"]
        ],
        150,
    ),
    "sweep": Job(lambda place, minutes: [place.script("sweep_lookup.py", "--out", place.out / "lookup-sweep.json")], 90),
    "lookup": Job(lambda place, minutes: [[*TOKKIT, "bench", "lookup", "--json", str(place.out / "lookup.json")]], 120),
    "residual": Job(
        lambda place, minutes: [[*TOKKIT, "bench", "lookup", "--only", "residual", "--json", str(place.out / "residual.json")]], 25
    ),
    "encode": Job(encode, 100),
    "step-1d": Job(step_1d, 170),
    "dac-speed": Job(dac_speed, 480),
    "tokbench": Job(tokbench, 240),
}


def run(command: Command, log: TextIO, environment: dict[str, str], limit: float) -> int:
    """The exit code, 124 where it took longer than `limit` seconds: then it is stopped with all that it started."""
    process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)
    try:
        return process.wait(limit)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return 124


def follow(lane: list[str], gpu: int, place: Place, deadline: float) -> None:
    """The jobs of one lane; every command writes to NAME.log, and one that fails ends its job, not the lane."""
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": str(gpu)}
    began = time.monotonic()
    for index, name in enumerate(lane):
        job = JOBS[name]
        behind = sum(JOBS[later].seconds for later in lane[index + 1 :])
        minutes = max(0.1, (deadline - time.monotonic() - behind - job.seconds) / 60)
        with (place.out / f"{name}.log").open("w", encoding="utf-8") as log:
            for command in job.commands(place, round(minutes, 2)):
                limit = max(1.0, deadline - time.monotonic() - (0 if job.trains else behind))
                code = run(command, log, environment, limit)
                if code:
                    break
        print(f"[{time.monotonic() - began:.0f} s] {name}: {'done' if not code else f'exit {code}'}", flush=True)
        place.keep()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").format(names=", ".join(JOBS)), formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--peers", type=Path)
    parser.add_argument("--work", type=Path, required=True, help="folder of runs and everything else; goes on with what is there")
    parser.add_argument("--pack", type=Path, required=True, help="archive of the results")
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--lane", action="append", required=True, help="jobs with commas between, on the next GPU")
    parser.add_argument("--set", action="append", default=[], help="a training's name and its options")
    given = parser.parse_args()
    deadline = time.monotonic() + given.seconds
    lanes = [lane.split(",") for lane in given.lane]
    if unknown := {name for lane in lanes for name in lane} - JOBS.keys():
        raise SystemExit(f"no job {', '.join(sorted(unknown))}; there are {', '.join(JOBS)}")
    if given.peers is None and (needy := {name for lane in lanes for name in lane} & {"step-1d", "dac-speed"}):
        raise SystemExit(f"{', '.join(sorted(needy))}: pass --peers, the checkouts to compare with")
    overrides = {name: options for name, *options in (entry.split() for entry in given.set)}
    place = Place(given.data, given.work, given.peers, given.pack, overrides)
    for folder in (place.out, place.runs):
        folder.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(len(lanes)) as pool:
        list(pool.map(lambda lane: follow(lane[1], lane[0], place, deadline), enumerate(lanes)))


if __name__ == "__main__":
    main()
