"""A tokenizer: a modality, an encoder, a quantizer and a decoder, put together."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from itertools import groupby, islice
from pathlib import Path
from typing import Any, overload

import numpy as np
import safetensors.torch
import torch
from torch import Tensor, nn

from tokkit import pretrained, registry
from tokkit.devices import Arriving, Precision, autocast, checked_precision, pick_device
from tokkit.encoding import Encoding
from tokkit.errors import InputError, TokenFileError
from tokkit.files import replacing
from tokkit.fingerprint import fingerprint
from tokkit.modalities.base import FieldBatch, Modality, Sample, from_steps
from tokkit.modalities.padding import crop, pad_to
from tokkit.networks.base import Decoder, Encoder, FieldDecoder, GenerativeDecoder, Grid
from tokkit.output import TokenizerOutput
from tokkit.prefixes import Target, shortest
from tokkit.quantizers.base import Quantizer
from tokkit.recipe import Recipe
from tokkit.streaming import Stream
from tokkit.tiling import from_channels, map_tiles, to_channels
from tokkit.tokens import TokenHeader, Tokens

RECIPE_FILE = "recipe.yaml"
WEIGHTS_FILE = "model.safetensors"


class Tokenizer(nn.Module):
    """Turns files and tensors of one modality into discrete tokens and back.

    Where the encoder's latents and the quantizer's, or the quantizer's and the decoder's, differ in size, a linear map stands between
    them (VQGAN's quant_conv), so any quantizer plugs into any pair of networks.
    """

    def __init__(
        self,
        *,
        modality: str | Modality,
        encoder: Encoder,
        quantizer: Quantizer,
        decoder: Decoder,
        name: str = "tokenizer",
        precision: Precision = "fp32",
        tile: int | None = None,
    ):
        """
        Args:
            modality: its name, or the object when it has options.
            encoder, quantizer, decoder: built by `tokkit.build`.
            name: written into token files.
            precision: of the networks in `encode` and `decode`; quantizers compute in fp32 always.
            tile: encode and decode inputs that are longer than this along some axis in tiles of this size, a multiple of the stride, seen
                with a margin of a quarter tile. Memory then grows with the tile, not with the input; a network that looks at the
                whole input (group norms, attention) gives somewhat other codes for tiles than for the whole.

        Raises:
            InputError: the parts do not fit together, there is no such precision, or no grid to cut into tiles.
        """
        super().__init__()
        self.modality: Modality = registry.build("modality", modality) if isinstance(modality, str) else modality
        for part in (encoder, decoder):
            if part.rank != self.modality.rank:
                raise InputError(
                    f"{type(part).__name__} works on rank {part.rank}, and {self.modality.name} has {self.modality.rank} spatial axes; "
                    f"set rank={self.modality.rank} or pick another"
                )
        if encoder.strides != decoder.strides:
            by, back = ((end.stride if len(set(end.strides)) == 1 else end.strides) for end in (encoder, decoder))
            raise InputError(f"the encoder divides sizes by {by} and the decoder multiplies them by {back}; make them equal")
        if encoder.padded_size(one := (1,) * encoder.rank) != decoder.output_size(one):
            raise InputError("only one of encoder and decoder gives the first frame of a video latents of its own")
        if tile is not None and (tile < 1 or tile % encoder.stride):
            raise InputError(f"tile={tile} must be a positive multiple of the stride {encoder.stride}")
        self.name = name
        self.precision: Precision = checked_precision(precision)
        self.tile = tile
        self.encoder = encoder
        self.to_quantizer: nn.Module = nn.Identity() if encoder.dim == quantizer.dim else nn.Linear(encoder.dim, quantizer.dim)
        self.quantizer = quantizer
        self.to_decoder: nn.Module = nn.Identity() if quantizer.dim == decoder.dim else nn.Linear(quantizer.dim, decoder.dim)
        self.decoder = decoder
        self._fingerprint: tuple[tuple[tuple[int, int], ...], str] | None = None

    def forward(self, batch: Tensor | FieldBatch) -> TokenizerOutput:
        """Reconstruct [B, C, *spatial] in the public range, or the field of shapes at the batch's points, through the codes."""
        inputs = batch.inputs if isinstance(batch, FieldBatch) else self.modality.normalize(batch)
        padded = pad_to(inputs, self.encoder.padded_size(tuple(inputs.shape[2:])))
        latents, grid = self.encoder(padded)
        latents = self.to_quantizer(latents)
        quantized = self.quantizer(latents, grid)
        decoder_terms: dict[str, Tensor] = {}
        if self.training and isinstance(self.decoder, GenerativeDecoder):
            decoded, decoder_terms = self.decoder.learn(self.to_decoder(quantized.latents), grid, padded)
        else:
            decoded = self.decoder(self.to_decoder(quantized.latents), grid)
        if isinstance(batch, FieldBatch):
            assert isinstance(self.decoder, FieldDecoder)
            target, reconstruction = batch.targets, self.decoder.query(decoded, batch.queries)
        else:
            target, reconstruction = batch, self.modality.denormalize(crop(decoded, batch.shape[2:]), clamp=False)
        return TokenizerOutput(
            reconstruction,
            target,
            quantized.codes,
            quantized.loss,
            quantized.terms,
            decoder_terms,
            kept=quantized.kept,
            semantic=quantized.semantic,
            latents=latents,
            grid=grid,
        )

    @overload
    def encode(self, inputs: Any, *, num_tokens: int | None = None, levels: int | None = None, max_bits: int | None = None) -> Tokens: ...

    @overload
    def encode(
        self, inputs: Any, *, target: str, num_tokens: int | None = None, levels: int | None = None, max_bits: int | None = None
    ) -> list[Tokens]: ...

    @torch.inference_mode()
    def encode(
        self,
        inputs: Any,
        *,
        target: str | None = None,
        num_tokens: int | None = None,
        levels: int | None = None,
        max_bits: int | None = None,
    ) -> Tokens | list[Tokens]:
        """Tokens of one input or of several of one size.

        Args:
            inputs: a path, a tensor [C, *spatial] or [B, C, *spatial] in the public range, an object the modality knows (a PIL image), or
                a list of them. Inputs of several sizes: `encode_each`.
            target: "psnr:28" keeps of each input as few leading tokens as reach that metric, and the result is a list with one `Tokens` an
                input, since their lengths differ (the rule: `prefixes.shortest`). The other options then say how many it may keep at most.
            num_tokens: keep this many leading tokens, where the quantizer orders them.
            levels: keep this many leading codebooks of each token, where the quantizer is residual.
            max_bits: keep as many leading tokens as this many payload bits an input hold.

        Raises:
            InputError: an input cannot be read, sizes differ, or the quantizer cannot shorten its codes.
        """
        wanted = None if target is None else Target.parse(target, self.modality.name)
        samples = self.modality.samples(inputs)
        tokens = self.encode_samples(samples, num_tokens=num_tokens, levels=levels, max_bits=max_bits)
        return tokens if wanted is None else self._shortest(tokens, samples, wanted)

    def encode_each(
        self,
        inputs: Iterable[Any],
        *,
        batch_size: int = 16,
        target: str | None = None,
        num_tokens: int | None = None,
        levels: int | None = None,
        max_bits: int | None = None,
    ) -> Iterator[Tokens]:
        """One `Tokens` a sample, in order, whatever their sizes; neighbours of one size share a pass, up to `batch_size`. See `encode`."""
        if batch_size < 1:
            raise InputError(f"batch_size={batch_size} must be at least 1")
        wanted = None if target is None else Target.parse(target, self.modality.name)
        several = isinstance(inputs, Iterable) and not isinstance(inputs, str)  # else one path, one PIL image
        samples = (sample for item in (inputs if several else [inputs]) for sample in self.modality.samples(item))
        for _, alike in groupby(samples, self.padded_size):
            while batch := list(islice(alike, batch_size)):
                tokens = self.encode_samples(batch, num_tokens=num_tokens, levels=levels, max_bits=max_bits)
                yield from tokens if wanted is None else self._shortest(tokens, batch, wanted)

    def _shortest(self, tokens: Tokens, samples: list[Sample], target: Target) -> list[Tokens]:
        return shortest(tokens, [sample.values for sample in samples], target, self.quantizer, self.decode_each)

    def encode_samples(
        self, samples: list[Sample], *, num_tokens: int | None = None, levels: int | None = None, max_bits: int | None = None
    ) -> Tokens:
        """`encode` for samples that the modality has read already."""
        return self.begin_encode(samples).finish(num_tokens=num_tokens, levels=levels, max_bits=max_bits)

    @torch.inference_mode()
    def begin_encode(self, samples: list[Sample]) -> Encoding:
        """Start encoding samples of one padded size, from the modality's `read` or `read_steps`. A GPU then works on while this process
        does something else, until `finish`."""
        if not samples:
            raise InputError("encode: nothing to encode, the list is empty")
        sizes = {self.padded_size(sample) for sample in samples}
        if len(sizes) > 1:
            raise InputError(f"encode: inputs of several sizes ({', '.join(map(str, sorted(sizes)))}) make no one tensor; use encode_each")
        inputs = [pad_to(self.modality.network_input(sample), self.padded_size(sample)) for sample in samples]
        if len({values.dtype for values in inputs}) > 1:
            inputs = [from_steps(values) for values in inputs]
        batch = torch.empty((len(inputs), *inputs[0].shape), dtype=inputs[0].dtype, pin_memory=self.device.type == "cuda")
        np.stack([values.numpy() for values in inputs], out=batch.numpy())  # torch would wake all cores, which are busy reading
        values = from_steps(batch.to(self.device, non_blocking=True)).to(self.dtype)
        codes, grid = self.codes_of(self.modality.normalize(values))
        return Encoding(samples, Arriving(codes), grid, self.name, self.modality, self.quantizer, self.header)

    def codes_of(self, values: Tensor) -> tuple[Tensor, Grid]:
        """Codes [B, N, Q] and grid of [B, C, *spatial] on the device, in the networks' range and padded to the stride."""
        if self.tile is None or max(values.shape[-self.encoder.tile_axes :]) <= self.tile:
            return self._codes(values)
        stride = self.encoder.stride

        def codes_of_tile(tile: Tensor) -> Tensor:
            codes, grid = self._codes(tile)
            if codes.shape[1] != math.prod(grid):
                raise InputError(f"tile={self.tile}: {self.name!r} has {codes.shape[1]} tokens on a grid of {grid}; tiles need one a cell")
            return to_channels(codes, grid)

        margin = self.tile // 4 // stride * stride
        codes = map_tiles(codes_of_tile, values, tile=self.tile, margin=margin, down=stride, cut=self.encoder.tile_axes)
        return from_channels(codes), tuple(codes.shape[2:])

    def _codes(self, values: Tensor) -> tuple[Tensor, Grid]:
        with autocast(self.device, self.precision):
            latents, grid = self.encoder(values)
            return self.quantizer(self.to_quantizer(latents), grid).codes, grid

    def values_of(self, codes: Tensor, grid: Grid) -> Tensor:
        """[B, C, *spatial] in the public range and padded, of codes [B, N, Q] on the device: the inverse of `codes_of`, for no field."""
        with autocast(self.device, self.precision):
            decoded = self._decode_latents(self.quantizer.lookup(codes, grid), grid)
        return self.modality.denormalize(decoded.float())

    def _decode_latents(self, latents: Tensor, grid: Grid) -> Tensor:
        """[B, N, D] of the quantizer to [B, C, *spatial] in the networks' range."""
        latents = self.to_decoder(latents.to(self.dtype))
        stride = self.decoder.stride
        if self.tile is None or latents.shape[1] != math.prod(grid) or max(grid[-self.encoder.tile_axes :]) * stride <= self.tile:
            return self.decoder(latents, grid)

        def decode_tile(cells: Tensor) -> Tensor:
            return self.decoder(from_channels(cells), tuple(cells.shape[2:]))

        tile = self.tile // stride
        return map_tiles(decode_tile, to_channels(latents, grid), tile=tile, margin=tile // 4, up=stride, cut=self.encoder.tile_axes)

    def stream(self, *, levels: int | None = None) -> AbstractContextManager[Stream]:
        """Encode and decode one sound while it is being made: `with tok.stream() as stream`, see `Stream`.

        Raises:
            InputError: a network looks ahead, or the quantizer at more than a frame.
        """
        return Stream.of(self, levels=levels)

    def header(self, levels: int | None = None) -> TokenHeader:
        """What all token files of this tokenizer say at their beginning."""
        return TokenHeader(
            codebook_sizes=self.quantizer.codebook_sizes[:levels],
            modality=self.modality.name,
            tokenizer=self.name,
            fingerprint=self.fingerprint,
            sample_rate=self.modality.sample_rate,
            extra_fields=self.modality.extra_fields,
        )

    def padded_size(self, sample: Sample) -> tuple[int, ...]:
        """The size at which the encoder sees a sample: the next that it takes."""
        return self.encoder.padded_size(self.modality.input_size(sample))

    @torch.inference_mode()
    def decode(self, tokens: Tokens) -> Tensor:
        """Reconstructions [B, C, *spatial] in the public range, at the original size.

        Raises:
            TokenFileError: the tokens are another tokenizer's.
            InputError: the originals had several sizes; `decode_each` takes those.
        """
        each = self.decode_each(tokens)
        if len({values.shape for values in each}) > 1:
            sizes = ", ".join(str(size) for size in sorted(set(tokens.sizes)))
            raise InputError(f"decode: the originals have several sizes ({sizes}), which make no single tensor; use decode_each")
        return torch.stack(each)

    @torch.inference_mode()
    def decode_each(self, tokens: Tokens) -> list[Tensor]:
        """Reconstructions [C, *spatial], one a sample, each at its original size."""
        if not isinstance(tokens, Tokens):
            raise InputError(f"decode takes Tokens, got a {type(tokens).__name__}; Tokens.load reads a file, Tokens(codes=...) holds codes")
        self.check_header(tokens.header)
        codes = tokens.codes.to(self.device)
        if isinstance(self.decoder, FieldDecoder):
            with autocast(self.device, self.precision):
                decoded = self._decode_latents(self.quantizer.lookup(codes, tokens.grid), tokens.grid)
                surfaces = (self.modality.surface(field, device=self.device) for field in self.decoder.fields(decoded))
                return [self.modality.restore(surface, extras) for surface, extras in zip(surfaces, tokens.extras, strict=True)]
        return [
            self.modality.restore(crop(sample, size) if size else sample, extras)
            for sample, size, extras in zip(self.values_of(codes, tokens.grid), tokens.sizes, tokens.extras, strict=True)
        ]

    def check_header(self, header: TokenHeader) -> None:
        """Refuse tokens that this tokenizer did not make.

        Raises:
            TokenFileError: naming both tokenizers.
        """
        if header.fingerprint and header.fingerprint != self.fingerprint:
            raise TokenFileError(
                f"these tokens were made by {header.tokenizer or 'a tokenizer'!r} (fingerprint {header.fingerprint}), and this is "
                f"{self.name!r} (fingerprint {self.fingerprint}); decode them with the tokenizer that made them"
            )
        sizes = self.quantizer.codebook_sizes
        if header.codebook_sizes != sizes[: len(header.codebook_sizes)]:
            raise TokenFileError(f"these tokens have codebooks of {header.codebook_sizes}, and {self.name!r} has {sizes}")

    def write(self, path: str | Path, values: Tensor, *, extras: tuple[float, ...] = (), force: bool = False) -> None:
        """Write one reconstruction, [C, *spatial] or [1, C, *spatial]; with `extras=tokens.extras[0]` video gets its frame rate.

        Raises:
            InputError: no tensor, there are several, or the file exists and `force` is not set.
        """
        if not isinstance(values, Tensor):
            raise InputError(f"write takes a tensor, got a {type(values).__name__}; torch.as_tensor makes one of an array")
        if values.ndim == self.modality.rank + 2:
            if len(values) != 1:
                raise InputError(f"write takes one sample and got {len(values)}; write values[i] one by one")
            values = values[0]
        self.modality.write_sample(path, Sample(values, extras=extras), force=force)

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        return next(self.parameters()).dtype

    @property
    def fingerprint(self) -> str:
        """32 hexadecimal digits that name these parts with these weights."""
        state = self.state_dict()
        key = tuple((tensor.data_ptr(), tensor._version) for tensor in state.values() if not tensor.is_inference())
        if self._fingerprint is None or self._fingerprint[0] != key:
            self._fingerprint = key, fingerprint(repr(self._parts()), state)
        return self._fingerprint[1]

    def save(self, folder: str | Path, *, recipe: Recipe | None = None, force: bool = False) -> None:
        """Write `recipe.yaml` and `model.safetensors` into a folder.

        Args:
            folder: made where it is not there.
            recipe: the training recipe, kept whole; the parts alone when not given.
            force: replace a tokenizer that is there.

        Raises:
            InputError: a tokenizer is there and `force` is not set.
        """
        folder = Path(folder)
        if (folder / WEIGHTS_FILE).exists() and not force:
            raise InputError(f"{folder} holds a tokenizer already; pass force=True to replace it")
        folder.mkdir(parents=True, exist_ok=True)
        described = recipe or self.recipe()
        with replacing(folder / WEIGHTS_FILE) as part:
            safetensors.torch.save_model(self, str(part), metadata={"fingerprint": self.fingerprint, "format": "pt"})
        with replacing(folder / RECIPE_FILE) as part:
            part.write_text(described.to_yaml(), encoding="utf-8")

    @classmethod
    def from_pretrained(
        cls, folder: str | Path, *, device: str | torch.device = "cpu", precision: Precision = "fp32", tile: int | None = None
    ) -> Tokenizer:
        """Load a tokenizer that `save` or training wrote.

        Args:
            folder: with `recipe.yaml` and `model.safetensors`; or the name of a tokenizer that comes with the package (`tiny-image`).
            device: where it will run.
            precision, tile: as in the constructor.

        Raises:
            InputError: the folder holds no tokenizer, the weights do not fit the recipe, or the device is not there.
            RecipeError: the recipe is wrong.
        """
        folder = pretrained.resolve(folder)
        missing = [name for name in (RECIPE_FILE, WEIGHTS_FILE) if not (folder / name).is_file()]
        if missing:
            raise InputError(
                f"{folder}: no tokenizer here, {' and '.join(missing)} missing; give the folder that `tokkit train` or `save` wrote, or "
                f"{' or '.join(pretrained.names())}"
            )
        tokenizer = cls.from_recipe(Recipe.load(folder / RECIPE_FILE), precision=precision, tile=tile)
        try:
            safetensors.torch.load_model(tokenizer, folder / WEIGHTS_FILE)
        except (RuntimeError, safetensors.SafetensorError) as error:
            raise InputError(f"{folder / WEIGHTS_FILE}: not the weights of {folder / RECIPE_FILE}: {error}") from error
        return tokenizer.to(pick_device(device)).eval()

    def recipe(self) -> Recipe:
        """The parts, as a recipe that says nothing of training."""
        return Recipe(name=self.name, **self._parts())

    @classmethod
    def from_recipe(cls, recipe: Recipe, *, precision: Precision = "fp32", tile: int | None = None) -> Tokenizer:
        """A tokenizer with fresh weights."""
        parts = {part: getattr(recipe, part).build() for part in ("modality", "encoder", "quantizer", "decoder")}
        return cls(**parts, name=recipe.name, precision=precision, tile=tile)

    def _parts(self) -> dict[str, Any]:
        return {part: registry.spec_of(getattr(self, part)) for part in ("modality", "encoder", "quantizer", "decoder")}
