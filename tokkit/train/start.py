"""A second stage starts as the first one ended."""

from __future__ import annotations

from pathlib import Path

import safetensors
import safetensors.torch

from tokkit.errors import InputError
from tokkit.tokenizer import WEIGHTS_FILE, Tokenizer


def start_from(tokenizer: Tokenizer, folder: str | Path) -> None:
    """Give a fresh tokenizer the weights of a trained one, so that it begins by doing what that one does.

    It may have weights which the trained one lacks only where they are all zero at the start, as those of the noise in WeTok's generative
    decoder are (https://arxiv.org/abs/2508.05599).

    Args:
        tokenizer: with fresh weights.
        folder: of a trained tokenizer.

    Raises:
        InputError: there are no weights, they have other shapes or are of another network; the message names them.
    """
    file = Path(folder) / WEIGHTS_FILE
    if not file.is_file():
        raise InputError(f"init_from: no tokenizer in {folder}: {WEIGHTS_FILE} is missing")
    fresh = {name: bool(value.any()) for name, value in tokenizer.state_dict().items()}
    try:
        missing, unknown = safetensors.torch.load_model(tokenizer, file, strict=False)
    except (RuntimeError, safetensors.SafetensorError) as error:
        raise InputError(f"init_from: the weights in {folder} do not fit this recipe: {error}") from error
    wrong = [*(name for name in missing if fresh[name]), *unknown]
    if wrong:
        raise InputError(f"init_from: {folder} is another network; only one of the two has {', '.join(sorted(wrong)[:5])}")
