"""tokkit prior"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

prior_app = typer.Typer(help="A language model over a tokenizer's tokens: train one, draw new samples.", no_args_is_help=True)


@prior_app.command("train")
def prior_train_command(
    recipe: Annotated[Path, typer.Argument(help="A recipe, such as recipes/prior/gpt-small.yaml.")],
    overrides: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Options, such as tokens=shards/.")] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder of the run; runs/<recipe name> when not given.")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1 ...; auto is the GPU where there is one.")] = "auto",
    force: Annotated[bool, typer.Option("--force", help="Replace a prior that is there.")] = False,
) -> None:
    """Train a prior on token files.

    tokkit prior train recipes/prior/gpt-small.yaml tokens=shards/
    """
    from tokkit.devices import pick_device
    from tokkit.prior import PriorRecipe, train_prior

    loaded = PriorRecipe.load(recipe, overrides or [])
    print(train_prior(loaded, out or Path("runs") / loaded.name, device=pick_device(device), force=force))


@prior_app.command("sample")
def prior_sample_command(
    prior: Annotated[Path, typer.Argument(help="Folder of a trained prior.")],
    model: Annotated[Path, typer.Argument(help="Folder of the tokenizer that made its tokens.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder that receives the samples and samples.tok.")],
    count: Annotated[int, typer.Option(min=1, help="Samples to draw, with the seeds from --seed on.")] = 16,
    seed: Annotated[int, typer.Option(min=0, help="Of the first sample.")] = 0,
    temperature: Annotated[float, typer.Option(help="Below 1: likelier samples, less variety.")] = 1.0,
    top_k: Annotated[int | None, typer.Option(min=1, help="Draw from this many likeliest ids only.")] = None,
    num_tokens: Annotated[int | None, typer.Option(min=1, help="Leading tokens only, where they are ordered.")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1 ...; auto is the GPU where there is one.")] = "auto",
    force: Annotated[bool, typer.Option("--force", help="Replace samples that are there.")] = False,
) -> None:
    """Draw new samples and decode them.

    tokkit prior sample runs/gpt-small runs/mine -o samples/ --count 16
    """
    from tokkit.devices import pick_device
    from tokkit.files import make_folder, refuse_overwrite
    from tokkit.prefixes import check_order
    from tokkit.prior import Prior
    from tokkit.tokenizer import Tokenizer

    where = pick_device(device)
    tokenizer = Tokenizer.from_pretrained(model, device=where)
    if num_tokens is not None:
        check_order(tokenizer.quantizer, f"--num-tokens {num_tokens}", tokenizer.name)
    make_folder(out)
    refuse_overwrite(out / "samples.tok", force=force)
    drawn = Prior.load(prior, device=where).sample(range(seed, seed + count), num_tokens=num_tokens, temperature=temperature, top_k=top_k)
    places = [out / f"{name}{tokenizer.modality.output_suffix}" for name in drawn.names]
    for place in places:
        refuse_overwrite(place, force=force)
    decoded = tokenizer.decode_each(drawn)
    drawn.save(out / "samples.tok", force=force)
    for place, values in zip(places, decoded, strict=True):
        tokenizer.write(place, values, force=force)
    print(f"{len(drawn)} samples: {out}")
