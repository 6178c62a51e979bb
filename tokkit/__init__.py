"""tokkit turns images, video, audio and 3D shapes into discrete tokens and back.

    file -> modality -> encoder -> quantizer -> Tokens (.tok) -> quantizer.lookup -> decoder -> modality -> file

Names are imported when they are first used, so `import tokkit` costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from tokkit.errors import InputError, RecipeError, RegistryError, TokenFileError, TokkitError
from tokkit.registry import build, names, register

if TYPE_CHECKING:
    from tokkit.data.tokens import TokenDataset
    from tokkit.modalities.base import Modality, Sample
    from tokkit.networks.base import Decoder, Encoder, Latents
    from tokkit.output import TokenizerOutput
    from tokkit.quantizers.base import Quantized, Quantizer
    from tokkit.recipe import Recipe
    from tokkit.tokenizer import Tokenizer
    from tokkit.tokens import TokenReader, Tokens, TokenWriter

__version__ = "0.1.0"

_LAZY = {
    "Decoder": "tokkit.networks.base",
    "Encoder": "tokkit.networks.base",
    "Latents": "tokkit.networks.base",
    "Modality": "tokkit.modalities.base",
    "Quantized": "tokkit.quantizers.base",
    "Quantizer": "tokkit.quantizers.base",
    "Recipe": "tokkit.recipe",
    "Sample": "tokkit.modalities.base",
    "TokenDataset": "tokkit.data.tokens",
    "TokenReader": "tokkit.tokens",
    "TokenWriter": "tokkit.tokens",
    "Tokenizer": "tokkit.tokenizer",
    "TokenizerOutput": "tokkit.output",
    "Tokens": "tokkit.tokens",
}

__all__ = [
    "Decoder",
    "Encoder",
    "InputError",
    "Latents",
    "Modality",
    "Quantized",
    "Quantizer",
    "Recipe",
    "RecipeError",
    "RegistryError",
    "Sample",
    "TokenDataset",
    "TokenFileError",
    "TokenReader",
    "TokenWriter",
    "Tokenizer",
    "TokenizerOutput",
    "Tokens",
    "TokkitError",
    "build",
    "names",
    "register",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'tokkit' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
