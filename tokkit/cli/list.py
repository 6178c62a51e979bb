"""tokkit list"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tokkit import pretrained, registry
from tokkit.errors import InputError

RECIPES = "recipes"
PRETRAINED = "pretrained"


def list_command(
    kind: Annotated[
        str | None, typer.Argument(help="quantizers, encoders, decoders, metrics ..., pretrained or recipes; everything when not given.")
    ] = None,
) -> None:
    """List the components that recipes can name, the tokenizers that come with the package, and the recipes below ./recipes.

    tokkit list quantizers
    """
    kinds = [*registry.PACKAGES, PRETRAINED, RECIPES]
    if kind is not None:
        singular = {plural: one for one in kinds for plural in (one, f"{one}s", one.removesuffix("y") + "ies")}
        if kind not in singular:
            raise InputError(f"list: no kind {kind!r}{registry.suggest(kind, singular)}; kinds: {', '.join(kinds)}")
        kinds = [singular[kind]]
    for shown in kinds:
        rows = _rows(shown)
        width = max((len(name) for name, _ in rows), default=0)
        if len(kinds) > 1:
            print(f"{shown}:" if rows else f"{shown}: none")
        for name, summary in rows:
            print(f"  {name:<{width}}  {summary}".rstrip())


def _rows(kind: str) -> list[tuple[str, str]]:
    """Names and what they are."""
    if kind == RECIPES:
        return [(str(path), _first_comment(path)) for path in sorted(Path(RECIPES).rglob("*.yaml"))]
    if kind == PRETRAINED:
        return [(name, _first_line(pretrained.resolve(name) / "README.md")) for name in pretrained.names()]
    return [(entry.name, entry.summary) for _, entry in sorted(registry.entries(kind).items())]


def _first_line(path: Path) -> str:
    return path.read_text(encoding="utf-8").partition("\n")[0].removeprefix("#").strip()


def _first_comment(path: Path) -> str:
    """What a recipe begins with, where that is a comment."""
    first = path.read_text(encoding="utf-8").partition("\n")[0]
    return first.removeprefix("#").strip() if first.startswith("#") else ""
