"""A second stage starts as the first one ended."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import safetensors
import safetensors.torch

from tokkit.errors import InputError
from tokkit.tokenizer import WEIGHTS_FILE, Tokenizer

DECODER = "decoder."
MAPS = {"encoder": "to_quantizer", "quantizer": None, "decoder": "to_decoder"}
"""The parts of a tokenizer that have weights, each with the linear map that belongs to it."""


def start_from(tokenizer: Tokenizer, folder: str | Path, parts: Sequence[str] = tuple(MAPS)) -> None:
    """Give a fresh tokenizer the weights of a trained one, so that it begins by doing what that one does.

    It may have weights which the trained one lacks only where they are all zero at the start, as those of the noise in WeTok's generative
    decoder are (https://arxiv.org/abs/2508.05599).

    Args:
        tokenizer: with fresh weights.
        folder: of a trained tokenizer.
        parts: those that get weights, each with its linear map: "encoder" and "quantizer" give the codes of the trained one to a decoder
            that starts anew.

    Raises:
        InputError: there are no weights, they have other shapes or are of another network; the message names them.
    """
    file = Path(folder) / WEIGHTS_FILE
    if not file.is_file():
        raise InputError(f"init_from: no tokenizer in {folder}: {WEIGHTS_FILE} is missing")
    chosen = {name for part in parts for name in (part, MAPS[part])}

    def is_chosen(name: str) -> bool:
        return name.partition(".")[0] in chosen

    state = tokenizer.state_dict()
    fresh = {name: bool(value.any()) for name, value in state.items()}
    try:
        weights = {name: value for name, value in safetensors.torch.load_file(file).items() if is_chosen(name)}
        own = {name.removeprefix(DECODER): weights.pop(name) for name in list(weights) if name.startswith(DECODER)}
        weights |= {DECODER + name: value for name, value in tokenizer.decoder.adopted(own).items()} if own else {}
        result = tokenizer.load_state_dict(weights, strict=False)
    except (RuntimeError, safetensors.SafetensorError) as error:
        raise InputError(f"init_from: the weights in {folder} do not fit this recipe: {error}") from error
    given = {value.data_ptr() for name, value in state.items() if name in weights}  # of tied weights the file has one name
    missing = [name for name in result.missing_keys if is_chosen(name) and fresh[name] and state[name].data_ptr() not in given]
    wrong = [*missing, *result.unexpected_keys]
    if wrong:
        raise InputError(f"init_from: {folder} is another network; only one of the two has {', '.join(sorted(wrong)[:5])}")
