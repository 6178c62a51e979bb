"""Many files to token files. Threads read ahead while the device encodes, and results are written behind it."""

from __future__ import annotations

import math
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from torch.nn.utils import parametrize

from tokkit.bulk.files import Failure, Job, by_pieces, find_jobs, refuse_same_names
from tokkit.bulk.sinks import FileSink, ShardSink, Sink
from tokkit.encoding import Encoding
from tokkit.errors import InputError
from tokkit.modalities.base import Sample
from tokkit.prefixes import Cut, Target, check_order, shortest
from tokkit.tokenizer import Tokenizer
from tokkit.tokens import TokenHeader, Tokens

HELD_BATCHES = 4
"""Batches' worth of read samples that may wait for others of their size, or for the device."""
BEGUN_AHEAD = 2
"""Batches that the device has been given before the codes of the one before them are looked at."""


@dataclass(frozen=True)
class EncodeOptions:
    """How to encode.

    Attributes:
        batch_size: samples a pass of the network; only samples of one padded size share a pass.
        workers: threads that read.
        force: replace results.
        resume: keep results that are there, and do the rest.
        shards: pack the samples into shard-00000.tok, ... instead of one file each.
        shard_size: samples a shard.
        num_tokens, levels, max_bits, target: as in `Tokenizer.encode`.
    """

    batch_size: int = 16
    workers: int = 4
    force: bool = False
    resume: bool = False
    shards: bool = False
    shard_size: int = 10_000
    num_tokens: int | None = None
    levels: int | None = None
    max_bits: int | None = None
    target: str | None = None

    def check(self, tokenizer: Tokenizer) -> None:
        """Refuse, before any result is replaced, what the tokenizer cannot do. Raises InputError."""
        Cut(self.num_tokens, self.levels, self.max_bits).check(tokenizer.quantizer, tokenizer.name)
        if self.target is not None:
            check_order(tokenizer.quantizer, f"target={self.target}", tokenizer.name)


@dataclass
class Summary:
    """What was done. `payload_bits` and `positions` (pixels, samples) are sums over the encoded files."""

    done: int
    skipped: int
    failures: list[Failure]
    payload_bits: int
    positions: int


def encode_files(
    tokenizer: Tokenizer,
    inputs: list[str | Path],
    out: str | Path,
    options: EncodeOptions,
    *,
    progress: Callable[[int], object] = lambda done: None,
) -> Summary:
    """Encode files and folders.

    Args:
        tokenizer: on the device to use.
        inputs: files, and folders that are searched for the modality's suffixes.
        out: a `.tok` file when there is one input file; else a folder that mirrors the inputs, or holds the shards.
        options: see there.
        progress: called with the number of files that are finished, failures included.

    Raises:
        InputError: nothing to do, or results exist and neither `force` nor `resume` is set. A single bad file does not raise: it is in
            the summary's failures.
        TokenFileError: a result to resume from is another tokenizer's, or damaged.
    """
    options.check(tokenizer)
    target = None if options.target is None else Target.parse(options.target, tokenizer.modality.name)
    jobs = find_jobs(inputs, tokenizer.modality.suffixes, tokenizer.modality.is_folder)
    pieces = by_pieces(tokenizer)
    sink: Sink
    if options.shards:
        refuse_same_names(jobs)
        sink = shard_sink(tokenizer, Path(out), options)
    else:
        sink = FileSink(tokenizer.header(levels=options.levels), jobs, Path(out), force=options.force, resume=options.resume)
    todo = [job for job in jobs if job.name not in sink.present]
    failures: list[Failure] = []
    bits = positions = done = 0

    def keep(tokens: Tokens) -> None:
        nonlocal bits, positions, done
        sink.put(tokens)
        done += len(tokens)
        bits += len(tokens) * tokens.payload_bits
        positions += sum(math.prod(size) for size in tokens.sizes)

    with ThreadPoolExecutor(max(1, options.workers), "tokkit-read") as readers, sink, parametrize.cached():
        long = dict.fromkeys(job for job in todo if pieces.is_long(tokenizer, job.source))
        for job in long:
            try:
                tokens = pieces.encode_file(tokenizer, job.source, levels=options.levels, name=job.name)
            except InputError as error:
                failures.append(Failure(job.name, str(error)))
                continue
            keep(tokens)
            progress(done + len(failures))
        header: TokenHeader | None = None
        samples = _read(tokenizer, [job for job in todo if job not in long] if long else todo, readers, options, failures)
        for encoding in begun_ahead(tokenizer.begin_encode(batch) for batch in in_batches(tokenizer, samples, options.batch_size)):
            encoding.header = header
            tokens = encoding.finish(num_tokens=options.num_tokens, levels=options.levels, max_bits=options.max_bits)
            header = tokens.header
            reduced = [tokens] if target is None else _reduced(tokenizer, tokens, encoding.samples, target, failures)
            for part in reduced:
                keep(part)
            progress(done + len(failures))
    failures.extend(sink.failures)
    return Summary(done - len(sink.failures), len(jobs) - len(todo), failures, bits, positions)


