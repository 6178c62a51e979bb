"""Where encoded tokens go: a file a sample, or shards of many. What is there already is known before anything is encoded."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from tokkit.bulk.files import Failure, Job, refuse_existing, targets
from tokkit.errors import InputError, TokenFileError
from tokkit.tokens import TokenHeader, TokenReader, Tokens, TokenWriter
from tokkit.tokens.writer import save_each

SUFFIX = ".tok"
WRITERS = 2
"""Threads that write token files: a small file is mostly waiting for the file system."""


class Sink:
    """Where tokens go. `present` holds the names of the samples whose results are there already."""

    present: frozenset[str] = frozenset()

    def __init__(self) -> None:
        self.failures: list[Failure] = []

    def put(self, tokens: Tokens) -> None:
        raise NotImplementedError

    def __enter__(self) -> Sink:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        return None


def _kept(path: Path, header: TokenHeader) -> TokenReader:
    """A result that is there already, which must be whole and of the same tokenizer: nothing else would tell the two apart later."""
    try:
        return TokenReader(path, expect_fingerprint=header.fingerprint)
    except TokenFileError as error:
        raise TokenFileError(f"{error}; --resume cannot keep it: pass --force to replace all results, or give another -o") from error


class FileSink(Sink):
    """One file a sample, written by threads of its own."""

    def __init__(self, header: TokenHeader, jobs: list[Job], out: Path, *, force: bool, resume: bool):
        """
        Args:
            header: what the tokens share.
            jobs: all that may come.
            out: a `.tok` file when there is one job; else a folder that mirrors the inputs.
            force: replace results.
            resume: keep results that are there.

        Raises:
            InputError: results exist and neither is set.
            TokenFileError: those to keep are another tokenizer's, or damaged.
        """
        super().__init__()
        names = [job.name for job in jobs]
        single = out.suffix == SUFFIX and len(jobs) == 1
        self.paths = dict(zip(names, [out] if single else targets(names, out, SUFFIX), strict=True))
        if resume:
            self.present = frozenset(name for name, path in self.paths.items() if path.exists())
            for name in self.present:
                _kept(self.paths[name], header).close()
        else:
            refuse_existing(list(self.paths.values()), force=force, hint=", or --resume to keep them and do the rest")
        self.force = force
        self.writer = ThreadPoolExecutor(WRITERS, "tokkit-write")
        self.pending: deque[tuple[tuple[str, ...], Future[list[InputError | None]]]] = deque()

    def put(self, tokens: Tokens) -> None:
        paths = [self.paths[name] for name in tokens.names]
        self.pending.append((tokens.names, self.writer.submit(save_each, tokens, paths, self.force)))
        while self.pending and self.pending[0][1].done():
            self._collect()

    def _collect(self) -> None:
        names, future = self.pending.popleft()
        failed = zip(names, future.result(), strict=True)
        self.failures.extend(Failure(name, str(error)) for name, error in failed if error is not None)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.writer.shutdown(wait=True)
        while self.pending:
            self._collect()


class ShardSink(Sink):
    """Shards of many samples; an interrupted shard keeps its samples and is gone on with."""

    def __init__(self, header: TokenHeader, out: Path, *, size: int, force: bool, resume: bool):
        """
        Args:
            header: what the shards' tokens share.
            out: folder of shard-00000.tok, ...
            size: samples a shard.
            force: remove shards that are there.
            resume: keep them, and go on with the one that was interrupted.

        Raises:
            InputError: shards exist and neither is set.
            TokenFileError: those to keep are another tokenizer's, or damaged.
        """
        super().__init__()
        self.out, self.size, self.force, self.resume = out, size, force, resume
        self.writer: TokenWriter | None = None
        self.shard = 0
        existing = sorted(out.glob(f"shard-*{SUFFIX}"))
        if existing and not resume:
            refuse_existing(existing, force=force, hint=", or --resume to keep them and do the rest")
            for path in existing:
                path.unlink()
        elif existing:
            present: set[str] = set()
            for path in existing:
                with _kept(path, header) as reader:
                    present.update(reader.names)
            self.present = frozenset(present)
            self.shard = int(existing[-1].stem.removeprefix("shard-")) + 1
        if resume and self._path().with_name(self._path().name + ".part").exists():
            self._open(header)
            self.present |= frozenset(self.writer.resumed if self.writer else ())

    def put(self, tokens: Tokens) -> None:
        while len(tokens):
            if self.writer is None:
                self._open(tokens.header)
            assert self.writer is not None
            room = self.size - len(self.writer)
            self.writer.append(tokens[:room])
            tokens = tokens[room:]
            if len(self.writer) >= self.size:
                self._close()

    def _path(self) -> Path:
        return self.out / f"shard-{self.shard:05d}{SUFFIX}"

    def _open(self, header: TokenHeader) -> None:
        self.out.mkdir(parents=True, exist_ok=True)
        self.writer = TokenWriter(self._path(), header, force=self.force, resume=self.resume)

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
