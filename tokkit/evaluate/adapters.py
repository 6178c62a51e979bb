"""Any tokenizer as a `System`: tokkit's own, a function, a command, finished reconstructions, codecs, models of diffusers and transformers.

What a command line names:

    runs/mine                    a folder that `tokkit train` wrote
    identity                     nothing is lost
    jpeg@30                      a classical codec at one quality
    python:package.module:name   a function of a batch [B, C, *spatial] in the public range
    command:tool {input} {output}   a program that reads one file and writes another
    folder:reconstructions       files that are there already, by the samples' names
    diffusers:folder             a VQModel or AutoencoderKL; or a name of the hub that is in this machine's cache
    transformers:folder          a DAC, EnCodec, Mimi or X-Codec, alike; transformers:folder@6 at one of its rates
    torchhub:folder:entry        what an entry point of torch.hub returns; or torchhub:owner/repository:entry
"""

from __future__ import annotations

import importlib
import shlex
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from itertools import groupby
from pathlib import Path

import torch
from torch import Tensor

from tokkit import registry
from tokkit.baselines.base import Baseline
from tokkit.devices import pick_device
from tokkit.errors import InputError
from tokkit.evaluate.libraries import DiffusersSystem, TransformersSystem, load_torch_hub
from tokkit.evaluate.run import build_for
from tokkit.evaluate.systems import Coded, System, TokenizerSystem
from tokkit.modalities.base import Modality, Sample
from tokkit.tokenizer import Tokenizer

Function = Callable[[Tensor], Tensor]


class FunctionSystem(System):
    """A function of batches [B, C, *spatial] in the public range; it returns the reconstructions, of the same shape.

    Samples of one size are handed over together. How many bits lie in between is not known.
    """

    def __init__(self, function: Function, modality: Modality, *, name: str, device: str | torch.device = "cpu"):
        self.function, self.modality, self.name = function, modality, name
        self.device = pick_device(device)

    def code(self, samples: Sequence[Sample]) -> list[Coded]:
        """
        Raises:
            InputError: the function fails, or returns something else than the reconstructions.
        """
        coded: list[Coded] = []
        for shape, group in groupby(samples, lambda sample: sample.values.shape):
            batch = torch.stack([sample.values for sample in group]).to(self.device)
            with torch.inference_mode():
                found = self._call(batch)
            if not isinstance(found, Tensor) or found.shape != batch.shape:
                what = list(found.shape) if isinstance(found, Tensor) else type(found).__name__
                raise InputError(f"{self.name}: gave {what} for a batch of {len(batch)} x {list(shape)}; return the reconstructions")
            coded.extend(Coded(values, 0, 0) for values in found.float().cpu())
        return coded

    def _call(self, batch: Tensor) -> Tensor:
        """Whatever the function raises costs the samples of this batch, as a failing command does, and not the evaluation or suite."""
        try:
            return self.function(batch)
        except Exception as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            reason = f"{type(error).__name__}: {error} ({place.filename}:{place.lineno})"
            raise InputError(f"{self.name}: raised {reason} for a batch of shape {list(batch.shape)}") from error


class CodecSystem(System):
    """A classical codec at one quality."""

    def __init__(self, codec: Baseline, quality: int, modality: Modality):
        if codec.modality != modality.name:
            raise InputError(f"{codec.name}@{quality} codes {codec.modality}, and this is {modality.name}")
        low, high = codec.qualities
        if not low <= quality <= high:
            raise InputError(f"{codec.name}@{quality}: its qualities are {low} to {high}")
        self.codec, self.quality, self.modality = codec, quality, modality
        self.name = f"{codec.name}@{quality}"

    def code(self, samples: Sequence[Sample]) -> list[Coded]:
        files = [self.codec.encode(sample.values, self.quality) for sample in samples]
        return [Coded(self.codec.decode(data), 8 * len(data), len(data)) for data in files]


class FolderSystem(System):
    """Reconstructions that are there: for a sample "a/b" the file a/b with any suffix that the modality reads."""

    def __init__(self, folder: str | Path, modality: Modality, *, name: str = ""):
        self.folder, self.modality = Path(folder), modality
        if not self.folder.is_dir():
            raise InputError(f"{folder}: no such folder of reconstructions")
        self.name = name or self.folder.name

    def code(self, samples: Sequence[Sample]) -> list[Coded]:
        """
        Raises:
            InputError: one is missing, there twice, or damaged.
        """
        return [Coded(self.modality.read(self._file(sample.name)).values, 0, 0) for sample in samples]

    def _file(self, name: str) -> Path:
        there = [found for suffix in self.modality.suffixes if (found := self.folder / f"{name}{suffix}").is_file()]
        if len(there) > 1:
            raise InputError(f"{self.folder / name}: {' and '.join(path.name for path in there)} are there; leave the one to be judged")
        if there:
            return there[0]
        raise InputError(f"{self.folder / name}: no reconstruction (looked for {', '.join(self.modality.suffixes)})")


