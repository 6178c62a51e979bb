"""The architecture as a test: imports go down only, siblings of a row do not import each other, and `import tokkit` is light."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "tokkit"

ROWS = [
    {"errors", "bounds"},
    {"registry"},
    {"config", "weights", "ffmpeg", "files", "ops", "geometry", "dsp", "tiling", "devices", "fingerprint", "output", "pretrained"},
    {"tokens"},
    {"modalities", "networks", "quantizers", "losses", "metrics", "baselines", "meshtokens"},
    {"data", "prefixes", "search", "streaming"},
    {"recipe", "encoding"},
    {"tokenizer"},
    {"chunking", "footage", "export"},
    {"train", "bulk", "evaluate"},
    {"bench", "prior"},
    {"cli"},
]
"""From the bottom up. `tokkit/__init__.py` and `__main__.py` stand above all."""

LEVEL = {name: level for level, row in enumerate(ROWS) for name in row}
TOP = {"__init__", "__main__"}


def part_of(path: Path) -> str:
    relative = path.relative_to(ROOT)
    return relative.parts[0] if len(relative.parts) > 1 else relative.stem


def imported(path: Path) -> set[str]:
    """The parts of tokkit that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("tokkit.")}
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "tokkit":
            parts = node.module.split(".")
            found |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
    return found


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_down(path: Path) -> None:
    part = part_of(path)
    if part in TOP:
        return
    assert part in LEVEL, f"{part} stands in no row: give it one in ROWS"
    for other in imported(path) - {part}:
        assert other in LEVEL, f"{path}: imports tokkit.{other}, which stands in no row"
        assert LEVEL[other] < LEVEL[part], f"{path}: {part} (row {LEVEL[part]}) must not import {other} (row {LEVEL[other]})"


def test_importing_tokkit_and_listing_load_no_torch() -> None:
    code = (
        "import sys, tokkit; tokkit.names('quantizer'); import tokkit.cli.main, tokkit.tokens; "
        "print(sorted({'torch', 'numpy.random', 'timm', 'PIL'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() in ("[]", "['numpy.random']")


def test_no_file_outgrows_its_idea() -> None:
    long = {str(path.relative_to(ROOT)): lines for path in ROOT.rglob("*.py") if (lines := len(path.read_text().splitlines())) > 420}
    assert not long
