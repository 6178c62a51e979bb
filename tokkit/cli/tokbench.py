"""tokkit bench tokbench"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from tokkit.bench.tokbench.run import Result

NONE = "none"
ALL = "all"


def bench_tokbench_command(
    model: Annotated[
        str,
        typer.Argument(
            help="A tokenizer's folder, identity, jpeg@30, python:module:function, command:..., diffusers:folder; originals; "
            "or folder:ROOT of reconstructions in TokBench's layout."
        ),
    ] = "",
    data: Annotated[Path | None, typer.Argument(help="TokBench's data: the folder with `images` and `annotations`.")] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Reconstructions, finished work and result.json; goes on there.")] = None,
    setting: Annotated[int, typer.Option(help="Side of the square: 256, 512 or 1024; of videos the shorter side: 256 or 480.")] = 256,
    video: Annotated[bool, typer.Option("--video", help="The videos of DATA instead of its pictures.")] = False,
    modality: Annotated[str, typer.Option(help="With --video: video for a function of clips, image for one of frames.")] = "image",
    recognizer: Annotated[str, typer.Option(help="parseq (the published t_acc, t_ned), rapidocr, tesseract, or none.")] = "rapidocr",
    recognizer_weights: Annotated[str | None, typer.Option(help="parseq-56125471.pt, where it is not in torch.hub's folder.")] = None,
    faces: Annotated[str, typer.Option(help="antelopev2 (the published f_sim), dlib, or none.")] = "dlib",
    faces_weights: Annotated[str | None, typer.Option(help="glintr100.onnx, where it is not in ~/.insightface.")] = None,
    sets: Annotated[str | None, typer.Option(help="Names with commas between, such as ic13,wflw; all when not given.")] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Pictures a pass of the tokenizer.")] = 8,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1 ...; auto is the GPU where there is one.")] = "auto",
    json: Annotated[Path | None, typer.Option(help="Where the result goes besides OUT/result.json.")] = None,
    report: Annotated[Path | None, typer.Option(help="Write an HTML file: scores, and words of every bucket with what was read.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a --json or --report that is there.")] = False,
    make_data: Annotated[Path | None, typer.Option(help="Render a text set into this folder instead of judging.")] = None,
    images: Annotated[int, typer.Option(min=1, help="Pictures to render.")] = 100,
    scripts: Annotated[str, typer.Option(help="With --make-data: latin,greek,arabic,... or all that fonts are here for.")] = "latin",
    fonts: Annotated[Path | None, typer.Option(help="With --make-data: a folder of fonts, instead of the machine's.")] = None,
    photos: Annotated[Path | None, typer.Option(help="With --make-data: also annotate the faces of this folder's photographs.")] = None,
    seed: Annotated[int, typer.Option(help="Of the rendered pictures.")] = 0,
) -> None:
    """Judge a tokenizer by what can still be read and recognized (TokBench).

    tokkit bench tokbench --make-data rendered/ --images 100

    tokkit bench tokbench runs/mine rendered/ --out tokbench/mine --setting 256

    tokkit bench tokbench runs/video TokBench/ --video --setting 480
    """
    from tokkit.bench.tokbench.faces import build_embedder
    from tokkit.bench.tokbench.layout import read_layout
    from tokkit.bench.tokbench.methods import home_of, open_method
    from tokkit.bench.tokbench.recognizers import build_recognizer
    from tokkit.bench.tokbench.report import write_report
    from tokkit.bench.tokbench.run import run
    from tokkit.bench.tokbench.video import run_video
    from tokkit.bench.tokbench.video_layout import read_video_layout
    from tokkit.cli.progress import bar
    from tokkit.devices import pick_device
    from tokkit.errors import InputError
    from tokkit.files import refuse_overwrite

    if make_data is not None:
        _make(make_data, recognizer, recognizer_weights, images, photos, seed, scripts, fonts)
        return
    if not model or data is None:
        raise InputError("bench tokbench: give a model and the folder of the data, or --make-data")
    for path in (json, report):
        if path is not None:
            refuse_overwrite(path, force=force)
    if video and report is not None:
        raise InputError("--report shows pictures, not videos; leave it out")
    wanted = tuple(name.strip() for name in sets.split(",")) if sets else None
    parts = read_video_layout(data, sets=wanted) if video else read_layout(data, sets=wanted)
    words = recognizer != NONE and any(part.kind == "text_data" for part in parts)
    portraits = faces != NONE and any(part.kind == "face_data" for part in parts)
    home = out or home_of(model)
    method = open_method(model, home, device, modality="image" if not video else modality)
    work = home / (f"video-{setting}" if video else str(setting))
    judge: Any = run_video if video else run
    with bar("reconstructing") as progress:
        result: Result = judge(
            method,
            parts,
            work,
            setting=setting,
            recognizer=build_recognizer(recognizer, weights=recognizer_weights, device=pick_device(device)) if words else None,
            embedder=build_embedder(faces, weights=faces_weights) if portraits else None,
            batch_size=batch_size,
            progress=progress,
        )
    _print(result)
    for path in (work / "result.json", json):
        if path is not None:
            result.write_json(path)
            print(path)
    if report is not None:
        write_report(result, method, report)
        print(report)
    for failure in result.failures:
        print(f"tokkit: {' '.join(failure.split())}", file=sys.stderr)
    if result.failures:
        raise typer.Exit(1)


def _make(
    folder: Path, recognizer: str, weights: str | None, images: int, photos: Path | None, seed: int, scripts: str, fonts: Path | None
) -> None:
    from tokkit.bench.tokbench.fonts import find_fonts
    from tokkit.bench.tokbench.generate import make_faces, make_text
    from tokkit.bench.tokbench.recognizers import build_recognizer
    from tokkit.bench.tokbench.scripts import SCRIPTS, find_script
    from tokkit.errors import InputError

    if recognizer != NONE:
        reader = build_recognizer(recognizer, weights=weights)
        wanted = [find_script(name.strip()) for name in (SCRIPTS if scripts == ALL else scripts.split(","))]
        for script in wanted:
            try:
                files = find_fonts(None if fonts is None else [fonts], script=script)
                count = make_text(folder, reader, images=images, seed=seed, script=script, fonts=files)
            except InputError as error:
                if scripts != ALL:
                    raise
                print(f"tokkit: left out: {error}", file=sys.stderr)
                continue
            print(f"{count} words in {script.name}, {len(files)} fonts: {folder}")
    if photos is not None:
        print(f"{make_faces(folder, photos)} faces: {folder}")


def _print(result: Result) -> None:
    from tokkit.bench.tokbench.scores import BUCKETS
    from tokkit.evaluate.table import number, print_columns

    heads = ["metric", *(f"{bucket} (n)" for bucket in BUCKETS), "mean"]
    rows = []
    for name, score in result.scores.items():
        cells = [f"{number(score.buckets[bucket])} ({score.counts[bucket]})" for bucket in BUCKETS]
        spread = "" if score.interval is None else f" ({number(score.interval[0])} to {number(score.interval[1])})"
        rows.append([name, *cells, number(score.mean) + spread])
    kind = "videos" if result.identity.get("video") else "pictures"
    print(f"{result.method} at {result.setting}: {result.images} {kind}, {result.words} words, {result.faces} faces")
    print_columns(heads, rows)
