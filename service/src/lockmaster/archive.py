"""A backup archive: one portable file of a manifest and hashed chunks, read and written as a stream.

Layout (integers big-endian; storage/FORMAT.md §7 says the same):

    0   8   b"LMBACKUP"
    8   2   archive format (= 1)
    10  4   j: bytes of the manifest
    14  4   b: bytes of the BASE body
    18  4   c: count of chunks
    22  4   bytes of a chunk (the last may be shorter)
    26  8   bytes of all chunks
    34  j   manifest: JSON, UTF-8, sorted keys (Manifest's fields; for people, and for what a restore must refuse)
        b   BASE body: index, term, configuration and levels of the state in the chunks (FORMAT.md §3)
        32c BLAKE2b-256 of each chunk
        32  BLAKE2b-256 of all before
        …   the chunks: the stream of FORMAT.md §5

Laws. Every byte of the file is under a hash. Memory: the head (bounded by HEAD_BYTES_MAX) and one chunk. What was not
verified is handed to nobody. A file has its final name only when it is whole and on the disk.
This module needs nothing but the standard library: the base install can take and verify backups.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import struct
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, fields
from hashlib import blake2b
from pathlib import Path
from typing import BinaryIO, Final

MAGIC: Final = b"LMBACKUP"
FORMAT: Final = 1
CHUNK_BYTES_MAX: Final = 16 << 20
CHUNKS_MAX: Final = 1 << 20
MANIFEST_BYTES_MAX: Final = 64 << 10
BASE_BYTES_MAX: Final = 1 << 20
DIGEST_BYTES: Final = 32
READ_BYTES: Final = 1 << 20
_HEAD: Final = struct.Struct(">8sHIIIIQ")
HEAD_BYTES_MAX: Final = _HEAD.size + MANIFEST_BYTES_MAX + BASE_BYTES_MAX + (CHUNKS_MAX + 1) * DIGEST_BYTES

Progress = Callable[[int, int], None]
"""(bytes done, bytes in all) of the chunks."""


class NotAnArchive(Exception):
    """The file is no backup archive, or one of another format; the text is one line that says which."""


class ArchiveDamaged(Exception):
    """The archive is cut off, too long, or a part of it does not match its hash; the text names the part."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What an archive says of itself in words."""

    cluster_id: str
    """32 hex digits: the cluster that the backup was taken of."""
    created_unix_s: int
    """By the wall clock of the member that made it."""
    index: int
    term: int
    """The state in it is the one after this entry of the log."""
    revision: int
    """The newest revision in it: every key at or below it is as it was then."""
    level: int
    """Active feature level: a binary that knows less refuses it."""
    member: str
    """Name of the member that made it."""
    version: str
    """Version of the binary that made it."""


@dataclass(frozen=True, slots=True)
class Head:
    """Everything before the chunks."""

    manifest: Manifest
    base: bytes
    """Body of the BASE (FORMAT.md §3)."""
    digests: tuple[bytes, ...]
    chunk_bytes: int
    bytes_total: int
    """Bytes of all chunks."""

    def encode(self) -> bytes:
        """The archive up to its first chunk."""
        text = json.dumps(asdict(self.manifest), sort_keys=True).encode()
        numbers = (FORMAT, len(text), len(self.base), len(self.digests), self.chunk_bytes, self.bytes_total)
        body = _HEAD.pack(MAGIC, *numbers) + text + self.base + b"".join(self.digests)
        return body + digest(body)

    def size_of(self, number: int) -> int:
        """Bytes of chunk `number`."""
        return min(self.chunk_bytes, self.bytes_total - number * self.chunk_bytes)


def digest(data: bytes) -> bytes:
    """BLAKE2b-256."""
    return blake2b(data, digest_size=DIGEST_BYTES).digest()


