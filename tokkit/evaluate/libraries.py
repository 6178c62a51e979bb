"""Tokenizers of other libraries, from this machine alone: diffusers, transformers, torch.hub. Nothing is downloaded."""

from __future__ import annotations

import importlib.util
import json
import math
from collections.abc import Callable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tokkit import registry
from tokkit.devices import pick_device
from tokkit.errors import InputError
from tokkit.evaluate.systems import Coded, System
from tokkit.modalities.base import Modality, Sample


def local_model(named: str, library: str) -> Path:
    """The folder of a model: a folder, or a name of the Hugging Face hub that this machine's cache holds.

    Args:
        named: "folder", "owner/name", or "owner/name/subfolder".
        library: for messages.

    Raises:
        InputError: there is neither.
    """
    if Path(named).is_dir():
        return Path(named)
    owner, *rest = named.split("/")
    if rest and owner and importlib.util.find_spec("huggingface_hub") is not None:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

        try:
            found = Path(snapshot_download(f"{owner}/{rest[0]}", local_files_only=True), *rest[1:])
        except (LocalEntryNotFoundError, HfHubHTTPError, HFValidationError, OSError):
            found = None
        if found is not None and found.is_dir():
            return found
    raise InputError(f"{named}: no model of {library} here: no such folder, and not a name in this machine's Hugging Face cache")


