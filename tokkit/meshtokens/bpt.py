"""Blocked and patched mesh sequences (BPT)."""

from __future__ import annotations

import heapq
from collections import defaultdict
from typing import Annotated, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from tokkit.errors import InputError, TokenFileError
from tokkit.geometry.frame import Frame
from tokkit.geometry.triangles import cleaned
from tokkit.meshtokens.base import MeshTokens
from tokkit.registry import register
from tokkit.tokens import Tokens


@register("meshtokens", "bpt")
class BlockPatch(MeshTokens):
    """Blocked patches of triangles around a vertex, after BPT (https://arxiv.org/abs/2411.07025); reversible but for the rounding.

    Places are rounded to blocks^3 blocks of offsets^3 places. A patch is a fan: a centre c and vertices v0, v1, ... with the triangles
    (c, v0, v1), (c, v1, v2), ...; the centre is always the vertex with the most triangles that are in no patch yet. A vertex is its block,
    then its offset in it; a block that repeats the one before is left out; the block of a centre has ids of its own, which begin a patch.
    Ids: offsets, then blocks, then blocks of centres: 4096 + 512 + 512 with BPT's sizes.

    The frame is the file's: bounding box centre, longest side; it is among the extras of the tokens.
    """

    name: ClassVar[str] = "bpt"

    def __init__(self, *, blocks: Annotated[int, Field(ge=1)] = 8, offsets: Annotated[int, Field(ge=2)] = 16):
        """
        Args:
            blocks: along a side.
            offsets: places along a side of a block; blocks * offsets is the resolution, 128 by default.
        """
        self.blocks = blocks
        self.offsets = offsets
        self.resolution = blocks * offsets
        self.vocabulary_size = offsets**3 + 2 * blocks**3

    @property
    def rules(self) -> str:
        return f"blocks={self.blocks} offsets={self.offsets}"

    def encode(self, values: Tensor, *, name: str = "") -> Tokens:
        if values.ndim != 2 or len(values) != 9:
            raise InputError(f"{name or 'the mesh'}: bpt takes a mesh [9, F], got {list(values.shape)}; a point cloud has no triangles")
        triangles = cleaned(np.ascontiguousarray(values.detach().cpu().double().numpy().T).reshape(-1, 3, 3))
        if not len(triangles):
            raise InputError(f"{name or 'the mesh'}: no triangle with an area")
        frame = Frame.of(triangles.reshape(-1, 3))
        places = np.rint((frame.enter(triangles) + 1) / 2 * (self.resolution - 1)).astype(np.int64).clip(0, self.resolution - 1)
        numbers = (places[..., 2] * self.resolution + places[..., 1]) * self.resolution + places[..., 0]
        distinct = (numbers != np.roll(numbers, 1, axis=1)).all(axis=1)
        ids = [code for patch in fans(numbers[distinct]) for code in self._patch_ids(patch)]
        return Tokens(
            codes=torch.tensor(ids, dtype=torch.int64).view(1, -1, 1),
            codebook_sizes=(self.vocabulary_size,),
            grid=(),
            modality="mesh",
            tokenizer=self.name,
            fingerprint=self.fingerprint,
            names=(name,),
            extra_fields=("x", "y", "z", "a", "b", "c"),
            extras=(frame.numbers,),
        )

    def decode(self, tokens: Tokens) -> Tensor:
        self.check(tokens)
        faces = [
            (patch[0], patch[i], patch[i + 1]) for patch in self._patches(tokens.codes[0, :, 0].tolist()) for i in range(1, len(patch) - 1)
        ]
        numbers = np.array(faces, dtype=np.int64).reshape(-1, 3)
        places = np.stack([numbers % self.resolution, numbers // self.resolution % self.resolution, numbers // self.resolution**2], axis=-1)
        corners = Frame.from_numbers(tokens.extras[0]).leave(places / (self.resolution - 1) * 2 - 1)
        return torch.from_numpy(corners.reshape(-1, 9).T.astype(np.float32))

    def _patch_ids(self, patch: list[int]) -> list[int]:
        first_block, first_center = self.offsets**3, self.offsets**3 + self.blocks**3
        ids: list[int] = []
        before = -1
        for position, number in enumerate(patch):
            block, offset = self._split(number)
            if position == 0:
                ids.append(first_center + block)
            elif block != before:
                ids.append(first_block + block)
            ids.append(offset)
            before = block
        return ids

    def _patches(self, ids: list[int]) -> list[list[int]]:
        """The vertex numbers of every patch."""
        first_block, first_center = self.offsets**3, self.offsets**3 + self.blocks**3
        patches: list[list[int]] = []
        block, fresh = -1, False
        for position, code in enumerate(ids):
            if code >= first_block:
                if fresh:
                    raise TokenFileError(f"bpt: token {position} is a block, and so is the one before; an offset must follow a block")
                block, fresh = (code - first_block) % self.blocks**3, True
                if code >= first_center:
                    patches.append([])
            elif block < 0 or not patches:
                raise TokenFileError(f"bpt: token {position} is an offset before the first patch")
            else:
                patches[-1].append(self._join(block, code))
                fresh = False
        if fresh or any(len(patch) < 3 for patch in patches):
            raise TokenFileError("bpt: the sequence ends at a block, or a patch has fewer than 3 vertices")
        return patches

    def _split(self, number: int) -> tuple[int, int]:
        x, y, z = number % self.resolution, number // self.resolution % self.resolution, number // self.resolution**2
        side, places = self.blocks, self.offsets
        block = (z // places * side + y // places) * side + x // places
        return block, (z % places * places + y % places) * places + x % places

    def _join(self, block: int, offset: int) -> int:
        side, places = self.blocks, self.offsets
        x = block % side * places + offset % places
        y = block // side % side * places + offset // places % places
        z = block // side**2 * places + offset // places**2
        return (z * self.resolution + y) * self.resolution + x


def fans(faces: np.ndarray) -> list[list[int]]:
    """Triangles [F, 3] of vertex numbers as fans [c, v0, v1, ...], every triangle in exactly one, its corners in the same turn.

    The centre is the vertex with the most triangles left, of equals the one with the lowest number.
    """
    around: dict[int, list[int]] = defaultdict(list)
    for face, corners in enumerate(faces.tolist()):
        for vertex in corners:
            around[vertex].append(face)
    left = {vertex: len(found) for vertex, found in around.items()}
    heap = [(-count, vertex) for vertex, count in left.items()]
    heapq.heapify(heap)
    done = np.zeros(len(faces), dtype=bool)
    result: list[list[int]] = []
    while heap:
        count, center = heapq.heappop(heap)
        if -count != left[center]:
            if left[center]:
                heapq.heappush(heap, (-left[center], center))
            continue
        if not count:
            break
        following: dict[int, list[int]] = defaultdict(list)
        arrivals: dict[int, int] = defaultdict(int)
        for face in around[center]:
            if done[face]:
                continue
            done[face] = True
            corners = faces[face].tolist()
            at = corners.index(center)
            one, other = corners[(at + 1) % 3], corners[(at + 2) % 3]
            following[one].append(other)
            arrivals[other] += 1
            for vertex in corners:
                left[vertex] -= 1
        result.extend([center, *chain] for chain in _chains(following, arrivals))
    return result


def _chains(following: dict[int, list[int]], arrivals: dict[int, int]) -> list[list[int]]:
    """The edges one -> other of a graph as paths, each edge in one of them; paths begin where more edges leave than arrive."""
    for others in following.values():
        others.sort(reverse=True)
    chains = [_walk(vertex, following) for vertex in sorted(following) for _ in range(len(following[vertex]) - arrivals[vertex])]
    for vertex in sorted(following):
        while following[vertex]:
            chains.append(_walk(vertex, following))
    return chains


def _walk(start: int, following: dict[int, list[int]]) -> list[int]:
    """From a vertex on until no edge leaves, taking the edges away."""
    chain = [start]
    while following[chain[-1]]:
        chain.append(following[chain[-1]].pop())
    return chain
