"""Pictures on disk for the data tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
import pytest


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Indexes of tars go to a temporary folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def pictures(tmp_path: Path) -> Callable[..., Path]:
    """Makes a folder of PNG files: `pictures("a.png", "b/c.png")`. Each is a smooth one, told apart by its blue."""

    def make(*names: str, side: int = 20) -> Path:
        root = tmp_path / "pictures"
        for number, name in enumerate(names):
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            y, x = np.mgrid[:side, : side + 4] * 10
            pixels = np.stack([y, x, np.full_like(x, number)], -1).astype(np.uint8)
            PIL.Image.fromarray(pixels).save(path, "PNG")
        return root

    return make
