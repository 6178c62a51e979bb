"""tokkit eval"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from tokkit.data.base import Source
    from tokkit.evaluate.result import Evaluation
    from tokkit.modalities.base import Modality

SAMPLES = "samples"
TARS = (".tar", ".tar.gz", ".tgz")


def eval_command(
    model: Annotated[
        str,
        typer.Argument(
            help="Folder of a trained tokenizer; or identity, jpeg@30, python:module:function, folder:reconstructions, "
            "'command:tool {input} {output}', diffusers:folder, transformers:folder, torchhub:folder:entry."
        ),
    ],
    data: Annotated[list[str], typer.Argument(help="Files, folders, tar shards; or `samples`, pictures that come with scikit-image.")],
    metrics: Annotated[str | None, typer.Option(help="Names with commas between; the modality's usual ones when not given.")] = None,
    baselines: Annotated[str | None, typer.Option(help="Codecs to judge at the same bytes: jpeg,webp,avif.")] = None,
    json: Annotated[Path | None, typer.Option(help="Write everything that was measured.")] = None,
    csv: Annotated[Path | None, typer.Option(help="Write one line a sample and system.")] = None,
    report: Annotated[Path | None, typer.Option(help="Write an HTML file with plots and pictures, worst cases first.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Samples to look at.")] = None,
    curve_samples: Annotated[int, typer.Option(min=0, help="Samples that the curves of rate against quality are made of.")] = 32,
    batch_size: Annotated[int, typer.Option(min=1, help="Samples a pass of the network.")] = 8,
    seed: Annotated[int, typer.Option(help="Of the confidence intervals and the choice of pictures.")] = 0,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1 ...; auto is the GPU where there is one.")] = "auto",
    work: Annotated[Path | None, typer.Option(help="Folder of finished work: goes on there, and several processes share it.")] = None,
    modality: Annotated[
        str | None, typer.Option(help="Of the samples; a trained tokenizer and a codec bring their own, else image.", show_default=False)
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace results that are there.")] = False,
) -> None:
    """Measure what a tokenizer loses, and at how many bytes.

    tokkit eval runs/smoke samples --baselines jpeg,webp --report report.html

    tokkit eval runs/mine photos/ --metrics psnr,ssim,fd/dinov2-b --json mine.json

    tokkit eval python:theirs.package:reconstruct photos/ --json theirs.json

    accelerate launch -m tokkit eval runs/mine imagenet/val --metrics psnr,fid --work work/mine --json mine.json
    """
    from tokkit.cli.progress import bar
    from tokkit.errors import InputError
    from tokkit.evaluate.adapters import modality_of, open_system
    from tokkit.evaluate.run import Options, evaluate
    from tokkit.evaluate.scale import Processes, evaluate_large
    from tokkit.evaluate.table import print_table
    from tokkit.files import refuse_unwritable

    for path in (json, csv, report):
        if path is not None:
            refuse_unwritable(path, force=force)
    together = Processes.join(device)
    if together.world > 1 and work is None:
        raise InputError(f"{together.world} processes: give --work, a folder where they put together what each has counted")
    system = open_system(model, modality or modality_of(model), device=together.device)
    options = Options(batch_size=batch_size, limit=limit, curve_samples=curve_samples, seed=seed)
    found = find_data(system.modality, data)
    asked: dict[str, Any] = {"metrics": _names(metrics), "baselines": _names(baselines) or (), "options": options}
    with bar("evaluating") as progress:
        if work is None:
            evaluation = evaluate(system, found, **asked, progress=progress)
        else:
            joined = evaluate_large(system, found, work, **asked, processes=together, progress=progress)
            if joined is None:
                return
            evaluation = joined
    print_table(evaluation)
    if json is not None:
        evaluation.write_json(json, force=force)
    if csv is not None:
        evaluation.write_csv(csv, force=force)
    if report is not None:
        from tokkit.evaluate.report import write_report

        write_report(evaluation, report, force=force)
    for path in (json, csv, report):
        if path is not None:
            print(path)
    complain(evaluation)


def find_data(modality: Modality, given: list[str]) -> list[Source | str]:
    """What was named on the command line, as what `evaluate` takes.

    Raises:
        InputError: something is not there.
    """
    from tokkit import registry
    from tokkit.errors import InputError

    found: list[Source | str] = []
    for name in given:
        path = Path(name)
        if name == SAMPLES and not path.exists():
            found.append(registry.build("data", SAMPLES).open(modality, split="val"))
        elif path.is_dir() and not modality.is_folder(path):  # a folder of frames is one sample
            found.append(registry.build("data", "folder", path=name).open(modality, split="val"))
        elif path.name.lower().endswith(TARS):
            found.append(registry.build("data", "shards", path=name).open(modality, split="val"))
        elif path.exists():
            found.append(name)
        else:
            raise InputError(f"{name}: no such file or folder")
    return found


def complain(evaluation: Evaluation) -> None:
    """Name what was skipped, one a line; exit 1 when anything was."""
    for skipped in evaluation.skipped:
        print(f"tokkit: {skipped.sample}: {' '.join(skipped.reason.split())}", file=sys.stderr)
    if evaluation.skipped:
        raise typer.Exit(1)


def _names(listed: str | None) -> list[str] | None:
    return None if listed is None else [name.strip() for name in listed.split(",") if name.strip()]
