"""tokkit list"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tokkit import registry
from tokkit.errors import InputError

RECIPES = "recipes"


def list_command(
    kind: Annotated[
        str | None, typer.Argument(help="quantizers, encoders, decoders, metrics ... or recipes; everything when not given.")
    ] = None,
) -> None:
    """List the components that recipes can name, and the recipes below ./recipes.

    tokkit list quantizers
    """
    kinds = [*registry.PACKAGES, RECIPES]
    if kind is not None:
        singular = {plural: one for one in kinds for plural in (one, f"{one}s", one.removesuffix("y") + "ies")}
        if kind not in singular:
            raise InputError(f"list: no kind {kind!r}{registry.suggest(kind, singular)}; kinds: {', '.join(kinds)}")
        kinds = [singular[kind]]
    for shown in kinds:
        rows = _recipes() if shown == RECIPES else [(entry.name, entry.summary) for _, entry in sorted(registry.entries(shown).items())]
        width = max((len(name) for name, _ in rows), default=0)
        if len(kinds) > 1:
            print(f"{shown}:" if rows else f"{shown}: none")
        for name, summary in rows:
            print(f"  {name:<{width}}  {summary}".rstrip())


def _recipes() -> list[tuple[str, str]]:
    """Paths below ./recipes and the comment that each begins with."""
    rows = []
    for path in sorted(Path(RECIPES).rglob("*.yaml")):
        first = path.read_text(encoding="utf-8").partition("\n")[0]
        rows.append((str(path), first.removeprefix("#").strip() if first.startswith("#") else ""))
    return rows
