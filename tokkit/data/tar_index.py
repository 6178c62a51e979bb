"""Random access into tar files: where each member's bytes are. Knows no modality."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tarfile
from pathlib import Path
from typing import NamedTuple

from tokkit.errors import InputError
from tokkit.files import replacing

log = logging.getLogger(__name__)

_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZ": "bzip2", b"\xfd7": "xz"}


class Member(NamedTuple):
    """A regular file in a tar.

    Attributes:
        tar: path of the tar file.
        name: path inside.
        offset: of its first byte in the (uncompressed) tar.
        size: in bytes.
        data: its bytes, where the tar is compressed; None where they can be read in place.
    """

    tar: str
    name: str
    offset: int
    size: int
    data: bytes | None = None

    def read(self) -> bytes:
        """The bytes of the member.

        Raises:
            InputError: the tar is gone or shorter than when it was indexed.
        """
        if self.data is not None:
            return self.data
        try:
            with Path(self.tar).open("rb") as stream:
                stream.seek(self.offset)
                data = stream.read(self.size)
        except OSError as error:
            raise InputError(f"{self.tar}: cannot read {self.name}: {error.strerror or error}") from error
        if len(data) < self.size:
            raise InputError(f"{self.tar}: ends inside {self.name}; it was changed while in use")
        return data


def members(path: Path) -> list[Member]:
    """The regular files in a tar, in its order.

    The index of a plain tar is kept in `$XDG_CACHE_HOME/tokkit/tar` (~/.cache), so that a large one is scanned once; the size and the
    modification time tell whether it is still right. A compressed tar allows no random access and is read into memory whole.

    Raises:
        InputError: no such file, not a tar, or cut off.
    """
    try:
        with path.open("rb") as stream:
            compression = _COMPRESSED.get(stream.read(2))
        status = path.stat()
    except OSError as error:
        raise InputError(f"{path}: cannot read the tar file: {error.strerror or error}") from error
    if compression:
        return _scan(path, keep=True)
    cached = _cache_file(path)
    stamp = [status.st_size, status.st_mtime_ns]
    known = _load(cached, stamp)
    if known is not None:
        return [Member(str(path), *entry) for entry in known]
    found = _scan(path, keep=False)
    _save(cached, {"stamp": stamp, "members": [[member.name, member.offset, member.size] for member in found]})
    return found


def _scan(path: Path, *, keep: bool) -> list[Member]:
    found = []
    try:
        with tarfile.open(path, "r:*") as tar:
            for entry in tar:
                if entry.isreg() and not entry.issparse():
                    stream = tar.extractfile(entry) if keep else None
                    data = stream.read() if stream else None
                    found.append(Member(str(path), entry.name, entry.offset_data, entry.size, data))
            raw = tar.fileobj
            assert raw is not None
            raw.seek(tar.offset)
            if raw.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                raise tarfile.ReadError(f"at byte {tar.offset} is neither a file nor the mark that closes a tar")
    except (tarfile.TarError, OSError, EOFError, ValueError) as error:
        what = "damaged or cut off" if found else "not a tar file, or damaged"
        raise InputError(f"{path}: {what} after {len(found)} whole files: {error}") from error
    return found


def _cache_file(path: Path) -> Path:
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return root / "tokkit" / "tar" / f"{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:32]}.json"


def _load(cached: Path, stamp: list[int]) -> list[tuple[str, int, int]] | None:
    """The entries of an index that fits the tar, or None."""
    try:
        content = json.loads(cached.read_text(encoding="utf-8"))
        if content["stamp"] != stamp:
            return None
        return [(str(name), int(offset), int(size)) for name, offset, size in content["members"]]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        log.info("not using the index %s: %s", cached, error)
        return None


def _save(cached: Path, content: dict[str, object]) -> None:
    try:
        with replacing(cached) as part:
            part.write_text(json.dumps(content), encoding="utf-8")
    except (OSError, InputError) as error:
        log.info("cannot keep the index %s: %s", cached, error)
