"""The text and face protocol of TokBench over 1,000 pictures: how long it takes, in how much memory, and in what order codecs come out.

    python benchmarks/tokbench_thousand.py --work tokbench-1000 --out result.json --models identity,jpeg@10,jpeg@30,jpeg@60,jpeg@90

Nine pictures of ten are rendered text; one of ten, at least twelve, shows a face: scikit-image's photograph of Eileen Collins at sizes for
all three buckets, on a ground of its own colours. Making the data is not part of the time. Goes on where it was interrupted, whose time is
then too short.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import time
from pathlib import Path

import numpy as np
import skimage.data
import torch
from PIL import Image

from tokkit.bench.tokbench.faces import build_embedder
from tokkit.bench.tokbench.generate import make_faces, make_text
from tokkit.bench.tokbench.layout import FACE_SET, read_layout
from tokkit.bench.tokbench.methods import home_of, open_method
from tokkit.bench.tokbench.recognizers import build_recognizer
from tokkit.bench.tokbench.run import run
from tokkit.evaluate.provenance import provenance


def make_photos(folder: Path, count: int) -> None:
    """The face of one photograph, enlarged and reduced, on grounds of several sizes."""
    source = Image.fromarray(skimage.data.astronaut()).crop((140, 20, 310, 190))
    choice = random.Random(0)
    for index in range(count):
        width, height = choice.choice([(640, 480), (800, 800), (512, 768)])
        side = int(choice.uniform(0.25, 0.95) * min(width, height))
        ground = Image.fromarray(np.asarray(source.resize((4, 4)))).resize((width, height), Image.Resampling.BICUBIC)
        ground.paste(
            source.resize((side, side), Image.Resampling.LANCZOS), (choice.randint(0, width - side), choice.randint(0, height - side))
        )
        folder.mkdir(parents=True, exist_ok=True)
        ground.save(folder / f"{index:05d}.png")


def device_memory() -> dict[str, int]:
    """Of this process on the GPU, in bytes; peaks since the last call of this."""
    if not torch.cuda.is_initialized():
        return {}
    now, peak, reserved = torch.cuda.memory_allocated(), torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved()
    torch.cuda.reset_peak_memory_stats()
    return {"now": now, "peak": peak, "peak_reserved": reserved}


def place_photos(data: Path, photos: Path, annotations: Path) -> int:
    """As `make_faces` would, with what it annotated elsewhere: dlib's landmarks take 100 MB, which not every machine has."""
    pairs = [(entry, photos / entry["image_name"].partition("-")[2]) for entry in json.loads(annotations.read_text(encoding="utf-8"))]
    entries = [entry for entry, photo in pairs if photo.exists()]
    placed = data / "images" / "face_data" / FACE_SET
    placed.mkdir(parents=True)
    for entry, photo in pairs[: len(entries)]:
        shutil.copy(photo, placed / entry["image_name"])
    (data / "annotations").mkdir(exist_ok=True)
    (data / "annotations" / "face_meta.json").write_text(json.dumps(entries), encoding="utf-8")
    return sum(len(entry["faces"]) for entry in entries)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder of the data and of what is finished")
    parser.add_argument("--out", type=Path, required=True, help="JSON file")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--portraits", type=int, help="how many of them show a face; a tenth, at least twelve, when not given")
    parser.add_argument("--faces", type=Path, help="face_meta.json that this script wrote for as many portraits, or more")
    parser.add_argument("--setting", type=int, default=256)
    parser.add_argument("--models", default="identity", help="names with commas between, as `tokkit eval` takes them")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--recognizer", default="rapidocr")
    given = parser.parse_args()
    portraits = max(12, given.images // 10) if given.portraits is None else given.portraits
    data = given.work / f"data-{given.images}-{portraits}"
    recognizer = build_recognizer(given.recognizer) if given.images > portraits else None
    embedder = build_embedder("dlib") if portraits else None
    made = {"seconds": 0.0}
    if not (data / "finished").exists():
        shutil.rmtree(data, ignore_errors=True)
        started = time.perf_counter()
        if recognizer is not None:
            made["words"] = make_text(data, recognizer, images=given.images - portraits)
        if portraits:
            make_photos(data / "photos", portraits)
            photos = data / "photos"
            made["faces"] = make_faces(data, photos) if given.faces is None else place_photos(data, photos, given.faces)
        made["seconds"] = time.perf_counter() - started
        (data / "finished").touch()
    parts = read_layout(data)
    results = {}
    for named in given.models.split(","):
        home = given.work / home_of(named).name
        started = time.perf_counter()
        method = open_method(named, home, given.device)
        held = device_memory()
        found = run(
            method,
            parts,
            home / str(given.setting),
            setting=given.setting,
            recognizer=recognizer,
            embedder=embedder,
        )
        results[named] = {
            "wall_seconds": time.perf_counter() - started,
            "cpu_seconds": found.cpu_seconds,
            "steps": found.seconds,
            "peak_bytes": found.peak_bytes,
            **({"tokenizer_bytes": held["now"], "cuda": device_memory()} if held else {}),
            "pictures": found.images,
            "words": found.words,
            "faces": found.faces,
            "failures": len(found.failures),
            "scores": {name: {"mean": score.mean, **score.buckets} for name, score in found.scores.items()},
            "counts": {name: score.counts for name, score in found.scores.items()},
        }
        print(named, json.dumps(results[named], indent=1), flush=True)
        stored = {"setting": given.setting, "data": made, "results": results, "provenance": provenance()}
        given.out.parent.mkdir(parents=True, exist_ok=True)
        given.out.write_text(json.dumps(stored, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
