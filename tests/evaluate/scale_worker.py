"""One of several processes that evaluate together. Run by test_eval_scale.py, which has set RANK and WORLD_SIZE: folder."""

from __future__ import annotations

import sys
from pathlib import Path

from scale_cases import CASE, samples

from tokkit.evaluate import scale

scale.CHUNK = 4


def main(folder: Path) -> None:
    together = scale.Processes.join("cpu")
    assert together.world == 2 and together.device == "cpu"
    found = scale.evaluate_large(CASE.system(), samples(), folder / "work", **CASE.options(), processes=together)
    assert (found is None) == (together.rank == 1)
    if found is not None:
        found.write_json(folder / "together.json")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
