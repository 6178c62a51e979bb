"""Sound to codes and back piece by piece, while it is being made, by tokenizers whose networks look at the past only."""

from __future__ import annotations

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
    """One sound on its way through a tokenizer; memory and time a frame do not grow with its length.

        with tokenizer.stream() as stream:
            for piece in microphone:                 # [C, n], any n
                codes = stream.encode(piece)         # [1, m, Q]: the frames that are whole by now
                loudspeaker(stream.decode(codes))    # [1, C, m * stride]
            codes = stream.flush()                   # the last frame, filled up as `Tokenizer.encode` does

    The codes are those that `Tokenizer.encode` gives for the whole, and the samples those of `Tokenizer.decode` (which cuts off what the
    last frame was filled up with). A gain that the modality would give to the whole (`loudness`) is not applied.

    Attributes:
        samples: given to `encode` so far.
    """

    def __init__(self, tokenizer: Streamable, *, levels: int | None = None):
        """
        Args:
            tokenizer: of sound, with a causal encoder and decoder (`mimi`) and a quantizer of single frames.
            levels: leading codebooks to keep, where the quantizer is residual.

        Raises:
            InputError: the tokenizer cannot stream, or not with these levels.
        """
        encoder, decoder, quantizer = tokenizer.encoder, tokenizer.decoder, tokenizer.quantizer
        if not isinstance(encoder, CausalEncoder) or not isinstance(decoder, CausalDecoder):
            raise InputError(
                f"{tokenizer.name!r} cannot stream: its {'encoder' if not isinstance(encoder, CausalEncoder) else 'decoder'} looks at what "
                "comes later; train one with the causal networks `mimi`"
            )
        if quantizer.num_codes(2) != 2 or quantizer.variable_length:
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
        self._rest: Tensor | None = None

    @property
    def latency(self) -> int:
        """Samples that have to be there before anything can be heard: one frame."""
        return self.tokenizer.encoder.stride

    @torch.inference_mode()
    def encode(self, samples: Tensor) -> Tensor:
        """The codes of the frames that this piece completes.

        Args:
            samples: [C, n] or [B, C, n] in the public range; the same B for all pieces.

        Returns:
            [B, m, Q] int64 on the tokenizer's device; m may be 0.

        Raises:
            InputError: another shape, or values that are not finite.
        """
        samples = samples.unsqueeze(0) if samples.ndim == 2 else samples
        if samples.ndim != 3 or samples.shape[1] != self.tokenizer.encoder.channels:
            raise InputError(f"stream: a piece is [{self.tokenizer.encoder.channels}, n] or a batch of these, got {list(samples.shape)}")
        if not samples.isfinite().all():
            raise InputError(f"stream: NaN or infinite values in the samples from {self.samples} on")
        self.samples += samples.shape[-1]
        values = self.tokenizer.modality.normalize(samples.to(self.tokenizer.device, self.tokenizer.dtype).clamp(-1, 1))
        joined = values if self._rest is None else torch.cat([self._rest, values], -1)
        whole = joined.shape[-1] // self.latency * self.latency
        self._rest = joined[..., whole:].clone()
        return self._codes(joined[..., :whole])

    @torch.inference_mode()
    def flush(self) -> Tensor:
        """The code of the last frame, where one was begun: [B, 0 or 1, Q]. The encoder's side is new after it."""
        rest = self._rest
        if rest is None:
            raise InputError("stream: nothing to flush, no samples came")
        codes = self._codes(pad_to_multiple(rest, self.latency, rank=1) if rest.shape[-1] else rest)
        self._rest, self._encoder_state, self.samples = None, {}, 0
        return codes

    @torch.inference_mode()
    def decode(self, codes: Tensor) -> Tensor:
        """The samples of the next frames: [B, m, Q] -> [B, C, m * stride] in the public range."""
        tokenizer = self.tokenizer
        if not codes.shape[1]:
            return torch.zeros(len(codes), self._decoder.channels, 0, device=tokenizer.device)
        with autocast(self.tokenizer.device, self.tokenizer.precision):
            latents = tokenizer.quantizer.lookup(codes.to(tokenizer.device), (codes.shape[1],))
            samples = self._decoder.step(tokenizer.to_decoder(latents.to(tokenizer.dtype)), self._decoder_state)
        return tokenizer.modality.denormalize(samples.float())

    def _codes(self, values: Tensor) -> Tensor:
        """[B, C, m * stride] -> [B, m, Q]."""
        quantizer = self.tokenizer.quantizer
        if not values.shape[-1]:
            return torch.zeros(len(values), 0, len(quantizer.codebook_sizes[: self.levels]), dtype=torch.int64, device=values.device)
        with autocast(self.tokenizer.device, self.tokenizer.precision):
            latents, grid = self._encoder.step(values, self._encoder_state)
            codes = quantizer(self.tokenizer.to_quantizer(latents), grid).codes
        return codes[..., : self.levels]