class ArchiveParser:
    """Takes an archive's bytes in pieces of any size and gives back its chunks, each verified."""

    def __init__(self, where: str) -> None:
        self.head: Head | None = None
        self.chunks_done = 0
        self._where = where
        self._buffer = bytearray()

    @property
    def bytes_done(self) -> int:
        """Bytes of the verified chunks."""
        head = self.head
        return 0 if head is None else min(head.bytes_total, self.chunks_done * head.chunk_bytes)

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The chunks that these bytes complete. Raises NotAnArchive, ArchiveDamaged."""
        head = self.feed_head(data)
        if head is None:
            return
        while self.chunks_done < len(head.digests):  # ends: the buffer shrinks
            size = head.size_of(self.chunks_done)
            if len(self._buffer) < size:
                return
            chunk = bytes(self._buffer[:size])
            del self._buffer[:size]
            if digest(chunk) != head.digests[self.chunks_done]:
                raise ArchiveDamaged(
                    f"{self._where}: chunk {self.chunks_done + 1} of {len(head.digests)} does not match its hash"
                )
            self.chunks_done += 1
            yield chunk
        if self._buffer:
            raise ArchiveDamaged(f"{self._where}: bytes follow its last chunk")

    def feed_head(self, data: bytes) -> Head | None:
        """The head, if it is here with these bytes; no chunk is looked at. Raises NotAnArchive, ArchiveDamaged."""
        self._buffer += data
        if self.head is None:
            self._try_head()
        return self.head

    def finish(self) -> Head:
        """The head, once everything has been fed. Raises ArchiveDamaged if something is missing."""
        if self.head is None:
            raise ArchiveDamaged(f"{self._where}: is cut off within its head")
        count = len(self.head.digests)
        if self.chunks_done < count:
            raise ArchiveDamaged(f"{self._where}: is cut off within chunk {self.chunks_done + 1} of {count}")
        return self.head

    def _try_head(self) -> None:
        """Decode the head once it is all here."""
        buffer, where = self._buffer, self._where
        if not MAGIC.startswith(buffer[: len(MAGIC)]):
            raise NotAnArchive(f"{where}: is not a Lockmaster backup")
        if len(buffer) < _HEAD.size:
            return
        _, version, text_size, base_size, count, chunk_bytes, total = _HEAD.unpack_from(buffer)
        if version != FORMAT:
            raise NotAnArchive(f"{where}: is a backup of format {version}; this binary reads {FORMAT}")
        if (
            text_size > MANIFEST_BYTES_MAX
            or base_size > BASE_BYTES_MAX
            or not 1 <= count <= CHUNKS_MAX
            or not 1 <= chunk_bytes <= CHUNK_BYTES_MAX
            or not (count - 1) * chunk_bytes < total <= count * chunk_bytes
        ):
            raise ArchiveDamaged(f"{where}: the lengths in its head are out of their range")
        stop = _HEAD.size + text_size + base_size + count * DIGEST_BYTES
        if len(buffer) < stop + DIGEST_BYTES:
            return
        if digest(bytes(buffer[:stop])) != bytes(buffer[stop : stop + DIGEST_BYTES]):
            raise ArchiveDamaged(f"{where}: its head does not match its hash")
        at = _HEAD.size + text_size
        base, at = bytes(buffer[at : at + base_size]), at + base_size
        digests = tuple(bytes(buffer[at + DIGEST_BYTES * n : at + DIGEST_BYTES * (n + 1)]) for n in range(count))
        manifest = _manifest(bytes(buffer[_HEAD.size : _HEAD.size + text_size]), where)
        self.head = Head(manifest, base, digests, chunk_bytes, total)
        del buffer[: stop + DIGEST_BYTES]


def _manifest(text: bytes, where: str) -> Manifest:
    """Hashes are right, so whatever is wrong here was written so."""
    try:
        found = json.loads(text)
        manifest = Manifest(**{field.name: found[field.name] for field in fields(Manifest)})
    except (ValueError, KeyError, TypeError) as error:
        raise ArchiveDamaged(f"{where}: its manifest lacks {error}") from None
    for field in fields(Manifest):
        if type(getattr(manifest, field.name)).__name__ != field.type:
            raise ArchiveDamaged(f"{where}: its manifest's {field.name} is no {field.type}")
    return manifest


def read_chunks(path: Path, progress: Progress | None = None) -> Iterator[bytes]:
    """The verified chunks of an archive file, in order. Raises NotAnArchive, ArchiveDamaged, OSError."""
    parser = ArchiveParser(str(path))
    with path.open("rb") as file:
        while data := file.read(READ_BYTES):
            for chunk in parser.feed(data):
                yield chunk
                if progress is not None and parser.head is not None:
                    progress(parser.bytes_done, parser.head.bytes_total)
    parser.finish()


def read_head(path: Path) -> Head:
    """The verified head of an archive file; the chunks are not looked at. Raises as `read_chunks`."""
    parser = ArchiveParser(str(path))
    with path.open("rb") as file:
        while parser.head is None and (data := file.read(READ_BYTES)):
            parser.feed_head(data)
    return parser.head if parser.head is not None else parser.finish()


def verify(path: Path, progress: Progress | None = None) -> Head:
    """Read all of it; its head if every hash is right. Raises as `read_chunks`."""
    for _ in read_chunks(path, progress):
        pass
    return read_head(path)


class ArchiveWriter:
    """An archive on its way onto the disk, verified as it comes: `NAME.partial` until it is whole.

    Use as a context manager: what is not finished is removed. Raises FileExistsError if either name is taken.
    """

    def __init__(self, path: Path) -> None:
        if path.exists():
            raise FileExistsError(errno.EEXIST, "exists already; a backup never replaces a file", str(path))
        self._path = path
        self._partial = path.with_name(path.name + ".partial")
        self.parser = ArchiveParser(str(path))
        try:
            self._file: BinaryIO | None = self._partial.open("xb")
        except FileExistsError:
            why = "is left of a backup that did not end; remove it unless one is running"
            raise FileExistsError(errno.EEXIST, why, str(self._partial)) from None

    def __enter__(self) -> ArchiveWriter:
        return self

    def __exit__(self, *unused: object) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):  # what it had buffered: a full disk refuses that once more
                self._file.close()
            self._partial.unlink(missing_ok=True)

    def write(self, data: bytes) -> None:
        """More bytes of the archive, as they come. Raises ArchiveDamaged, OSError."""
        if self._file is None:
            raise ValueError("the archive is finished")
        for _ in self.parser.feed(data):
            pass
        self._file.write(data)

    def finish(self) -> Head:
        """Check that it is whole, make it durable, give it its name. Raises ArchiveDamaged, OSError."""
        head = self.parser.finish()
        if self._file is None:
            raise ValueError("the archive is finished")
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._partial.rename(self._path)
        self._file = None
        descriptor = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        return head
