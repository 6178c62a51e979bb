"""Teachers: frozen networks whose features say what a sound means. One of your own is one registered class."""

from __future__ import annotations

import http.client
import pickle
from pathlib import Path
from typing import Annotated, Any, ClassVar

import safetensors
import safetensors.torch
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from tokkit.errors import InputError
from tokkit.registry import register, suggest


class Teacher(nn.Module):
    """Base of teachers.

    Attributes:
        sample_rate: of the sound it takes.
        dim: F, the size of its features.
    """

    kind: ClassVar[str] = "teacher"
    sample_rate: int
    dim: int

    def forward(self, sound: Tensor) -> Tensor:
        """Features of sound: [B, T] fp32 at `sample_rate` -> [B, frames, F], the frames spread evenly over the sound."""
        raise NotImplementedError


@register("teacher", "torchaudio")
class TorchaudioTeacher(Teacher):
    """A self-supervised speech model among torchaudio's pipelines: WavLM (Mimi's), HuBERT (SpeechTokenizer's), wav2vec 2.0, XLS-R."""

    def __init__(
        self,
        *,
        pipeline: str = "WAVLM_BASE_PLUS",
        weights: str = "pretrained",
        layer: Annotated[int, Field(ge=1)] | None = None,
    ):
        """
        Args:
            pipeline: name in `torchaudio.pipelines`.
            weights: "pretrained" for torchaudio's own, downloaded once; a file of them (pth, safetensors); or "random", for tests: it
                teaches nothing.
            layer: whose output the features are, counted from 1; None: the mean over all layers, as SpeechTokenizer takes it.

        Raises:
            InputError: there is no such pipeline or layer, or its weights are not there.
        """
        super().__init__()
        import torchaudio.pipelines

        known = [name for name in dir(torchaudio.pipelines) if hasattr(getattr(torchaudio.pipelines, name), "_model_type")]
        if pipeline not in known:
            raise InputError(f"teacher torchaudio: no speech pipeline {pipeline!r}{suggest(pipeline, known)}; known: {', '.join(known)}")
        bundle: Any = getattr(torchaudio.pipelines, pipeline)
        self.sample_rate = int(bundle.sample_rate)
        layers: int = bundle._params["encoder_num_layers"]
        if layer is not None and layer > layers:
            raise InputError(f"teacher torchaudio: {pipeline} has {layers} layers, not {layer}")
        self.dim = int(bundle._params["encoder_embed_dim"])
        self.layer = layer
        self.normalizes = bool(bundle._normalize_waveform)
        convolutions = bundle._params["extractor_conv_layer_config"]
        self.margin = _margin([(kernel, stride) for _, kernel, stride in convolutions])
        self.network = _network(bundle, pipeline, weights)

    def forward(self, sound: Tensor) -> Tensor:
        if self.normalizes:
            sound = F.layer_norm(sound, sound.shape[-1:])
        # Half of what the convolutions overlap on each side: then a frame stands for its own stride of the sound.
        padded = F.pad(sound, self.margin)
        layers, _ = self.network.extract_features(padded, None, self.layer)
        features: Tensor = torch.stack(layers).mean(0) if self.layer is None else layers[-1]
        return features


def _network(bundle: Any, name: str, weights: str) -> Any:
    """The network of a pipeline with its weights, without what normalises its input."""
    from torchaudio.pipelines._wav2vec2 import utils

    try:
        network = utils._get_model(bundle._model_type, bundle._params)
        if weights == "pretrained":
            network.load_state_dict(bundle._get_state_dict({"progress": False}))
        elif weights != "random":
            network.load_state_dict(_state(Path(weights).expanduser()))
    except (OSError, EOFError, RuntimeError, pickle.UnpicklingError, safetensors.SafetensorError, http.client.HTTPException) as error:
        if weights != "pretrained":
            raise InputError(f"teacher torchaudio: {weights} does not hold torchaudio's weights of {name}: {error}") from error
        raise InputError(
            f"teacher torchaudio: the weights of {name} ({bundle._path}) are not there and do not load ({error}); "
            "download them where there is a network and give the file as weights="
        ) from error
    return network


def _state(file: Path) -> dict[str, Tensor]:
    if not file.is_file():
        raise InputError(f"teacher torchaudio: no such weights file: {file}")
    if file.suffix == ".safetensors":
        return safetensors.torch.load_file(file)
    state: dict[str, Tensor] = torch.load(file, map_location="cpu", weights_only=True)
    return state


def _margin(convolutions: list[tuple[int, int]]) -> tuple[int, int]:
    """Zeros before and after, so that the convolutions give one frame for every stride."""
    field, step = 1, 1
    for kernel, stride in convolutions:
        field, step = field + (kernel - 1) * step, step * stride
    return (field - step) // 2, field - step - (field - step) // 2
