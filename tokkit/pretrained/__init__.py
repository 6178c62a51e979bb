"""Small trained tokenizers that come with the package, to try things with: `Tokenizer.from_pretrained("tiny-image")`, no download."""

from __future__ import annotations

from pathlib import Path

_HERE = Path(__file__).parent


def names() -> list[str]:
    """Of the tokenizers that are here."""
    return sorted(path.parent.name for path in _HERE.glob("*/recipe.yaml"))


def resolve(named: str | Path) -> Path:
    """The folder of a tokenizer: what is there under that path, else the one here of that name, else the path."""
    path = Path(named)
    return _HERE / str(named) if not path.exists() and str(named) in names() else path
