"""A training step of `recipes/image/vq-f16.yaml`'s networks against LlamaGen's VQ-16 in its own code, in one process.

    python benchmarks/train_step.py --peer path/to/LlamaGen --out benchmarks/results/train-step.json

Both: forward, mean squared error plus the quantizer's loss, backward, AdamW (fused), bf16 autocast, the same batch. The perceptual and
adversarial losses are left out of both; they are the same networks for both. The peer runs as its trainer runs it, and also compiled and
with channels_last, which its trainer does not do.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from tokkit.evaluate.provenance import provenance
from tokkit.recipe import Recipe
from tokkit.tokenizer import Tokenizer

RECIPE = Path(__file__).parents[1] / "recipes" / "image" / "vq-f16.yaml"
Step = Callable[[torch.Tensor], None]


def stepper(parameters: Any, loss_of: Callable[[torch.Tensor], torch.Tensor]) -> Step:
    optimizer = torch.optim.AdamW(list(parameters), lr=1e-4, betas=(0.9, 0.95), fused=True)

    def step(batch: torch.Tensor) -> None:
        with torch.autocast("cuda", torch.bfloat16):
            loss = loss_of(batch)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def ours(*, compiled: bool, channels_last: bool) -> Step:
    torch.manual_seed(0)
    tokenizer = Tokenizer.from_recipe(Recipe.load(RECIPE)).cuda().train()
    if channels_last:
        tokenizer.to(memory_format=torch.channels_last)
    if compiled:
        tokenizer.encoder.compile()
        tokenizer.decoder.compile()

    def loss_of(batch: torch.Tensor) -> torch.Tensor:
        if channels_last:
            batch = batch.contiguous(memory_format=torch.channels_last)
        output = tokenizer(batch)
        return F.mse_loss(tokenizer.modality.normalize(output.reconstruction), tokenizer.modality.normalize(batch)) + output.loss

    return stepper(tokenizer.parameters(), loss_of)


def peer(root: Path, *, compiled: bool, channels_last: bool) -> Step:
    path = root / "tokenizer" / "tokenizer_image" / "vq_model.py"
    spec = importlib.util.spec_from_file_location("llamagen_vq_model", path)
    if spec is None or spec.loader is None or not path.exists():
        raise SystemExit(f"{path}: not there; --peer is the folder of a LlamaGen checkout")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    torch.manual_seed(0)
    model = module.VQ_models["VQ-16"]().cuda().train()
    if channels_last:
        model.to(memory_format=torch.channels_last)
    run = torch.compile(model) if compiled else model

    def loss_of(batch: torch.Tensor) -> torch.Tensor:
        inputs = batch * 2 - 1
        if channels_last:
            inputs = inputs.contiguous(memory_format=torch.channels_last)
        reconstruction, (codebook, commitment, entropy, _) = run(inputs)
        return F.mse_loss(reconstruction, inputs) + codebook + commitment + entropy

    return stepper(model.parameters(), loss_of)


def time_step(step: Step, batch: torch.Tensor, samples: int) -> list[float]:
    """Milliseconds of each step, by device events."""
    times = []
    for _ in range(samples):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        step(batch)
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end))
    return times


WHO = ("llamagen", "tokkit")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--samples", type=int, default=20)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--only", help="names of rows with commas between; all when not given")
    arguments = parser.parse_args()
    torch.backends.cudnn.benchmark = True
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    batch = torch.rand(arguments.batch_size, 3, 256, 256, device="cuda")
    ways = {
        "llamagen": lambda: peer(arguments.peer, compiled=False, channels_last=False),
        "llamagen compiled": lambda: peer(arguments.peer, compiled=True, channels_last=False),
        "llamagen compiled channels_last": lambda: peer(arguments.peer, compiled=True, channels_last=True),
        "tokkit": lambda: ours(compiled=False, channels_last=False),
        "tokkit compiled channels_last": lambda: ours(compiled=True, channels_last=True),
    }
    rows = {}
    for name in (arguments.only or ",".join(ways)).split(","):
        make = ways[name]
        step = make()
        torch.cuda.reset_peak_memory_stats()
        time_step(step, batch, 5)
        medians = [statistics.median(time_step(step, batch, arguments.samples)) for _ in range(arguments.runs)]
        rows[name] = {"ms": medians, "images_per_second": 1000 * arguments.batch_size / min(medians)}
        rows[name]["peak_gib"] = torch.cuda.max_memory_allocated() / 2**30
        del step
        torch.cuda.empty_cache()
        torch._dynamo.reset()
        print(
            f"{name:32} {min(medians):8.2f} ms  {rows[name]['images_per_second']:8.1f} images/s  {rows[name]['peak_gib']:.1f} GiB",
            flush=True,
        )
    fastest = {who: max((row["images_per_second"] for name, row in rows.items() if name.startswith(who)), default=0.0) for who in WHO}
    result = {"bench": "train-step", **provenance(), "batch": list(batch.shape), "rows": rows, "images_per_second": fastest}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