def _read(
    tokenizer: Tokenizer, jobs: Iterable[Job], readers: ThreadPoolExecutor, options: EncodeOptions, failures: list[Failure]
) -> Iterator[Sample]:
    """Samples in order, read ahead by a bounded number of files."""

    read_values = tokenizer.modality.read if options.target else tokenizer.modality.read_steps  # metrics look at floats

    def read(job: Job) -> Sample:
        return replace(read_values(job.source), name=job.name)

    waiting: deque[tuple[Job, Future[Sample]]] = deque()
    remaining = iter(jobs)
    ahead = HELD_BATCHES * options.batch_size
    while True:
        for job in islice(remaining, ahead - len(waiting)):
            waiting.append((job, readers.submit(read, job)))
        if not waiting:
            return
        job, future = waiting.popleft()
        try:
            yield future.result()
        except InputError as error:
            failures.append(Failure(job.name, str(error)))


def in_batches(tokenizer: Tokenizer, samples: Iterable[Sample], batch_size: int) -> Iterator[list[Sample]]:
    """Batches of one padded size. When too many samples wait for company, the fullest size goes ahead as it is."""
    waiting: dict[tuple[int, ...], list[Sample]] = defaultdict(list)
    held = 0
    for sample in samples:
        size = tokenizer.padded_size(sample)
        waiting[size].append(sample)
        held += 1
        if len(waiting[size]) < batch_size and held >= HELD_BATCHES * batch_size:
            size = max(waiting, key=lambda other: len(waiting[other]))
        elif len(waiting[size]) < batch_size:
            continue
        batch = waiting.pop(size)
        held -= len(batch)
        yield batch
    yield from waiting.values()


def _reduced(tokenizer: Tokenizer, tokens: Tokens, samples: list[Sample], target: Target, failures: list[Failure]) -> list[Tokens]:
    """Every sample in as few tokens as reach the target; one whose metric has no value is a failure, and the others go on."""
    try:
        return shortest(tokens, [sample.values for sample in samples], target, tokenizer.quantizer, tokenizer.decode_each)
    except InputError as error:
        if len(samples) == 1:
            failures.append(Failure(samples[0].name, str(error)))
            return []
    each = zip(tokens, samples, strict=True)
    return [part for alone, sample in each for part in _reduced(tokenizer, alone, [sample], target, failures)]


def begun_ahead(encodings: Iterator[Encoding]) -> Iterator[Encoding]:
    """Begin the next ones before handing out the one before them, so that the device never waits for this process."""
    begun: deque[Encoding] = deque()
    for encoding in encodings:
        begun.append(encoding)
        if len(begun) > BEGUN_AHEAD:
            yield begun.popleft()
    yield from begun


def shard_sink(tokenizer: Tokenizer, out: Path, options: EncodeOptions) -> ShardSink:
    """Where tokens of `tokenizer` go that are packed into the shards of a folder."""
    header = tokenizer.header(levels=options.levels)
    return ShardSink(header, out, size=options.shard_size, force=options.force, resume=options.resume)
