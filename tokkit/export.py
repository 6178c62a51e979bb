"""A tokenizer's encoder and decoder as programs that run without tokkit: torch.export's, or ONNX's."""

from __future__ import annotations

import importlib.util
import json
import math
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.utils import parametrize

from tokkit.errors import InputError
from tokkit.files import refuse_unwritable, replacing
from tokkit.networks.base import FieldDecoder, GenerativeDecoder, Grid
from tokkit.ops.codebook_lookup.reference import directions
from tokkit.tokenizer import Tokenizer

Format = Literal["torch", "onnx"]
Part = Literal["encoder", "decoder"]
SUFFIX: dict[Format, str] = {"torch": ".pt2", "onnx": ".onnx"}
DESCRIPTION = "export.json"
BATCHES = (2, 1, 3)
"""Samples of the example that is traced, and of those that the result is checked with."""
MOST_CODES, MOST_DIFFERENCE = 0.01, 1e-3
"""The share of codes that may differ from the tokenizer's (another order of additions settles a tie otherwise), and by how much decoded
values may, on average, in the networks' range."""


def export(
    tokenizer: Tokenizer,
    out: str | Path,
    *,
    size: Sequence[int],
    format: Format = "torch",
    parts: Sequence[Part] = ("encoder", "decoder"),
    force: bool = False,
) -> dict[str, Any]:
    """Write `encoder` (values [B, C, *size] in the public range to codes [B, N, Q]) and `decoder` (back), for any B, in fp32.

    The lookup kernels are replaced by plain operations with the same result. What is written was run on random values and compared with
    the tokenizer; ONNX files where onnxruntime is installed.

    Args:
        tokenizer: on a CPU.
        out: a folder.
        size: of the inputs: height and width, samples, or frames, height and width. One that the encoder takes without padding.
        format: "torch" writes `.pt2` files for `torch.export.load`, "onnx" `.onnx` files.
        parts: which.
        force: replace files that are there.

    Returns:
        What `export.json` in the folder says too: the tokenizer, the shapes, and how the check came out.

    Raises:
        InputError: the tokenizer or the size cannot be exported, a file exists, or what was exported does something else.
    """
    _check(tokenizer, tuple(size), format)
    out = Path(out)
    files = {part: out / f"{part}{SUFFIX[format]}" for part in parts}
    for target in (*files.values(), out / DESCRIPTION):
        refuse_unwritable(target, force=force)
    plain = _plain(tokenizer)
    values = [_values(tokenizer, batch, size) for batch in BATCHES]
    with torch.inference_mode():
        coded = [tokenizer.codes_of(tokenizer.modality.normalize(each)) for each in values]
        codes, grid = [each for each, _ in coded], coded[0][1]
        decoded = [tokenizer.values_of(each, grid) for each in codes] if "decoder" in parts else []
    sides: dict[Part, tuple[nn.Module, list[Tensor], list[Tensor]]] = {
        "encoder": (_Encoder(plain), values, codes),
        "decoder": (_Decoder(plain, grid), codes, decoded),
    }
    described: dict[str, Any] = {
        "tokenizer": tokenizer.name,
        "fingerprint": tokenizer.fingerprint,
        "modality": tokenizer.modality.name,
        "sample_rate": tokenizer.modality.sample_rate,
        "size": list(size),
        "grid": list(grid),
        "codebook_sizes": list(tokenizer.quantizer.codebook_sizes),
        "format": format,
        "torch": torch.__version__,
    }
    for part, file in files.items():
        module, inputs, expected = sides[part]
        program = _trace(module, inputs[0].clone(), f"the {part} of {tokenizer.name!r}")
        with replacing(file) as place:
            run = _write(program, inputs[0].clone(), place, format)
            found = None if run is None else [run(each) for each in inputs[1:]]
            described[part] = {"file": file.name, **_compared(part, expected[1:], found, tokenizer.name)}
    with replacing(out / DESCRIPTION) as place:
        place.write_text(json.dumps(described, indent=1) + "\n", encoding="utf-8")
    return described


class _Encoder(nn.Module):
    def __init__(self, tokenizer: Tokenizer):
        super().__init__()
        self.tokenizer = tokenizer

    def forward(self, values: Tensor) -> Tensor:
        return self.tokenizer.codes_of(self.tokenizer.modality.normalize(values))[0]


class _Decoder(nn.Module):
    def __init__(self, tokenizer: Tokenizer, grid: Grid):
        super().__init__()
        self.tokenizer, self.grid = tokenizer, grid

    def forward(self, codes: Tensor) -> Tensor:
        return self.tokenizer.values_of(codes, self.grid)