class CommandSystem(System):
    """A program that is run once a sample; "{input}" and "{output}" in its arguments become files in a temporary folder."""

    def __init__(self, command: str, modality: Modality, *, name: str = "", timeout: float = 600.0):
        try:
            self.arguments = shlex.split(command)
        except ValueError as error:
            raise InputError(f"command {command!r}: {error}; write it as in a shell") from error
        self.modality, self.timeout = modality, timeout
        for place in ("{input}", "{output}"):
            if not any(place in argument for argument in self.arguments):
                raise InputError(f"command {command!r}: {place} is missing")
        self.name = name or Path(self.arguments[0]).name

    def code(self, samples: Sequence[Sample]) -> list[Coded]:
        """
        Raises:
            InputError: the program fails, takes too long, or writes nothing that can be read.
        """
        return [self._code(sample) for sample in samples]

    def _code(self, sample: Sample) -> Coded:
        with tempfile.TemporaryDirectory(prefix="tokkit-") as folder:
            given, made = (Path(folder) / f"{end}{self.modality.output_suffix}" for end in ("input", "output"))
            self.modality.write(given, sample.values)
            command = [part.replace("{input}", str(given)).replace("{output}", str(made)) for part in self.arguments]
            try:
                done = subprocess.run(command, capture_output=True, text=True, timeout=self.timeout, check=False)
            except (OSError, subprocess.TimeoutExpired) as error:
                raise InputError(f"{self.name}: {error}") from error
            if done.returncode or not made.is_file():
                last = (done.stderr.strip().splitlines() or ["nothing on standard error"])[-1]
                raise InputError(f"{self.name}: exit code {done.returncode}, {'no output file, ' if not made.is_file() else ''}{last}")
            return Coded(self.modality.read(made).values, 0, 0)


def open_system(named: str, modality: str | Modality = "image", *, device: str | torch.device = "cpu") -> System:
    """What a command line names, see above.

    Args:
        named: one of the forms at the top of this file.
        modality: of the samples, its name or the object when it has options; a tokkit model brings its own.
        device: where it runs.

    Raises:
        InputError: there is no such thing, or it cannot be loaded.
    """
    kind, colon, rest = named.partition(":")
    built: Modality = registry.build("modality", modality) if isinstance(modality, str) else modality
    if named == "identity":
        return FunctionSystem(lambda batch: batch, built, name="identity", device=device)
    if colon and kind == "python":
        return FunctionSystem(load_function(rest), built, name=rest, device=device)
    if colon and kind == "command":
        return CommandSystem(rest, built)
    if colon and kind == "folder":
        return FolderSystem(rest, built)
    if colon and kind == "transformers":
        return TransformersSystem(rest, device=device)
    if colon and kind == "diffusers":
        return DiffusersSystem(rest, built, device=device)
    if colon and kind == "torchhub":
        return FunctionSystem(load_torch_hub(rest, device), built, name=rest.rpartition(":")[2], device=device)
    codec, quality = _codec_of(named)
    if codec and quality.isdigit():
        return CodecSystem(build_for("baseline", codec, built), int(quality), built)
    return TokenizerSystem(Tokenizer.from_pretrained(named, device=device))


def modality_of(named: str) -> str:
    """The modality that a codec codes, `opus@12` say; "image" for everything that has none or brings its own."""
    codec, _ = _codec_of(named)
    if not codec:
        return "image"
    baseline: type[Baseline] = registry.get("baseline", codec)
    return baseline.modality


def _codec_of(named: str) -> tuple[str, str]:
    """The codec of CODEC@QUALITY and what stands for its quality; "" for both of anything else."""
    codec, at, quality = named.partition("@")
    return (codec, quality) if at and codec in registry.names("baseline") else ("", "")


def load_function(target: str) -> Function:
    """The function that "package.module:name" names; the working folder counts as a place of modules.

    Raises:
        InputError: there is no such module or function.
    """
    module, colon, name = target.partition(":")
    if not colon:
        raise InputError(f"python:{target}: write python:package.module:function")
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        function = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise InputError(f"python:{target}: {error}") from error
    if not callable(function):
        raise InputError(f"python:{target}: {name} is a {type(function).__name__}, not a function")
    found: Function = function
    return found
