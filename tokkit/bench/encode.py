"""How near encoding a folder comes to the pace of the network alone."""

from __future__ import annotations

import shutil
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils import parametrize

from tokkit.bulk.encode import EncodeOptions, encode_files, in_batches
from tokkit.bulk.files import by_pieces, find_jobs
from tokkit.bulk.prepared import encode_prepared, is_prepared
from tokkit.bulk.prepared import samples as prepared_samples
from tokkit.errors import InputError
from tokkit.evaluate.provenance import provenance
from tokkit.modalities.base import Sample
from tokkit.modalities.padding import pad_to
from tokkit.tokenizer import Tokenizer


@dataclass(frozen=True)
class EncodeRates:
    """Samples a second; `ratio` is end to end over the network alone, the median of the runs. `storage` is the file system of the tokens:
    making a file a sample may cost it more than everything else."""

    files: int
    storage: str
    network: list[float]
    end_to_end: list[float]
    ratio: float


def measure_encode(tokenizer: Tokenizer, folder: Path, options: EncodeOptions, *, runs: int = 3, out: Path | None = None) -> EncodeRates:
    """Time encoding a folder against encoding the same samples when they wait in the device's memory, by turns.

    Args:
        tokenizer: on the device to measure.
        folder: files, or what `tokkit prepare` wrote. Samples share a batch as they do in encoding: those of one padded size.
        options: of the bulk encoder.
        runs: of each, after one that is not counted.
        out: a folder, for whose file system it is measured; nothing stays there. The machine's for temporary files when not given.

    Raises:
        InputError: a file cannot be read, or is so long that it is encoded in pieces.
    """
    prepared = is_prepared(folder)
    if prepared:
        with ThreadPoolExecutor(options.workers) as readers:
            samples = list(prepared_samples(tokenizer, folder, readers))
    else:
        files = [job.source for job in find_jobs([folder], tokenizer.modality.suffixes, tokenizer.modality.is_folder)]
        if long := [file for file in files if by_pieces(tokenizer).is_long(tokenizer, file)]:
            raise InputError(f"{long[0]}: encoded in pieces, for which nothing can wait in memory; measure a folder of shorter files")
        samples = [tokenizer.modality.read(file) for file in files]
    waiting = [_on_device(tokenizer, batch) for batch in in_batches(tokenizer, samples, options.batch_size)]

    def encode(target: Path) -> None:
        if prepared:
            encode_prepared(tokenizer, folder, target, options)
        else:
            encode_files(tokenizer, [folder], target, options)

    network, end_to_end = [], []
    for run in range(runs + 1):
        alone = len(samples) / _time(lambda: _encode_only(tokenizer, waiting))
        home = Path(tempfile.mkdtemp(dir=out))
        try:
            storage = file_system(home)
            whole = len(samples) / _time(lambda home=home: encode(home / "tokens"))
        finally:
            shutil.rmtree(home)
        if run:
            network.append(alone)
            end_to_end.append(whole)
    ratio = median(whole / alone for whole, alone in zip(end_to_end, network, strict=True))
    return EncodeRates(len(samples), storage, network, end_to_end, ratio)


def report(rates: EncodeRates, tokenizer: Tokenizer, options: EncodeOptions) -> dict[str, Any]:
    """The measurement with what it was made on."""
    return {"bench": "encode", **provenance(), "tokenizer": tokenizer.name, "options": asdict(options), **asdict(rates)}


def file_system(path: Path) -> str:
    """The type of the file system that a path lies on ("ext4", "tmpfs"); "" where the machine does not say."""
    mounts = Path("/proc/self/mounts")
    if not mounts.exists():
        return ""
    listed = (line.split(" ")[1:3] for line in mounts.read_text(encoding="utf-8", errors="replace").splitlines())
    around = {str(place) for place in (path.resolve(), *path.resolve().parents)}
    return max(((len(place), number, kind) for number, (place, kind) in enumerate(listed) if place in around), default=(0, 0, ""))[2]


def _on_device(tokenizer: Tokenizer, samples: list[Sample]) -> Tensor:
    """What the network sees of samples of one padded size."""
    inputs = [pad_to(tokenizer.modality.network_input(sample), tokenizer.padded_size(sample)) for sample in samples]
    return tokenizer.modality.normalize(torch.stack(inputs)).to(tokenizer.device)


@torch.inference_mode()
def _encode_only(tokenizer: Tokenizer, waiting: list[Tensor]) -> None:
    with parametrize.cached():
        for batch in waiting:
            tokenizer.codes_of(batch)
    if tokenizer.device.type == "cuda":
        torch.cuda.synchronize()


def _time(work: Any) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
