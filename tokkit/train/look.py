"""A look at held-out samples while training goes on: reconstructions to see, and the recipe's metrics."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from tokkit.data.base import Source
from tokkit.metrics.base import Metric, MetricFailure
from tokkit.modalities.base import FieldBatch, Modality
from tokkit.tokenizer import Tokenizer

SHOWN = 8


@torch.no_grad()
def look(tokenizer: Tokenizer, held_out: Source, metrics: Sequence[Metric], out: Path, step: int, limit: int) -> dict[str, float]:
    """Reconstruct up to `limit` samples, write the first few to `samples/`, and return `val/...` means (and counts of failures).

    Of shapes whose decoder is a field, it is the field that is looked at, at the held-out points, and nothing is written.
    """
    modality = tokenizer.modality
    if isinstance(held_out[0], FieldBatch):
        return look_at_fields(tokenizer, held_out, limit)
    originals = torch.stack([held_out[index] for index in range(min(limit, len(held_out)))])
    with torch.compiler.set_stance("force_eager"):  # compiling for other sizes would take longer than looking
        parts = [tokenizer(part.to(tokenizer.device)).reconstruction.float() for part in originals.split(SHOWN)]
    reconstructions = modality.denormalize(modality.normalize(torch.cat(parts))).cpu()
    sheet = side_by_side(modality, originals[:SHOWN], reconstructions[:SHOWN])
    modality.write(out / "samples" / f"step-{step:08d}{modality.output_suffix}", sheet, force=True)
    values: dict[str, float] = {}
    for metric in metrics:
        scores = []
        for pair in zip(originals, reconstructions, strict=True):
            try:
                scores.append(metric(*pair))
            except MetricFailure:
                values[f"val/{metric.name}_failed"] = values.get(f"val/{metric.name}_failed", 0.0) + 1
        if scores:
            values[f"val/{metric.name}"] = sum(scores) / len(scores)
    return values


def look_at_fields(tokenizer: Tokenizer, held_out: Source, limit: int) -> dict[str, float]:
    """Of up to `limit` shapes, each layer that has an inside: the mean intersection over union of what is inside at the held-out points."""
    scores = []
    for start in range(0, min(limit, len(held_out)), SHOWN):
        examples = [held_out[index] for index in range(start, min(start + SHOWN, limit, len(held_out)))]
        shapes = FieldBatch(*(torch.stack(parts) for parts in zip(*examples, strict=True)))
        with torch.compiler.set_stance("force_eager"):  # as in `look`
            output = tokenizer(shapes.to(tokenizer.device))
        inside, predicted = output.target < 0, output.reconstruction < 0
        either, both = (inside | predicted).sum(1), (inside & predicted).sum(1)  # [B, layers]
        scores.append(torch.where(either > 0, both / either, torch.nan).nanmean(1))
    return {"val/iou_queries": torch.cat(scores).nanmean().item()}


def side_by_side(modality: Modality, originals: Tensor, reconstructions: Tensor) -> Tensor:
    """One sample made of several: originals above their reconstructions, or by turns where there is a single axis."""
    pair = torch.stack([originals, reconstructions.to(originals)])
    if modality.rank == 1:
        return torch.cat([sample for both in pair.unbind(1) for sample in both], dim=-1)
    return torch.cat([torch.cat(list(row), dim=-1) for row in pair], dim=-2)
