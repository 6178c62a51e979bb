"""A training step of `recipes/image/titok-like.yaml`'s networks against TiTok-B-64 in its own code, in one process, taking turns.

    python benchmarks/train_step_1d.py --peer path/to/1d-tokenizer --out benchmarks/results/train-step-1d.json

Both: 64 latent tokens of 256 px, base-size encoder and decoder to pixels (the peer's non-legacy form, as TA-TiTok trains it), 4,096
normalised codes of 12 channels; forward, mean squared error plus the quantizer's loss, backward, AdamW (fused), bf16 autocast, the same
batch. The perceptual and adversarial losses are left out of both. The peer runs as its trainer runs it, and also compiled, which that
does not do.

`--device cpu --size small --image-size 64 --batch-size 2 --samples 1 --runs 1` tries it where there is no GPU; such times say nothing.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import importlib.util
import sys
import types
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from steps import Step, compare, set_up, stepper, write

from tokkit.recipe import Recipe
from tokkit.tokenizer import Tokenizer

RECIPE = Path(__file__).parents[1] / "recipes" / "image" / "titok-like.yaml"
WHO = ("titok", "tokkit")


class Config(types.SimpleNamespace):
    """What the peer's constructors read of an OmegaConf configuration."""

    def get(self, name: str, default: Any = None) -> Any:
        return getattr(self, name, default)


def ours(arguments: argparse.Namespace, *, compiled: bool) -> tuple[torch.nn.Module, Step]:
    device = torch.device(arguments.device)
    overrides = [f"{part}.size={arguments.size}" for part in ("encoder", "decoder")]
    if arguments.size == "small":
        overrides.append("quantizer.dim=512")
    torch.manual_seed(0)
    tokenizer = Tokenizer.from_recipe(Recipe.load(RECIPE, overrides)).to(device).train()
    if compiled:
        tokenizer.encoder.compile()
        tokenizer.decoder.compile()

    def loss_of(batch: torch.Tensor) -> torch.Tensor:
        output = tokenizer(batch)
        return F.mse_loss(tokenizer.modality.normalize(output.reconstruction), tokenizer.modality.normalize(batch)) + output.loss

    return tokenizer, stepper(tokenizer.parameters(), loss_of, device)


def peer(arguments: argparse.Namespace, *, compiled: bool) -> tuple[torch.nn.Module, Step]:
    device = torch.device(arguments.device)
    vq_model = Config(
        quantize_mode="vq",
        codebook_size=4096,
        token_size=12,
        use_l2_norm=True,
        commitment_cost=0.25,
        vit_enc_model_size=arguments.size,
        vit_dec_model_size=arguments.size,
        vit_enc_patch_size=16,
        vit_dec_patch_size=16,
        num_latent_tokens=64,
        finetune_decoder=False,
        is_legacy=False,
    )
    preprocessing = Config(crop_size=arguments.image_size)
    config = Config(model=Config(vq_model=vq_model), dataset=Config(preprocessing=preprocessing))
    torch.manual_seed(0)
    model = titok_class(arguments.peer)(config).to(device).train()
    run = torch.compile(model) if compiled else model

    def loss_of(batch: torch.Tensor) -> torch.Tensor:
        reconstruction, result = run(batch)  # the peer's pictures are in [0, 1]
        return F.mse_loss(reconstruction, batch) + result["quantizer_loss"]

    return model, stepper(model.parameters(), loss_of, device)


@functools.cache
def titok_class(root: Path) -> Any:
    """The peer's class `TiTok`, from its own files.

    Its packages' __init__ files import the generators and perceptual losses with all that these need, so the packages are entered without
    running them; `omegaconf`, which only converts dictionaries and is given none, is stood in for where it is not installed.
    """
    folder = root / "modeling"
    if not (folder / "titok.py").is_file():
        raise SystemExit(f"{folder / 'titok.py'}: not there; --peer is the folder of a bytedance/1d-tokenizer checkout")
    for name, place in (("modeling", folder), ("modeling.modules", folder / "modules")):
        package = types.ModuleType(name)
        package.__path__ = [str(place)]
        sys.modules[name] = package
    if importlib.util.find_spec("omegaconf") is None:
        stand_in = types.ModuleType("omegaconf")
        stand_in.OmegaConf = type("OmegaConf", (), {"create": staticmethod(lambda options: Config(**options))})  # type: ignore[attr-defined]
        sys.modules["omegaconf"] = stand_in
    return importlib.import_module("modeling.titok").TiTok


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--image-size", type=int, default=256)
    parser.add_argument("--size", default="base", choices=["small", "base", "large"])
    parser.add_argument("--samples", type=int, default=20)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--only", help="names of rows with commas between; all when not given")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    set_up(device)
    batch = torch.rand(arguments.batch_size, 3, arguments.image_size, arguments.image_size, device=device)
    parameters: dict[str, int] = {}

    def build(name: str, compiled: bool) -> Step:
        model, step = (peer if name == "titok" else ours)(arguments, compiled=compiled)
        parameters[name] = sum(parameter.numel() for parameter in model.parameters())
        return step

    ways = {
        "titok": lambda: build("titok", False),
        "titok compiled": lambda: build("titok", True),
        "tokkit": lambda: build("tokkit", False),
        "tokkit compiled": lambda: build("tokkit", True),
    }
    chosen = {name: ways[name] for name in (arguments.only or ",".join(ways)).split(",")}
    rows = compare(chosen, batch, samples=arguments.samples, runs=arguments.runs)
    for name, row in rows.items():
        row["parameters"] = parameters[name.partition(" ")[0]]
    write(arguments.out, "train-step-1d", batch, rows, WHO)


if __name__ == "__main__":
    main()
