"""tokkit export"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from tokkit.errors import InputError


class Format(StrEnum):
    """As in `tokkit.export`."""

    torch = "torch"
    onnx = "onnx"


class Part(StrEnum):
    """As in `tokkit.export`; both when not given."""

    encoder = "encoder"
    decoder = "decoder"


def export_command(
    model: Annotated[Path, typer.Argument(help="Folder of the tokenizer.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="A folder.")],
    size: Annotated[str, typer.Option(help="Of the inputs: 256x256 pixels, 24000 samples, or 17x128x128 frames and pixels.")],
    format: Annotated[Format, typer.Option(help="torch: for torch.export.load; onnx.")] = Format.torch,
    part: Annotated[Part | None, typer.Option(help="One of the two alone.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace files that are there.")] = False,
) -> None:
    """Write encoder and decoder as programs that run without tokkit.

    tokkit export runs/smoke -o exported/ --size 256x256

    tokkit export runs/codec -o exported/ --size 24000 --format onnx
    """
    from tokkit.export import export
    from tokkit.tokenizer import Tokenizer

    try:
        sizes = [int(number) for number in size.split("x")]
    except ValueError as error:
        raise InputError(f"--size {size}: give whole numbers with x between, such as 256x256") from error
    parts: list[Any] = [member.value for member in Part] if part is None else [part.value]
    described = export(Tokenizer.from_pretrained(model), out, size=sizes, format=format.value, parts=parts, force=force)
    for name in parts:
        print(f"{out / described[name]['file']}: {_said(described[name])}")


def _said(check: dict[str, Any]) -> str:
    if not check["checked"]:
        return "not checked, onnxruntime is not installed"
    if "other_codes" in check:
        return f"{1 - check['other_codes']:.2%} of the tokenizer's codes, of random values"
    return f"the tokenizer's values to {check['mean_difference']:.1g} on average"