def _check(tokenizer: Tokenizer, size: tuple[int, ...], format: Format) -> None:
    """Refuse what cannot be exported."""
    if isinstance(tokenizer.decoder, FieldDecoder | GenerativeDecoder):
        kind = "draws with noise" if isinstance(tokenizer.decoder, GenerativeDecoder) else "is asked for points"
        raise InputError(f"export: the decoder of {tokenizer.name!r} {kind}, which is no function of its codes alone")
    if tokenizer.precision != "fp32" or tokenizer.device.type != "cpu":
        raise InputError(f"export: from a CPU and in fp32, got {tokenizer.device.type} and {tokenizer.precision}")
    if len(size) != tokenizer.encoder.rank or min(size) < 1:
        raise InputError(f"export: size={'x'.join(map(str, size))} must be {tokenizer.encoder.rank} positive numbers")
    if (padded := tokenizer.encoder.padded_size(size)) != size:
        raise InputError(f"export: size={'x'.join(map(str, size))} is padded to {'x'.join(map(str, padded))} in encoding; export that")
    missing = [name for name in ("onnx", "onnxscript") if format == "onnx" and importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(f"export: format onnx needs {' and '.join(missing)}: pip install 'tokkit[export]'")


def _values(tokenizer: Tokenizer, batch: int, size: Sequence[int]) -> Tensor:
    """Random values in the public range."""
    random = torch.rand(batch, tokenizer.encoder.channels, *size, generator=torch.Generator().manual_seed(batch))
    return tokenizer.modality.denormalize(2 * random - 1)


def _plain(tokenizer: Tokenizer) -> Tokenizer:
    """The same again, its weight norms folded into the weights: built anew, since a copy would share the classes that folding changes."""
    plain = Tokenizer.from_recipe(tokenizer.recipe(), tile=tokenizer.tile).eval().requires_grad_(False)
    plain.load_state_dict(tokenizer.state_dict())
    for module in list(plain.modules()):
        if parametrize.is_parametrized(module):
            for name in list(module.parametrizations):  # type: ignore[arg-type]
                parametrize.remove_parametrizations(module, name)
    return plain


def _trace(module: nn.Module, example: Tensor, what: str) -> torch.export.ExportedProgram:
    from tokkit.ops import residual_lookup  # noqa: F401  the op that is replaced is registered by this

    try:
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.export.export(module, (example,), dynamic_shapes=({0: torch.export.Dim("batch", min=1)},))
            ops = torch.ops.tokkit
            table = {ops.codebook_lookup.default: _lookup, ops.residual_lookup.default: _residual}
            return program.run_decompositions(torch.export.default_decompositions() | table)
    except (RuntimeError, ValueError, TypeError) as error:
        raise InputError(f"{what} cannot be exported: {str(error).strip().splitlines()[0]}") from error


def _lookup(x: Tensor, codebook: Tensor, metric: str, backend: str, precision: str) -> Tensor:
    """`codebook_lookup` as one product in float64."""
    rows, codes = x.double(), codebook.double()
    if metric == "cosine":
        codes = directions(codes)
    if metric != "euclidean":
        return (rows @ codes.T).argmax(1)
    mean = codes.mean(0)
    return (((codes - mean).square().sum(1) / 2) - (rows - mean) @ (codes - mean).T).argmin(1)


def _residual(x: Tensor, codebooks: Tensor, backend: str, precision: str) -> tuple[Tensor, Tensor]:
    """`residual_lookup` of it."""
    residual, quantized, codes = x.float(), torch.zeros_like(x, dtype=torch.float32), []
    for book in codebooks.float().unbind():
        codes.append(_lookup(residual, book, "euclidean", backend, precision))
        residual, quantized = residual - book[codes[-1]], quantized + book[codes[-1]]
    return torch.stack(codes, 1), quantized


def _write(program: torch.export.ExportedProgram, example: Tensor, place: Path, format: Format) -> Callable[[Tensor], Tensor] | None:
    """Write a program and say how to run what was written; None where nothing here can."""
    if format == "torch":
        torch.export.save(program, place)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a buffer that nothing here writes into
            module = torch.export.load(place).module()
        return lambda values: module(values)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(program, (example,), place, dynamo=True, external_data=False, verbose=False)
    if importlib.util.find_spec("onnxruntime") is None:
        return None
    import onnxruntime

    session = onnxruntime.InferenceSession(str(place), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda values: torch.from_numpy(session.run(None, {name: values.numpy()})[0])


def _compared(part: Part, expected: list[Tensor], found: list[Tensor] | None, name: str) -> dict[str, Any]:
    """How what was written does beside the tokenizer."""
    if found is None:
        return {"checked": False}
    pairs = list(zip(found, expected, strict=True))
    if part == "encoder":
        share = sum((a != b).sum().item() for a, b in pairs) / math.fsum(b.numel() for b in expected)
        if not share <= MOST_CODES:
            raise InputError(f"the exported encoder of {name!r} gives other codes: {share:.1%} of those of random values")
        return {"checked": True, "other_codes": share}
    difference = max((a - b).abs().mean().item() for a, b in pairs)
    if not difference <= MOST_DIFFERENCE:
        raise InputError(f"the exported decoder of {name!r} gives other values: {difference:.2g} on average")
    return {"checked": True, "mean_difference": difference}
