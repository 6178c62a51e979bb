"""More shapes of the kind that a folder holds: parts of some shapes take the places of parts of others.

python benchmarks/mix_meshes.py meshes-train/ --out meshes-mixed/ --count 1690

Made for shapes of a few bodies (pybullet's random objects have 5 in the median). A new shape is an old one in which every other body gives
its place to a body of another shape, turned, mirrored and stretched to fill the same box; the box itself is moved and stretched somewhat,
so that the arrangements differ as well. Nothing but the given shapes goes into it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from tokkit.errors import InputError
from tokkit.geometry.triangles import Array, bodies, cleaned, weld
from tokkit.modalities.mesh import Mesh, triangles_of

MOST_BODIES = 24
MOST_TRIANGLES = 2000
THINNEST = 0.02
"""Bodies that are thinner than this share of their shape stay where they are: stretching would make a sheet of something else."""


def parts_of(file: Path) -> list[Array]:
    """The bodies of a mesh file in the cube [-1, 1]; none where it is not made of a few closed ones."""
    triangles = cleaned(triangles_of(Mesh().load(file)[0]))
    if not 0 < len(triangles) <= MOST_TRIANGLES:
        return []
    label, closed = bodies(*weld(triangles))
    if not closed.all() or len(closed) > MOST_BODIES:
        return []
    low, high = box(triangles)
    triangles = (triangles - (low + high) / 2) / ((high - low).max() / 2)
    return [triangles[label == number] for number in range(len(closed))]


def box(triangles: Array) -> tuple[Array, Array]:
    corners = triangles.reshape(-1, 3)
    return corners.min(axis=0), corners.max(axis=0)


def mixed(shape: list[Array], shapes: list[list[Array]], rng: np.random.Generator, *, share: float, move: float, stretch: float) -> Array:
    """One new shape."""
    result = []
    for part in shape:
        low, high = box(part)
        middle, size = (low + high) / 2, high - low
        other = shapes[rng.integers(len(shapes))]
        guest = other[rng.integers(len(other))]
        begin, end = box(guest)
        if rng.random() < share and min(size.min(), (end - begin).min()) > THINNEST:
            unit = _turned((guest - (begin + end) / 2) / (end - begin), rng)
            part = unit * size + middle
        scale = np.exp(rng.uniform(-stretch, stretch, 3))
        result.append((part - middle) * scale + middle + rng.uniform(-move, move, 3) * size)
    return np.concatenate(result)


def _turned(triangles: Array, rng: np.random.Generator) -> Array:
    """By one of the 48 symmetries of the cube; outside stays outside."""
    symmetry = np.eye(3)[rng.permutation(3)] * rng.choice([-1.0, 1.0], 3)
    turned = triangles @ symmetry
    return turned if np.linalg.det(symmetry) > 0 else turned[:, ::-1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("meshes", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, default=1690)
    parser.add_argument("--share", type=float, default=0.6, help="of the bodies that are replaced")
    parser.add_argument("--move", type=float, default=0.15, help="a body is moved by at most this share of its size, along each axis")
    parser.add_argument("--stretch", type=float, default=0.15, help="a body is stretched or squeezed by at most this, along each axis")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    shapes = []
    for path in sorted(given.meshes.iterdir()):
        try:
            parts = parts_of(path)
        except (InputError, ValueError) as error:
            print(f"{path}: {error}")
            continue
        if parts:
            shapes.append(parts)
    print(f"{len(shapes)} shapes of {sum(map(len, shapes))} bodies")
    rng = np.random.default_rng(given.seed)
    given.out.mkdir(parents=True, exist_ok=True)
    for number in range(given.count):
        triangles = mixed(shapes[number % len(shapes)], shapes, rng, share=given.share, move=given.move, stretch=given.stretch)
        vertices, faces = weld(triangles)
        lines = [f"v {x:.6f} {y:.6f} {z:.6f}" for x, y, z in vertices] + [f"f {a} {b} {c}" for a, b, c in faces + 1]
        (given.out / f"mixed_{number:05d}.obj").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