class DiffusersSystem(System):
    """A VQModel (its codes) or an AutoencoderKL (the mean of its latents) of diffusers.

    Pictures are repeated at the right and below up to a multiple of the model's stride, and cropped again. A VQModel's bits are
    ceil(log2 K) for each place of its grid; how many an AutoencoderKL's continuous latents take is not known.
    """

    KINDS = ("AutoencoderKL", "VQModel")

    def __init__(self, named: str, modality: Modality, *, device: str | torch.device = "cpu"):
        """
        Raises:
            InputError: diffusers or the model is not there, or it is of another class.
        """
        folder = local_model(named, "diffusers")
        kind = _config(folder, "diffusers").get("_class_name")
        if kind not in self.KINDS:
            raise InputError(f"{named}: a {kind}; known are {' and '.join(self.KINDS)}")
        if importlib.util.find_spec("diffusers") is None:
            raise InputError("diffusers is not installed (pip install diffusers)")
        import diffusers

        try:
            model: Any = getattr(diffusers, kind).from_pretrained(str(folder), local_files_only=True)
        except (OSError, ValueError, RuntimeError) as error:
            raise InputError(f"{named}: cannot load the {kind}: {error}") from error
        self.name, self.modality, self.device = Path(named).name, modality, pick_device(device)
        self.model = model.eval().to(self.device)
        self._stride = 2 ** (len(model.config.block_out_channels) - 1)
        self._bits = math.ceil(math.log2(model.config.num_vq_embeddings)) if kind == "VQModel" else 0

    def code(self, samples: Sequence[Sample]) -> list[Coded]:
        coded: list[Coded] = []
        for (_, height, width), group in groupby(samples, lambda sample: tuple(sample.values.shape)):
            batch = torch.stack([sample.values for sample in group]).to(self.device)
            room = (0, -width % self._stride, 0, -height % self._stride)
            with torch.inference_mode():
                encoded = self.model.encode(torch.nn.functional.pad(batch, room, mode="replicate") * 2 - 1)
                latents = encoded.latents if self._bits else encoded.latent_dist.mode()
                decoded = self.model.decode(latents).sample[..., :height, :width]
            bits = self._bits * math.prod(latents.shape[2:])
            coded.extend(Coded(values, bits, -(-bits // 8)) for values in ((decoded + 1) / 2).clamp(0, 1).float().cpu())
        return coded


class TransformersSystem(System):
    """A sound codec of transformers. Bits are those of its codes, ceil(log2 K) each; a file would add a header."""

    KINDS = ("dac", "encodec", "mimi", "xcodec")

    def __init__(self, named: str, *, device: str | torch.device = "cpu"):
        """
        Args:
            named: as `local_model` takes it; with "@N" behind it, N kbit/s (EnCodec, X-Codec) or N codebooks (DAC, Mimi) are used.
            device: where it runs.

        Raises:
            InputError: transformers or the model is not there, it is of another kind, or has no such rate.
        """
        place, at, rate = named.rpartition("@")
        if not at:
            place, rate = named, ""
        folder = local_model(place, "transformers")
        kind = _config(folder, "transformers").get("model_type")
        if kind not in self.KINDS:
            raise InputError(f"{named}: a {kind}; known are {', '.join(self.KINDS)}")
        if importlib.util.find_spec("transformers") is None:
            raise InputError("transformers is not installed (pip install transformers)")
        from transformers import AutoModel

        try:
            model: Any = AutoModel.from_pretrained(str(folder), local_files_only=True)
        except (OSError, ValueError, RuntimeError) as error:
            raise InputError(f"{named}: cannot load the {kind}: {error}") from error
        self.name, self.device = Path(named).name, pick_device(device)
        self.model = model.eval().to(self.device)
        config = model.config
        self._options = _rate_options(kind, rate, config, named) if rate else {}
        sampling = getattr(config, "sampling_rate", None) or config.sample_rate  # X-Codec's own name for it
        self.modality = registry.build("modality", "audio", sample_rate=sampling, channels=getattr(config, "audio_channels", 1))

    def code(self, samples: Sequence[Sample]) -> list[Coded]:
        return [self._code(sample.values) for sample in samples]

    def _code(self, values: Tensor) -> Coded:
        with torch.inference_mode():
            found = self.model(values[None].to(self.device), **self._options)
        sound = found.audio_values.reshape(values.shape[0], -1).float().cpu()[:, : values.shape[1]]
        sound = torch.nn.functional.pad(sound, (0, values.shape[1] - sound.shape[1]))
        bits = found.audio_codes.numel() * math.ceil(math.log2(self.model.config.codebook_size))
        return Coded(sound, bits, -(-bits // 8))


def _rate_options(kind: str, rate: str, config: Any, named: str) -> dict[str, float | int]:
    try:
        number = float(rate)
    except ValueError as error:
        raise InputError(f"{named}: {rate!r} is no number") from error
    if kind in ("encodec", "xcodec"):
        if number not in config.target_bandwidths:
            raise InputError(f"{named}: no {rate} kbit/s; there are {', '.join(f'{known:g}' for known in config.target_bandwidths)}")
        return {"bandwidth": number}
    most = config.n_codebooks if kind == "dac" else config.num_quantizers
    if number not in range(1, most + 1):
        raise InputError(f"{named}: no {rate} codebooks; it has 1 to {most}")
    return {"n_quantizers" if kind == "dac" else "num_quantizers": int(number)}


def load_torch_hub(target: str, device: str | torch.device) -> Callable[[Tensor], Tensor]:
    """What an entry point of torch.hub returns: a function (or module) of batches in the public range, to reconstructions.

    Its hubconf.py is run, so it must be one that you trust.

    Args:
        target: "folder:entry", or "owner/repository:entry" where torch.hub has downloaded it before.
        device: where a module is put.

    Raises:
        InputError: the repository or the entry point is not there, or gives something that cannot be called.
    """
    place, colon, entry = target.rpartition(":")
    if not colon or not place or not entry:
        raise InputError(f"torchhub:{target}: write torchhub:owner/repository:entry or torchhub:folder:entry")
    folder = Path(place)
    if not (folder / "hubconf.py").is_file():
        cached = sorted(Path(torch.hub.get_dir()).glob(f"{place.partition('@')[0].replace('/', '_')}_*/hubconf.py"))
        if not cached:
            raise InputError(f"torchhub:{target}: no hubconf.py in {place}, and torch.hub has no copy of it in {torch.hub.get_dir()}")
        folder = cached[-1].parent
    try:
        found: Any = torch.hub.load(str(folder), entry, source="local")
    except (RuntimeError, ImportError, OSError, TypeError, ValueError) as error:
        raise InputError(f"torchhub:{target}: {error}") from error
    if not callable(found):
        raise InputError(f"torchhub:{target}: {entry} gives a {type(found).__name__}, not a function of batches")
    function: Callable[[Tensor], Tensor] = found.eval().to(pick_device(device)) if isinstance(found, torch.nn.Module) else found
    return function


def _config(folder: Path, library: str) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{folder}: no model of {library} here: {error}") from error
    return found
