"""Shapes that `tokkit prepare` made ready, to shards of tokens: no mesh is read, closed or sampled again."""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from tokkit.bulk.encode import EncodeOptions, Summary, begun_ahead, in_batches, shard_sink
from tokkit.data.mesh_shards import MANIFEST, check_manifest, mesh_modality, shape_sample
from tokkit.data.shapes import Prepared
from tokkit.errors import InputError
from tokkit.modalities.base import Sample
from tokkit.tokenizer import Tokenizer


def is_prepared(folder: Path) -> bool:
    """Whether `tokkit prepare` wrote the folder."""
    return (folder / MANIFEST).is_file() and any(folder.glob("shapes-*.tar"))


def encode_prepared(
    tokenizer: Tokenizer, folder: Path, out: Path, options: EncodeOptions, *, progress: Callable[[int], object] = lambda done: None
) -> Summary:
    """Encode a folder of prepared shapes into shard-00000.tok, ...

    The points that the encoder sees are chosen among the prepared ones, not among those of the mesh, so codes differ a little from those
    of the files.

    Args:
        tokenizer: for shapes, on the device to use.
        folder: see `is_prepared`.
        out: folder.
        options: `shards` is taken as set; `target` needs the meshes themselves.
        progress: called with the number of shapes that are finished.

    Raises:
        InputError: shards are there and neither `force` nor `resume` is set; the shapes were prepared otherwise than the tokenizer's
            modality says, or are damaged; a target is given, or a cut that the tokenizer does not allow.
    """
    if options.target is not None:
        raise InputError(f"{folder}: prepared shapes hold no mesh to compare with; give the mesh files for a target")
    options.check(tokenizer)
    check_manifest(folder, mesh_modality(tokenizer.modality))
    sink = shard_sink(tokenizer, out, options)
    done = skipped = bits = 0
    with ThreadPoolExecutor(max(1, options.workers), "tokkit-read") as readers, sink:

        def wanted() -> Iterator[Sample]:
            nonlocal skipped
            for sample in samples(tokenizer, folder, readers):
                if sample.name in sink.present:
                    skipped += 1
                else:
                    yield sample

        for encoding in begun_ahead(tokenizer.begin_encode(batch) for batch in in_batches(tokenizer, wanted(), options.batch_size)):
            tokens = encoding.finish(num_tokens=options.num_tokens, levels=options.levels, max_bits=options.max_bits)
            sink.put(tokens)
            done += len(tokens)
            bits += len(tokens) * tokens.payload_bits
            progress(done)
    return Summary(done, skipped, list(sink.failures), bits, 0)


def samples(tokenizer: Tokenizer, folder: Path, readers: ThreadPoolExecutor) -> Iterator[Sample]:
    """All shapes of a folder, in order, a tar file ahead; unpacked by the threads.

    Raises:
        InputError: a shape is damaged.
    """
    mesh = mesh_modality(tokenizer.modality)

    def unpacked(name: str, data: bytes, path: Path) -> Sample:
        return shape_sample(name.removesuffix(".npz"), Prepared.from_bytes(data, f"{path}:{name}"), mesh)

    waiting: list[Future[Sample]] = []
    for path in sorted(folder.glob("shapes-*.tar")):
        try:
            with tarfile.open(path) as tar:
                members = [(entry.name, tar.extractfile(entry)) for entry in tar if entry.name.endswith(".npz")]
                started = [readers.submit(unpacked, name, stream.read(), path) for name, stream in members if stream is not None]
        except (tarfile.TarError, OSError, EOFError) as error:
            raise InputError(f"{path}: damaged: {error}") from error
        yield from (future.result() for future in waiting)
        waiting = started
    yield from (future.result() for future in waiting)
