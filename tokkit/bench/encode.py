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

from tokkit.bulk.encode import EncodeOptions, encode_files
from tokkit.bulk.files import find_jobs
from tokkit.bulk.prepared import encode_prepared, is_prepared
from tokkit.bulk.prepared import samples as prepared_samples
from tokkit.errors import InputError
from tokkit.evaluate.provenance import provenance
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
        folder: files of one size (a mixture has no single pace), or what `tokkit prepare` wrote.
        options: of the bulk encoder.
        runs: of each, after one that is not counted.
        out: a folder, for whose file system it is measured; nothing stays there. The machine's for temporary files when not given.

    Raises:
        InputError: the files have several padded sizes.
    """
    prepared = is_prepared(folder)
    if prepared:
        with ThreadPoolExecutor(options.workers) as readers:
            samples = list(prepared_samples(tokenizer, folder, readers))
    else:
        samples = [tokenizer.modality.read(job.source) for job in find_jobs([folder], tokenizer.modality.suffixes)]
    sizes = {tokenizer.padded_size(sample) for sample in samples}
    if len(sizes) > 1:
        raise InputError(f"{folder}: files of {len(sizes)} padded sizes; measure a folder of one")
    inputs = torch.stack([tokenizer.modality.network_input(sample) for sample in samples])
    waiting = tokenizer.modality.normalize(inputs).to(tokenizer.device)

    def encode(target: Path) -> None:
        if prepared:
            encode_prepared(tokenizer, folder, target, options)
        else:
            encode_files(tokenizer, [folder], target, options)

    network, end_to_end = [], []
    for run in range(runs + 1):
        alone = len(samples) / _time(lambda: _encode_only(tokenizer, waiting, options.batch_size))
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


@torch.inference_mode()
def _encode_only(tokenizer: Tokenizer, waiting: torch.Tensor, batch_size: int) -> None:
    for batch in waiting.split(batch_size):
        tokenizer.codes_of(batch)
    if tokenizer.device.type == "cuda":
        torch.cuda.synchronize()


def _time(work: Any) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
