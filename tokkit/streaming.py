"""Sound and video to codes and back piece by piece, while it is being made, by tokenizers whose networks look at the past only."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from tokkit.devices import Precision, autocast
from tokkit.errors import InputError
from tokkit.modalities.base import Modality
from tokkit.modalities.padding import pad_to_multiple
from tokkit.networks.base import Decoder, Encoder
from tokkit.networks.causal import CausalDecoder, CausalEncoder, State
from tokkit.quantizers.base import Quantizer


class Streamable(Protocol):
    """What a stream needs of a tokenizer."""

    name: str
    modality: Modality
    encoder: Encoder
    quantizer: Quantizer
    decoder: Decoder
    to_quantizer: nn.Module
    to_decoder: nn.Module
    precision: Precision

    @property
    def device(self) -> torch.device: ...

    @property
    def dtype(self) -> torch.dtype: ...


class Stream:
    """One sound, or video, on its way through a tokenizer; memory and time a frame do not grow with its length.

        with tokenizer.stream() as stream:
            for piece in microphone:                 # [C, n], any n
                codes = stream.encode(piece)         # [1, m, Q]: the frames that are whole by now
                loudspeaker(stream.decode(codes))    # [1, C, m * stride]
            codes = stream.flush()                   # the last frame, filled up as `Tokenizer.encode` does

    The codes are those that `Tokenizer.encode` gives for the whole, and the samples those of `Tokenizer.decode` (which cuts off what the
    last frame was filled up with). A gain that the modality would give to the whole (`loudness`) is not applied.

    Video comes as [C, n, H, W], and its first frame makes codes by itself; what comes back has H and W filled up to the stride.

    Attributes:
        samples: given to `encode` so far; frames, of video.
    """

    def __init__(self, tokenizer: Streamable, *, levels: int | None = None):
        """
        Args:
            tokenizer: with a causal encoder and decoder (`mimi`, `causal3d`) and a quantizer of single latents.
            levels: leading codebooks to keep, where the quantizer is residual.

        Raises:
            InputError: the tokenizer cannot stream, or not with these levels.
        """
        encoder, decoder, quantizer = tokenizer.encoder, tokenizer.decoder, tokenizer.quantizer
        if not isinstance(encoder, CausalEncoder) or not isinstance(decoder, CausalDecoder):
            raise InputError(
                f"{tokenizer.name!r} cannot stream: its {'encoder' if not isinstance(encoder, CausalEncoder) else 'decoder'} looks at what "
                "comes later; train one with the causal networks `mimi` or `causal3d`"
            )
        if quantizer.variable_length or quantizer.num_codes(2) != 2:
            raise InputError(f"{tokenizer.name!r} cannot stream: its quantizer looks at more than a frame")
        if levels is not None and not (quantizer.variable_levels and 1 <= levels <= len(quantizer.codebook_sizes)):
            raise InputError(f"levels={levels} must be 1 to {len(quantizer.codebook_sizes)}, of a residual quantizer")
        self.tokenizer, self.levels = tokenizer, levels
        self._encoder, self._decoder = encoder, decoder
        self.reset()

    @classmethod
    @contextmanager
    def of(cls, tokenizer: Streamable, *, levels: int | None = None) -> Iterator[Stream]:
        """A stream that computes weights under weight norm once, not for every piece: do not change them inside the block."""
        with torch.inference_mode(), parametrize.cached():
            yield cls(tokenizer, levels=levels)

    def reset(self) -> None:
        """Forget everything: the next piece begins a new sound."""
        self.samples = 0
        self._encoder_state: State = {}
        self._decoder_state: State = {}
        self._voices: int | None = None
        self._rest: Tensor | None = None
        self._cells: tuple[int, ...] = ()

    @property
    def latency(self) -> int:
        """Samples that have to be there before more can be heard: one frame. Of video, frames that have to be there for more to be seen."""
        return self.tokenizer.encoder.strides[0]

    @torch.inference_mode()
    def encode(self, samples: Tensor) -> Tensor:
        """The codes of the frames that this piece completes.

        Args:
            samples: [C, n, ...] or [B, C, n, ...] in the public range; the same B, and height and width, for all pieces.

        Returns:
            [B, m, Q] int64 on the tokenizer's device; m may be 0.

        Raises:
            InputError: another shape or type, or values that are not finite.
        """
        rank, channels = self._encoder.rank, self._encoder.channels
        if not isinstance(samples, Tensor) or not samples.is_floating_point():
            what = samples.dtype if isinstance(samples, Tensor) else type(samples).__name__
            scale = "divide 8-bit frames by 255, 16-bit sound by 32768"
            raise InputError(f"stream: a piece is a float tensor in the public range, got {what}; {scale}")
        samples = samples.unsqueeze(0) if samples.ndim == rank + 1 else samples
        if samples.ndim != rank + 2 or samples.shape[1] != channels:
            axes = ", ".join(["n", "H", "W"][:rank])
            raise InputError(f"stream: a piece is [{channels}, {axes}] or a batch of these, got {list(samples.shape)}")
        if self._rest is not None and len(samples) != len(self._rest):
            raise InputError(f"stream: pieces of {len(self._rest)} sounds so far, got one of {len(samples)}; `reset` begins new ones")
        if not samples.isfinite().all():
            raise InputError(f"stream: NaN or infinite values in the samples from {self.samples} on")
        self.samples += samples.shape[2]
        values = self.tokenizer.modality.normalize(samples.to(self.tokenizer.device, self.tokenizer.dtype).clamp(-1, 1))
        values = pad_to_multiple(values, self._encoder.strides[1:], rank=rank - 1) if values.shape[2] and rank > 1 else values
        joined = values if self._rest is None else torch.cat([self._rest, values], 2)
        whole = self._whole(joined.shape[2])
        self._rest = joined[:, :, whole:].clone()
        return self._codes(joined[:, :, :whole])

    @torch.inference_mode()
    def flush(self) -> Tensor:
        """The codes of the last frame, where one was begun; none otherwise. The encoder's side is new after it."""
        rest = self._rest
        if rest is None:
            raise InputError("stream: nothing to flush, no samples came")
        if rest.shape[2]:
            missing = self._needed() - rest.shape[2]
            rest = torch.cat([rest, rest[:, :, -1:].repeat_interleave(missing, 2)], 2)
        codes = self._codes(rest)
        self._rest, self._encoder_state, self.samples = None, {}, 0
        return codes

    @torch.inference_mode()
    def decode(self, codes: Tensor, *, cells: tuple[int, ...] | None = None) -> Tensor:
        """The samples of the next frames, in the public range.

        Args:
            codes: [B, m, Q]; of video, those of whole latent frames.
            cells: of video: (height, width) of a latent frame, where this stream has not encoded it.

        Returns:
            [B, C, n, ...], n the samples of these frames.

        Raises:
            InputError: the codes are not those of whole latent frames, or of another tokenizer or number of sounds; `cells` is missing.
        """
        tokenizer = self.tokenizer
        self._check_codes(codes)
        cells = self._cells if cells is None else cells
        if len(cells) != self._decoder.rank - 1:
            raise InputError(f"stream: decode needs cells=(height, width) of a latent frame, got {cells}")
        frames, over = divmod(codes.shape[1], math.prod(cells))
        if over:
            raise InputError(f"stream: {codes.shape[1]} codes are not whole latent frames of {cells}")
        if not frames:
            lengths = [cell * step for cell, step in zip(cells, self._decoder.strides[1:], strict=True)]
            return torch.zeros(len(codes), self._decoder.channels, 0, *lengths, device=tokenizer.device)
        grid = (frames, *cells)
        with autocast(self.tokenizer.device, self.tokenizer.precision):
            latents = tokenizer.quantizer.lookup(codes.to(tokenizer.device), grid)
            samples = self._decoder.step(tokenizer.to_decoder(latents.to(tokenizer.dtype)), self._decoder_state, grid)
        return tokenizer.modality.denormalize(samples.float())

    def _check_codes(self, codes: Tensor) -> None:
        """Codes of a number that no codebook has would stop a GPU for good, so they are looked at here."""
        sizes = self.tokenizer.quantizer.codebook_sizes
        if codes.ndim != 3 or not 1 <= codes.shape[2] <= len(sizes):
            raise InputError(f"stream: codes are [B, m, 1 to {len(sizes)}], got {list(codes.shape)}")
        limits = torch.tensor(sizes[: codes.shape[2]], device=codes.device)
        if not ((codes >= 0) & (codes < limits)).all():
            raise InputError(f"stream: codes below 0, or not below the sizes of their codebooks, {list(sizes)}")
        if self._voices not in (None, len(codes)):
            raise InputError(f"stream: codes of {self._voices} sounds so far, got those of {len(codes)}; `reset` begins new ones")
        self._voices = len(codes)

    def _needed(self) -> int:
        """Samples that the next latent needs."""
        return self.latency if self._encoder_state else self._encoder.first

    def _whole(self, count: int) -> int:
        """How many of so many samples make whole latents."""
        needed = self._needed()
        return 0 if count < needed else needed + (count - needed) // self.latency * self.latency

    def _codes(self, values: Tensor) -> Tensor:
        """Of whole latents: [B, C, n, ...] -> [B, m, Q]."""
        quantizer = self.tokenizer.quantizer
        if not values.shape[2]:
            return torch.zeros(len(values), 0, len(quantizer.codebook_sizes[: self.levels]), dtype=torch.int64, device=values.device)
        with autocast(self.tokenizer.device, self.tokenizer.precision):
            latents, grid = self._encoder.step(values, self._encoder_state)
            self._cells = grid[1:]
            codes = quantizer(self.tokenizer.to_quantizer(latents), grid).codes
        return codes[..., : self.levels]
