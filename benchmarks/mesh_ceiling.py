"""What a perfect network could score: the exact signed distance of meshes, through layers, grid and marching cubes. Runs on a CPU.

python benchmarks/mesh_ceiling.py --data meshes-val/ --every 10 --out benchmarks/results/mesh-ceiling.json
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import tokkit
from tokkit.evaluate.provenance import provenance
from tokkit.geometry.field import LayeredField
from tokkit.geometry.isosurface import isosurface
from tokkit.geometry.shape import Solid
from tokkit.modalities.mesh import triangles_of

CASES = ((2, 128), (2, 64), (1, 128), (1, 64))
"""Layers, and cells along a side of the grid."""
CELLS = (6, 8, 10)


def through(values: Tensor, layers: int, resolution: int) -> Tensor:
    """The mesh that decoding makes of the exact field."""
    solid = Solid.of(triangles_of(values), fit="box", layers=layers)
    field = LayeredField(solid.triangles, solid.groups, layers=layers)
    triangles = isosurface(lambda points: torch.from_numpy(field(points.double().numpy())), resolution, band=0.1)
    return torch.from_numpy(solid.frame.leave(triangles).reshape(-1, 9).T.astype(np.float32))


def occupied(values: Tensor, cells: int) -> int:
    """Cells of a grid, `cells` along a side, that the surface passes."""
    points = Solid.of(triangles_of(values), fit="box", layers=1).sample(20_000, 0, np.random.default_rng(0))[:, :3]
    return len(np.unique(np.floor((points + 1) * cells / 2), axis=0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of mesh files")
    parser.add_argument("--every", type=int, default=1, help="take every so manyth of them")
    parser.add_argument("--out", type=Path, default=None)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    metric, modality = tokkit.build("metric", "fscore_0.02"), tokkit.build("modality", "mesh")
    rows: list[dict[str, Any]] = []
    for file in sorted(arguments.data.glob("*.obj"))[:: arguments.every]:
        values = modality.load(file)[0]
        row = {"sample": file.stem, "triangles": values.shape[1], "itself": metric(values, values.clone())}
        row |= {f"layers {layers}, {resolution} cells": metric(values, through(values, layers, resolution)) for layers, resolution in CASES}
        row |= {f"occupied of {cells}^3": occupied(values, cells) for cells in CELLS}
        print(json.dumps(row), flush=True)
        rows.append(row)
    if arguments.out is not None:
        report = {"bench": "mesh-ceiling", **provenance(), "data": arguments.data.name, "metric": "fscore_0.02", "rows": rows}
        arguments.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
