"""tokkit inspect"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tokkit import pretrained
from tokkit.errors import InputError


def inspect_command(
    target: Annotated[Path | None, typer.Argument(help="A tokenizer's folder, a .tok file or a recipe.")] = None,
    ops: Annotated[bool, typer.Option("--ops", help="Say which kernel backend would run here, and why.")] = False,
) -> None:
    """Say what a tokenizer, a token file or a recipe is.

    tokkit inspect runs/smoke

    tokkit inspect cat.tok

    tokkit inspect --ops
    """
    if ops:
        _show_ops()
        return
    if target is None:
        raise InputError("inspect: give a tokenizer's folder, a .tok file or a recipe, or --ops")
    target = pretrained.resolve(target)
    if not target.exists():
        raise InputError(f"{target}: no such file or folder")
    if target.is_dir():
        _show_tokenizer(target)
    elif target.suffix == ".tok":
        _show_tokens(target)
    elif target.suffix in (".yaml", ".yml"):
        from tokkit.recipe import Recipe

        print(Recipe.load(target).to_yaml(), end="")
    else:
        raise InputError(f"{target}: neither a folder, a .tok file nor a .yaml recipe")


def _show_tokenizer(folder: Path) -> None:
    from tokkit.tokenizer import Tokenizer

    tokenizer = Tokenizer.from_pretrained(folder)
    quantizer = tokenizer.quantizer
    _table(
        [
            ("name", tokenizer.name),
            ("fingerprint", tokenizer.fingerprint),
            ("modality", tokenizer.modality.name),
            ("stride", _sizes(tokenizer.encoder.strides[:1] if len(set(tokenizer.encoder.strides)) == 1 else tokenizer.encoder.strides)),
            ("codebooks", _sizes(quantizer.codebook_sizes)),
            ("bits a token", str(quantizer.bits_per_token)),
            *((f"{part} parameters", f"{_count(getattr(tokenizer, part)):,}") for part in ("encoder", "quantizer", "decoder")),
        ]
    )
    print()
    print(tokenizer.recipe().to_yaml(), end="")


def _show_tokens(path: Path) -> None:
    from tokkit.tokens import TokenReader

    with TokenReader(path) as reader:
        header = reader.header
        infos = [reader.info(index) for index in range(min(len(reader), 10))]
        rows = [
            ("tokenizer", header.tokenizer or "unknown"),
            ("fingerprint", header.fingerprint or "none"),
            ("modality", header.modality or "unknown"),
            ("codebooks", _sizes(header.codebook_sizes)),
            ("samples", str(len(reader))),
            ("file", f"{path.stat().st_size:,} bytes"),
        ]
        if header.sample_rate:
            rows.append(("sample rate", f"{header.sample_rate} Hz"))
        _table(rows)
        for info in infos:
            shape = "x".join(map(str, info.grid)) or "set"
            bits = info.positions * sum(header.widths)
            print(f"  {info.name or '(no name)'}: size {'x'.join(map(str, info.size))}, grid {shape}, {info.positions} tokens, {bits} bits")
        if len(reader) > len(infos):
            print(f"  ... and {len(reader) - len(infos)} more")


def _show_ops() -> None:
    from tokkit.ops import describe_backends

    rows = [(str(row.op), f"{row.backend}: {row.why}") for row in describe_backends()]
    _table(rows)


def _count(module: object) -> int:
    return sum(parameter.numel() for parameter in module.parameters())  # type: ignore[attr-defined]


def _sizes(sizes: tuple[int, ...]) -> str:
    return f"{len(sizes)} x {sizes[0]}" if len(set(sizes)) == 1 and len(sizes) > 1 else ", ".join(map(str, sizes))


def _table(rows: list[tuple[str, str]]) -> None:
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        print(f"{name:<{width}}  {value}")
