"""tokkit bench"""

from __future__ import annotations

import json as jsonlib
from pathlib import Path
from typing import Annotated, Any

import typer

from tokkit.cli.encode import Precision

bench_app = typer.Typer(help="Measure speed: the kernels against their peers, encoding folders, streaming sound.", no_args_is_help=True)


@bench_app.command("lookup")
def bench_lookup_command(
    device: Annotated[str, typer.Option(help="cpu, cuda; auto is the GPU where there is one.")] = "auto",
    quick: Annotated[bool, typer.Option("--quick", help="Small and once, to see that it works.")] = False,
    autotune: Annotated[bool, typer.Option("--autotune", help="Also torch.compile's max-autotune, which compiles for minutes.")] = False,
    only: Annotated[str, typer.Option(help="Cases whose name contains this; several with | between them.")] = "",
    json: Annotated[Path | None, typer.Option(help="Write the measurement.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a result that is there.")] = False,
) -> None:
    """Time codebook lookup and the other kernels against what people use today, and count wrong indices.

    tokkit bench lookup --json lookup.json
    """
    from tokkit.bench.lookup import print_row, run
    from tokkit.files import refuse_unwritable

    if json is not None:
        refuse_unwritable(json, force=force)
    run(device, quick=quick, autotune=autotune, only=only, report=print_row, json_path=json)


@bench_app.command("stream")
def bench_stream_command(
    model: Annotated[Path, typer.Argument(help="Folder of a trained tokenizer for sound, with causal networks.")],
    sound: Annotated[Path | None, typer.Argument(help="What to stream; generated when not given.")] = None,
    seconds: Annotated[float, typer.Option(min=1, help="Of generated sound.")] = 30.0,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1 ...; auto is the GPU where there is one.")] = "auto",
    json: Annotated[Path | None, typer.Option(help="Write the measurement.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a result that is there.")] = False,
) -> None:
    """Stream a sound frame by frame: real-time factor, latency, memory, and whether it equals the whole at once.

    tokkit bench stream runs/mimi --seconds 60
    """
    from tokkit.bench.stream import describe, measure
    from tokkit.files import refuse_unwritable
    from tokkit.tokenizer import Tokenizer

    if json is not None:
        refuse_unwritable(json, force=force)
    tokenizer = Tokenizer.from_pretrained(model, device=device)
    values = None if sound is None else tokenizer.modality.read(sound).values
    report = measure(tokenizer, sound=values, seconds=seconds)
    for name in ("encode", "decode", "both"):
        factor = getattr(report, name)
        print(f"{name:<7} real-time factor p50 {factor.p50:.3f}  p95 {factor.p95:.3f}  p99 {factor.p99:.3f}")
    print(f"latency {1000 * report.latency_seconds:.0f} ms")
    print(f"codes equal {report.codes_equal:.2%}, largest difference of a sample {report.largest_difference:.1e}")
    _write(json, describe(report, tokenizer))


@bench_app.command("encode")
def bench_encode_command(
    model: Annotated[Path, typer.Argument(help="Folder of a trained tokenizer.")],
    folder: Annotated[Path, typer.Argument(help="Files of one size, or a folder of tokkit prepare.")],
    batch_size: Annotated[int, typer.Option(min=1, help="Samples a pass of the network.")] = 16,
    workers: Annotated[int, typer.Option(min=1, help="Threads that read files.")] = 4,
    runs: Annotated[int, typer.Option(min=1, help="Measurements, after one that is not counted.")] = 3,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1 ...; auto is the GPU where there is one.")] = "auto",
    precision: Annotated[Precision, typer.Option(help="Of the networks.")] = Precision.fp32,
    shards: Annotated[bool, typer.Option("--shards", help="Pack into shards: no waiting for the file system to make a file each.")] = False,
    out: Annotated[Path | None, typer.Option(help="Measure writing into this folder; nothing stays there.")] = None,
    json: Annotated[Path | None, typer.Option(help="Write the measurement.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a result that is there.")] = False,
) -> None:
    """Encode a folder end to end, against the pace of the network alone.

    tokkit bench encode runs/smoke photos/ --json encode.json

    tokkit bench encode runs/shapes shards/val               # what tokkit prepare wrote: from prepared points, no mesh is read
    """
    from tokkit.bench.encode import measure_encode, report
    from tokkit.bulk.encode import EncodeOptions
    from tokkit.files import refuse_unwritable
    from tokkit.tokenizer import Tokenizer

    if json is not None:
        refuse_unwritable(json, force=force)
    tokenizer = Tokenizer.from_pretrained(model, device=device, precision=precision.value)
    options = EncodeOptions(batch_size=batch_size, workers=workers, shards=shards)
    rates = measure_encode(tokenizer, folder, options, runs=runs, out=out)
    for name in ("network", "end_to_end"):
        print(f"{name:<10}  {', '.join(f'{rate:.1f}' for rate in getattr(rates, name))} samples/s")
    print(f"end to end is {rates.ratio:.1%} of the network alone" + (f", written to {rates.storage}" if rates.storage else ""))
    _write(json, report(rates, tokenizer, options))


def _write(path: Path | None, result: dict[str, Any]) -> None:
    from tokkit.files import replacing

    if path is not None:
        with replacing(path) as part:
            part.write_text(jsonlib.dumps(result, indent=1) + "\n", encoding="utf-8")
        print(path)
