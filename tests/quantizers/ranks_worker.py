"""One of several processes that train every own quantizer together. Run by test_ranks.py: rank, number of ranks, folder."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from tokkit import registry
from tokkit.quantizers.base import Quantized, Quantizer
from tokkit.quantizers.ranks import gather_rows

STEPS = 7  # dead codes are looked for in the sixth


class Model(nn.Module):
    """A layer before the quantizer, so that there is something to train in all of them."""

    def __init__(self, quantizer: Quantizer):
        super().__init__()
        self.layer = nn.Linear(quantizer.dim, quantizer.dim)
        self.quantizer = quantizer

    def forward(self, latents: Tensor, grid: tuple[int, ...] | None) -> Quantized:
        quantized: Quantized = self.quantizer(self.layer(latents), grid)
        return quantized


def train(name: str, options: dict[str, object], rank: int) -> dict[str, Tensor]:
    """The state after the first step and at the end. Ranks have batches of their own, of different sizes, and their own random numbers."""
    torch.manual_seed(0)
    quantizer: Quantizer = registry.build("quantizer", name, **options)
    model = DistributedDataParallel(Model(quantizer).train(), broadcast_buffers=False)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    grid = type(quantizer).example_grid()
    tokens = 5 if grid is None else math.prod(grid)
    torch.manual_seed(100 + rank)
    state: dict[str, Tensor] = {}
    for step in range(STEPS):
        # Once a rank has nothing at all.
        batch = 0 if step == 2 and rank == 1 else 2 + rank
        quantized = model(torch.randn(batch, tokens, quantizer.dim), grid)
        optimizer.zero_grad()
        (quantized.latents.square().sum() + quantized.loss).backward()
        optimizer.step()
        if step in (0, STEPS - 1):
            state |= {f"{step} {key}": value.clone() for key, value in model.module.state_dict().items()}
    return state


def main(rank: int, world_size: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=world_size)
    rows = gather_rows(torch.full((2 * rank + 1, 2), float(rank)))
    assert rows[:, 0].tolist() == [0.0, 1.0, 1.0, 1.0], rows
    cases = [
        (name, registry.get("quantizer", name).example_options()) for name in registry.names("quantizer") if not name.startswith("vqp.")
    ]
    cases += [
        ("vq", {"dim": 4, "codebook_size": 16, "learning": "gradient"}),
        ("vq", {"dim": 4, "codebook_size": 16, "metric": "cosine"}),
        ("rvq", {"dim": 4, "levels": 2, "codebook_size": 8, "code_dim": 2, "metric": "cosine", "shared": True, "learning": "gradient"}),
    ]
    states = {f"{name} {options}": train(name, options, rank) for name, options in cases}
    torch.save(states, folder / f"{rank}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
