"""Many files to token files. Threads read ahead while the device encodes, and results are written behind it."""

from __future__ import annotations

import math
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from tokkit.bulk.files import Failure, Job, by_pieces, find_jobs, refuse_existing, targets
from tokkit.errors import InputError
from tokkit.modalities.base import Sample
from tokkit.prefixes import Target, shortest
from tokkit.tokenizer import Encoding, Tokenizer
from tokkit.tokens import TokenHeader, TokenReader, Tokens, TokenWriter

SUFFIX = ".tok"
HELD_BATCHES = 4
"""Batches' worth of read samples that may wait for others of their size, or for the device."""

WRITERS = 4
"""Threads that write token files: a small file is mostly waiting for the file system."""


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
    """
    target = None if options.target is None else Target.parse(options.target, tokenizer.modality.name)
    jobs = find_jobs(inputs, tokenizer.modality.suffixes, tokenizer.modality.is_folder)
    pieces = by_pieces(tokenizer)
    sink: _Sink = _ShardSink(tokenizer, Path(out), options) if options.shards else _FileSink(jobs, Path(out), options)
    todo = [job for job in jobs if job.name not in sink.present]
    failures: list[Failure] = []
    bits = positions = done = 0

    def keep(tokens: Tokens) -> None:
        nonlocal bits, positions, done
        sink.put(tokens)
        done += len(tokens)
        bits += len(tokens) * tokens.payload_bits
        positions += sum(math.prod(size) for size in tokens.sizes)

    with ThreadPoolExecutor(max(1, options.workers), "tokkit-read") as readers, sink:
        long = dict.fromkeys(job for job in todo if pieces.is_long(tokenizer, job.source))
        for job in long:
            try:
                tokens = pieces.encode_file(tokenizer, job.source, levels=options.levels, name=job.name)
            except InputError as error:
                failures.append(Failure(job.name, str(error)))
                continue
            keep(tokens)
            progress(done + len(failures))
        samples = _read(tokenizer, [job for job in todo if job not in long], readers, options, failures)
        for encoding in one_ahead(tokenizer.begin_encode(batch) for batch in in_batches(tokenizer, samples, options.batch_size)):
            tokens = encoding.finish(num_tokens=options.num_tokens, levels=options.levels, max_bits=options.max_bits)
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

    def read(job: Job) -> Sample:
        return replace(tokenizer.modality.read(job.source), name=job.name)

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


def one_ahead(encodings: Iterator[Encoding]) -> Iterator[Encoding]:
    """Begin the next before handing out the one before it, so that the device never waits for this process."""
    before: Encoding | None = None
    for encoding in encodings:
        if before is not None:
            yield before
        before = encoding
    if before is not None:
        yield before


def shard_sink(tokenizer: Tokenizer, out: Path, options: EncodeOptions) -> _Sink:
    """Where tokens of `tokenizer` go that are packed into the shards of a folder."""
    return _ShardSink(tokenizer, out, options)


class _Sink:
    """Where tokens go. `present` holds the names of the samples whose results are there already."""

    present: frozenset[str] = frozenset()

    def __init__(self) -> None:
        self.failures: list[Failure] = []

    def put(self, tokens: Tokens) -> None:
        raise NotImplementedError

    def __enter__(self) -> _Sink:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        return None


class _FileSink(_Sink):
    """One file a sample, written by threads of its own."""

    def __init__(self, jobs: list[Job], out: Path, options: EncodeOptions):
        super().__init__()
        names = [job.name for job in jobs]
        single = out.suffix == SUFFIX and len(jobs) == 1
        self.paths = dict(zip(names, [out] if single else targets(names, out, SUFFIX), strict=True))
        if options.resume:
            self.present = frozenset(name for name, path in self.paths.items() if path.exists())
        else:
            refuse_existing(list(self.paths.values()), force=options.force, hint=", or --resume to keep them and do the rest")
        self.force = options.force
        self.writer = ThreadPoolExecutor(WRITERS, "tokkit-write")
        self.pending: deque[tuple[str, Future[None]]] = deque()

    def put(self, tokens: Tokens) -> None:
        for sample in tokens:
            name = sample.names[0]
            self.pending.append((name, self.writer.submit(sample.save, self.paths[name], force=self.force)))
        while self.pending and self.pending[0][1].done():
            self._collect()

    def _collect(self) -> None:
        name, future = self.pending.popleft()
        try:
            future.result()
        except InputError as error:
            self.failures.append(Failure(name, str(error)))

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.writer.shutdown(wait=True)
        while self.pending:
            self._collect()


class _ShardSink(_Sink):
    """Shards of many samples; an interrupted shard keeps its samples and is gone on with."""

    def __init__(self, tokenizer: Tokenizer, out: Path, options: EncodeOptions):
        super().__init__()
        self.out, self.options = out, options
        self.writer: TokenWriter | None = None
        self.shard = 0
        existing = sorted(out.glob(f"shard-*{SUFFIX}"))
        if existing and not options.resume:
            refuse_existing(existing, force=options.force, hint=", or --resume to keep them and do the rest")
            for path in existing:
                path.unlink()
        elif existing:
            present: set[str] = set()
            for path in existing:
                with TokenReader(path, expect_fingerprint=tokenizer.fingerprint) as reader:
                    present.update(reader.names)
            self.present = frozenset(present)
            self.shard = int(existing[-1].stem.removeprefix("shard-")) + 1
        if options.resume and self._path().with_name(self._path().name + ".part").exists():
            self._open(self._header(tokenizer))
            self.present |= frozenset(self.writer.resumed if self.writer else ())

    def put(self, tokens: Tokens) -> None:
        for sample in tokens:
            if self.writer is None:
                self._open(sample.header)
            assert self.writer is not None
            self.writer.append(sample)
            if len(self.writer) >= self.options.shard_size:
                self._close()

    def _header(self, tokenizer: Tokenizer) -> TokenHeader:
        return tokenizer.header(levels=self.options.levels)

    def _path(self) -> Path:
        return self.out / f"shard-{self.shard:05d}{SUFFIX}"

    def _open(self, header: TokenHeader) -> None:
        self.out.mkdir(parents=True, exist_ok=True)
        self.writer = TokenWriter(self._path(), header, force=self.options.force, resume=self.options.resume)

    def _close(self) -> None:
        if self.writer is not None:
            self.writer.close()
            self.writer = None
            self.shard += 1

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._close()
        elif self.writer is not None:
            self.writer.abort()
