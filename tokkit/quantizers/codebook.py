"""A learned codebook: the building block of the vector quantizers. Not a component itself."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from tokkit.ops.codebook_lookup import codebook_lookup
from tokkit.ops.codebook_update import segment_sums
from tokkit.quantizers.ranks import copy_from_first, gather_rows, sum_over_ranks, world_size

Metric = Literal["euclidean", "cosine"]
Learning = Literal["ema", "gradient"]

KMEANS_ITERATIONS = 10
KMEANS_ROWS_PER_CODE = 64
CHECK_DEAD_EVERY = 5


class Codebook(nn.Module):
    """K vectors that learn to cover what they are shown.

    One training step is `maintain` (start from k-means, replace dead codes), `nearest`, `rows`, `observe` (moving averages), in this order:
    `maintain` writes into the weight before anything differentiates through it. All ranks hold the same codebook at all times: k-means and
    replacements draw from the rows of all of them, and the moving averages are of sums over them.

    Attributes:
        weight: [K, d] the vectors; a parameter when learned by gradient, else a buffer. With the cosine metric their length means nothing.
        counts: [K] moving average of how many rows a step assigns to each code.
        sums: [K, d] moving average of the sum of those rows (`learning="ema"` only).
        started: whether the first batch was seen.
        steps: training steps so far, which say when dead codes are looked for.
    """

    def __init__(
        self,
        *,
        size: int,
        dim: int,
        metric: Metric = "euclidean",
        learning: Learning = "ema",
        decay: float = 0.99,
        kmeans_init: bool = True,
        dead_threshold: float = 0.1,
    ):
        """
        Args:
            size: K.
            dim: d.
            metric: "cosine" compares directions; the codes are unit vectors then, and the rows given must be too.
            learning: "ema" moves a code to the mean of its rows; "gradient" leaves it to the codebook loss and the optimizer.
            decay: of the moving averages, for a step.
            kmeans_init: start from k-means on the first batch of all ranks.
            dead_threshold: a code used less than this fraction of uniform usage is replaced by a row of the batch; 0 never replaces.
        """
        super().__init__()
        self.size = size
        self.dim = dim
        self.metric: Metric = metric
        self.learning: Learning = learning
        self.decay = decay
        self.kmeans_init = kmeans_init
        self.dead_threshold = dead_threshold
        weight = torch.randn(size, dim) / math.sqrt(dim)
        self.weight: Tensor
        self.counts: Tensor
        self.sums: Tensor
        self.started: Tensor
        self.steps: Tensor
        if learning == "gradient":
            self.weight = nn.Parameter(weight)
        else:
            self.register_buffer("weight", weight)
            self.register_buffer("sums", weight.clone())
        self.register_buffer("counts", torch.ones(size))
        self.register_buffer("started", torch.tensor(False))
        self.register_buffer("steps", torch.tensor(0))
        self._known_started, self._known_steps = False, 0

    @property
    def vectors(self) -> Tensor:
        """[K, d] fp32, the vectors as they are compared and returned."""
        weight = self.weight.float()
        if self.metric == "cosine":
            # A copy, because normalize keeps its input for the backward pass and `maintain` may write into the weight before that.
            return functional.normalize(weight.clone() if self.training else weight, dim=-1)
        return weight

    def nearest(self, rows: Tensor) -> Tensor:
        """Codes of rows: [..., d] -> [...] int64, the lowest of equals."""
        codes = codebook_lookup(rows.detach().reshape(-1, self.dim), self.vectors.detach(), metric=self.metric)
        return codes.view(rows.shape[:-1])

    def rows(self, codes: Tensor) -> Tensor:
        """Vectors of codes: [...] -> [..., d] fp32, differentiable in the weight."""
        return functional.embedding(codes, self.vectors)

    @property
    def is_started(self) -> bool:
        """Whether the first batch was seen. Reads the device until it was, and once after loading; not in every step."""
        if not self._known_started:
            self._known_started, self._known_steps = bool(self.started), int(self.steps)
        return self._known_started

    @torch.compiler.disable
    @torch.no_grad()
    def start(self, rows: Tensor) -> None:
        """Start from the first rows [..., d] ever seen; nothing after that. Collective over ranks."""
        if self.is_started:
            return
        if self.kmeans_init:
            most = math.ceil(KMEANS_ROWS_PER_CODE * self.size / world_size())
            points = gather_rows(_some_rows(rows.detach().reshape(-1, self.dim), most)).float()
            if not len(points):
                return
            centroids, counts = kmeans(points, self.size, self.metric)
            copy_from_first(centroids, counts)
            self.weight.copy_(centroids)
            self.counts.copy_(counts)
            if self.learning == "ema":
                self.sums.copy_(centroids * counts.unsqueeze(-1))
        self.started.fill_(True)
        self._known_started = True

    @torch.compiler.disable
    @torch.no_grad()
    def maintain(self, rows: Tensor) -> None:
        """Before a training step: start on the first rows [..., d], replace dead codes now and then. Collective over ranks."""
        if not self.is_started:
            self.start(rows)
        elif self.dead_threshold > 0 and self._known_steps % CHECK_DEAD_EVERY == 0:
            self._replace_dead(rows.detach().reshape(-1, self.dim))
        self.steps += 1
        self._known_steps += 1

    @torch.compiler.disable
    @torch.no_grad()
    def observe(self, assigned: Sequence[tuple[Tensor, Tensor]]) -> None:
        """After a training step: move the averages. Collective over ranks.

        Args:
            assigned: rows [..., d] with their codes [...]; code K means "do not count this row".
        """
        sums, counts = self.weight.new_zeros(self.size + 1, self.dim), self.counts.new_zeros(self.size + 1)
        deterministic = torch.are_deterministic_algorithms_enabled()
        for rows, codes in assigned:
            flat = rows.detach().reshape(-1, self.dim)
            part_sums, part_counts = segment_sums(flat, codes.reshape(-1), self.size + 1, deterministic=deterministic)
            sums += part_sums
            counts += part_counts
        sums, counts = sums[:-1].contiguous(), counts[:-1].contiguous()
        sum_over_ranks(sums, counts)
        self.counts.lerp_(counts, 1 - self.decay)
        if self.learning == "ema":
            self.sums.lerp_(sums, 1 - self.decay)
            self._move_to_means()

    def extra_repr(self) -> str:
        return f"size={self.size}, dim={self.dim}, metric={self.metric!r}, learning={self.learning!r}"

    def _move_to_means(self) -> None:
        # A code whose average count has faded out keeps its place: its mean would be 0/0.
        counts = self.counts.unsqueeze(-1)
        self.weight.copy_(torch.where(counts > 1e-6, self.sums / counts.clamp(min=1e-6), self.weight))

    def _replace_dead(self, rows: Tensor) -> None:
        uniform = self.counts.mean()
        dead = (self.counts < self.dead_threshold * uniform).nonzero().squeeze(-1)
        if not len(dead):
            return
        # The same everywhere without a broadcast: ranks agree on the counts and see the rows in the order of the ranks.
        fresh = gather_rows(_some_rows(rows, math.ceil(len(dead) / world_size()))).to(self.weight.dtype)
        dead = dead[: len(fresh)]
        fresh = fresh[: len(dead)]
        self.weight[dead] = fresh
        self.counts[dead] = uniform
        if self.learning == "ema":
            self.sums[dead] = fresh * uniform

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._known_started = False


def kmeans(points: Tensor, size: int, metric: Metric = "euclidean", iterations: int = KMEANS_ITERATIONS) -> tuple[Tensor, Tensor]:
    """Lloyd's algorithm from random points.

    Args:
        points: [n, d] fp32, unit vectors with the cosine metric; when n < K, some centroids stay equal and empty.
        size: K.
        metric: what near means.
        iterations: of assignment and update.

    Returns:
        centroids [K, d] and the number of points nearest to each [K].
    """
    order = torch.randperm(len(points), device=points.device)
    centroids = points[order[torch.arange(size, device=points.device) % len(points)]]
    for _ in range(iterations):
        sums, counts = segment_sums(points, codebook_lookup(points, centroids, metric=metric), size)
        means = sums / counts.clamp(min=1).unsqueeze(-1)
        if metric == "cosine":
            means = functional.normalize(means, dim=-1)
        centroids = torch.where(counts.unsqueeze(-1) > 0, means, centroids)
    _, counts = segment_sums(points, codebook_lookup(points, centroids, metric=metric), size)
    return centroids, counts.to(points.dtype)


def _some_rows(rows: Tensor, most: int) -> Tensor:
    """At most that many rows, drawn without replacement."""
    if len(rows) <= most:
        return rows
    return rows[torch.randperm(len(rows), device=rows.device)[:most]]
