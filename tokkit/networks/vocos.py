"""The decoder of Vocos: ConvNeXt blocks at the rate of the frames, then an inverse Fourier transform (https://arxiv.org/abs/2306.00814)."""

from __future__ import annotations

import math
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from tokkit.errors import InputError
from tokkit.networks.base import Decoder, Grid
from tokkit.registry import register

Positive = Annotated[int, Field(ge=1)]
KERNEL = 7


@register("decoder", "vocos")
class VocosDecoder(Decoder):
    """ConvNeXt blocks, then magnitude and phase of a spectrogram, overlapped and added (https://arxiv.org/abs/2306.00814).

    No layer works at the rate of the samples, so it costs a small part of what transposed convolutions do; WavTokenizer's decoder
    (https://arxiv.org/abs/2408.16532) is of this kind. Not causal.

    Attributes:
        context: frames before and after one that its samples depend on.
    """

    rank = 1

    def __init__(
        self,
        *,
        channels: Positive = 1,
        dim: Positive = 512,
        width: Positive = 768,
        hidden: Positive = 2304,
        depth: Positive = 12,
        hop: Positive = 320,
        window: Positive = 1280,
    ):
        """
        Args:
            channels: of the output.
            dim: D of the latents.
            width: channels of the blocks.
            hidden: channels inside a block.
            depth: number of blocks.
            hop: samples of a frame: the encoder's stride.
            window: samples of the transform's window.

        Raises:
            InputError: the window is not an even number of samples beyond the hop.
        """
        super().__init__()
        if window < hop or (window - hop) % 2 or window % 2:
            raise InputError(f"decoder vocos: window {window} must be even, at least hop {hop} and an even number of samples longer")
        self.channels, self.dim, self.stride, self.window = channels, dim, hop, window
        self.embed = nn.Conv1d(dim, width, KERNEL, padding=KERNEL // 2)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.blocks = nn.ModuleList(ConvNeXtBlock(width, hidden, 1 / depth) for _ in range(depth))
        self.head = nn.Sequential(nn.LayerNorm(width, eps=1e-6), nn.Linear(width, channels * (window + 2)))
        for layer in self.modules():
            if isinstance(layer, nn.Conv1d | nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=0.02)
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        self.register_buffer("shape", torch.hann_window(window), persistent=False)
        self.shape: Tensor
        self.context = KERNEL // 2 * (depth + 1) + math.ceil(window / hop)

    def forward(self, latents: Tensor, grid: Grid) -> Tensor:
        hidden = self.norm(self.embed(latents.transpose(1, 2)).transpose(1, 2))  # [B, T, width]
        for block in self.blocks:
            hidden = block(hidden)
        with torch.autocast(latents.device.type, enabled=False):  # a phase of some turns has no digits left in bf16
            spectrum = self.head(hidden.to(self.last_layer.dtype)).unflatten(-1, (self.channels, 2, -1))
        return self._to_samples(spectrum)

    @property
    def last_layer(self) -> nn.Parameter:
        return self.head[1].get_parameter("weight")

    def _to_samples(self, spectrum: Tensor) -> Tensor:
        """Log-magnitude and phase [B, T, C, 2, window // 2 + 1] -> [B, C, T * hop], in fp32.

        Magnitudes end at window / 2, the sum of the window: no spectrum of samples in [-1, 1] has larger ones. Vocos ends them at 100. The
        gradient passes that end, else what is too loud would stay so.
        """
        with torch.autocast(spectrum.device.type, enabled=False):
            log_magnitude, phase = spectrum.float().unbind(3)
            beyond = (log_magnitude.detach() - math.log(self.window / 2)).relu()
            magnitude = (log_magnitude - beyond).exp()
            # In real numbers as far as it goes: the compiler joins those.
            waves = torch.view_as_complex(torch.stack([magnitude * phase.cos(), magnitude * phase.sin()], -1))
            frames = torch.fft.irfft(waves, self.window)  # [B, T, C, window]
            batch, count, channels, _ = frames.shape
            samples = _overlap_add((frames * self.shape).permute(0, 2, 3, 1).flatten(0, 1), self.stride)
            envelope = _overlap_add(self.shape.square()[None, :, None].expand(1, -1, count), self.stride)
            trim = (self.window - self.stride) // 2
            kept = slice(trim, trim + count * self.stride)
            return (samples[:, kept] / envelope[:, kept].clamp(min=1e-6)).view(batch, channels, -1)

    @classmethod
    def example_options(cls) -> dict[str, Any]:
        return {"dim": 12, "width": 8, "hidden": 16, "depth": 2, "hop": 10, "window": 40}


class ConvNeXtBlock(nn.Module):
    """Depthwise convolution over 7, norm, and a two-layer perceptron, around the identity (https://arxiv.org/abs/2201.03545)."""

    def __init__(self, width: int, hidden: int, scale: float):
        super().__init__()
        self.depthwise = nn.Conv1d(width, width, KERNEL, padding=KERNEL // 2, groups=width)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))
        self.scale = nn.Parameter(torch.full((width,), scale))

    def forward(self, hidden: Tensor) -> Tensor:
        """[B, T, width] -> the same shape."""
        mixed = self.depthwise(hidden.transpose(1, 2)).transpose(1, 2)
        return hidden + self.scale * self.mlp(self.norm(mixed))


def _overlap_add(frames: Tensor, hop: int) -> Tensor:
    """[B, window, T] -> [B, (T - 1) * hop + window]."""
    window, count = frames.shape[1:]
    length = (count - 1) * hop + window
    return F.fold(frames, (1, length), (1, window), stride=(1, hop))[:, 0, 0]
