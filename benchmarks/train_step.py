"""A training step of `recipes/image/vq-f16.yaml`'s networks against LlamaGen's VQ-16 in its own code, in one process.

    python benchmarks/train_step.py --peer path/to/LlamaGen --out benchmarks/results/train-step.json

Both: forward, mean squared error plus the quantizer's loss, backward, AdamW (fused), bf16 autocast, the same batch. The perceptual and
adversarial losses are left out of both; they are the same networks for both. The peer runs as its trainer runs it, and also compiled and
with channels_last, which its trainer does not do.
"""

from __future__ import annotations

import argparse
import importlib.util
from pathlib import Path

import torch
import torch.nn.functional as F
from steps import Step, compare, set_up, stepper, write

from tokkit.recipe import Recipe
from tokkit.tokenizer import Tokenizer

RECIPE = Path(__file__).parents[1] / "recipes" / "image" / "vq-f16.yaml"
CUDA = torch.device("cuda")


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

    return stepper(tokenizer.parameters(), loss_of, CUDA)


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

    return stepper(model.parameters(), loss_of, CUDA)


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
    set_up(CUDA)
    batch = torch.rand(arguments.batch_size, 3, 256, 256, device="cuda")
    ways = {
        "llamagen": lambda: peer(arguments.peer, compiled=False, channels_last=False),
        "llamagen compiled": lambda: peer(arguments.peer, compiled=True, channels_last=False),
        "llamagen compiled channels_last": lambda: peer(arguments.peer, compiled=True, channels_last=True),
        "tokkit": lambda: ours(compiled=False, channels_last=False),
        "tokkit compiled channels_last": lambda: ours(compiled=True, channels_last=True),
    }
    chosen = {name: ways[name] for name in (arguments.only or ",".join(ways)).split(",")}
    rows = compare(chosen, batch, samples=arguments.samples, runs=arguments.runs)
    write(arguments.out, "train-step", batch, rows, WHO)


if __name__ == "__main__":
    main()
