"""Snapshots: deterministic sorted chunks of the state, made beside the running member, and their installation.

Making one. On the loop: `index = state.cut()`, then `state.store(durable)` until `applied_stored == index`; then
`make_snapshot` in a thread: flush, checkpoint (hard links), release of the cut, and a child process that walks the
checkpoint (iterating RocksDB in a thread would stretch the loop's steps). Chunks of one index are byte-equal on every
full replica: they are slices of one stream that is a function of the state's contents, index and term.

Installing one. Chunks are verified against the manifest as they arrive; `build` (thread) has another child make a
RocksDB in a side directory, check the state hash, flush and fsync: opening a RocksDB and waiting for its full buffers
hold the interpreter lock. `switch` (thread) makes it the member's on the disk and opens it, the loop attaches it, and
the core's BASE follows.
"""

from __future__ import annotations

import os
import shutil
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Final
from zlib import crc32

from lockmaster_raft.errors import InvariantViolation
from lockmaster_raft.ready import Base

from lockmaster.statemachine.view import record_hash
from lockmaster.storage.child import run_child
from lockmaster.storage.directory import DataDirectory
from lockmaster.storage.errors import CorruptLog
from lockmaster.storage.files import Files, RealFiles, failed, replace_file
from lockmaster.storage.frame import decode_base_body, encode_base_body
from lockmaster.storage.records import (
    INLINE,
    LARGE_BYTES_MIN,
    META_KEY,
    Meta,
    Pointer,
    part_key,
    split_parts,
)
from lockmaster.storage.rocks import StateDatabase
from lockmaster.storage.state import StateStore, write_base

CHUNK_BYTES: Final = 1 << 20
CHUNKS_MAX: Final = 1 << 20
DIGEST_SIZE: Final = 32
BATCH_BYTES: Final = 128 << 10
CHILD: Final = "lockmaster.storage.snapshot_child"
MANIFEST_NAME: Final = "manifest"
SNAPSHOTS_NAME: Final = "snapshots"
HELD_PREFIX: Final = "held-"
INCOMING_PREFIX: Final = "incoming-"
_STREAM_HEAD: Final = struct.Struct(">8sHQQQ")
_STREAM_MAGIC: Final = b"LMSTATE\x01"
_RECORD: Final = struct.Struct(">II")
_MANIFEST: Final = struct.Struct(">8sIIQ")
_MANIFEST_MAGIC: Final = b"LMMANIF\x01"


class ChunkRefused(Exception):
    """A received chunk is not what the manifest says; ask again, elsewhere if possible."""


def chunk_digest(data: bytes) -> bytes:
    """The content address of a chunk: BLAKE2b-256."""
    return blake2b(data, digest_size=DIGEST_SIZE).digest()


def chunk_name(number: int) -> str:
    """File name of a chunk."""
    return f"chunk-{number:08d}"


def encode_stream_head(meta: Meta) -> bytes:
    """The stream's first bytes."""
    return _STREAM_HEAD.pack(_STREAM_MAGIC, 1, meta.applied, meta.term, meta.state_hash)


def encode_stream_record(full_key: bytes, value: bytes) -> bytes:
    """One record of the stream."""
    return _RECORD.pack(len(full_key), len(value)) + full_key + value


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A finished snapshot on disk."""

    path: str
    base: Base
    digests: tuple[bytes, ...]
    bytes_total: int

    def read_chunk(self, number: int) -> bytes | None:
        """Chunk `number`, verified, or None if there is no such chunk. Raises CorruptLog if it is damaged."""
        if not 0 <= number < len(self.digests):
            return None
        path = f"{self.path}/{chunk_name(number)}"
        data = RealFiles().read(path, 0, CHUNK_BYTES)
        if chunk_digest(data) != self.digests[number]:
            raise CorruptLog(f"{path}: does not match its digest")
        return data


def make_snapshot(directory: DataDirectory, base: Base) -> Snapshot:
    """A snapshot of the state at base.index. Blocks: call it in a thread, after `state.cut()` and storing up to it.

    Replaces older snapshots. Raises StorageFailed.
    """
    state = directory.state
    if state.applied_stored != base.index:
        raise InvariantViolation(f"snapshot at {base.index}, but the state is stored up to {state.applied_stored}")
    files, root = RealFiles(), f"{directory.path}/{SNAPSHOTS_NAME}"
    files.make_dir(root)
    checkpoint, side, final = f"{root}/checkpoint", f"{root}/making", f"{root}/{base.index:020d}"
    for leftover in (checkpoint, side):
        shutil.rmtree(leftover, ignore_errors=True)
    try:
        state.flush()
        state.database.checkpoint(checkpoint)
    finally:
        state.release()
    files.make_dir(side)
    run_child(CHILD, "make", checkpoint, side)
    shutil.rmtree(checkpoint, ignore_errors=True)
    snapshot = _finish_manifest(files, side, final, base)
    files.sync_dir(side)
    shutil.rmtree(final, ignore_errors=True)
    files.rename(side, final)
    files.sync_dir(root)
    for name in files.list_dir(root):
        if name.isdigit() and name != os.path.basename(final):
            shutil.rmtree(f"{root}/{name}", ignore_errors=True)
    return snapshot


def latest_snapshot(directory: DataDirectory) -> Snapshot | None:
    """The newest whole snapshot on disk, or None."""
    files, root = RealFiles(), f"{directory.path}/{SNAPSHOTS_NAME}"
    if not files.exists(root):
        return None
    names = [name for name in files.list_dir(root) if name.isdigit()]
    return open_snapshot(f"{root}/{names[-1]}") if names else None


def open_snapshot(path: str) -> Snapshot:
    """The snapshot in this directory; CorruptLog if its manifest is damaged."""
    files, manifest = RealFiles(), f"{path}/{MANIFEST_NAME}"
    return decode_manifest(path, files.read(manifest, 0, files.size(manifest)), manifest)


def decode_manifest(path: str, data: bytes, where: str) -> Snapshot:
    """The snapshot at `path` with this manifest; CorruptLog if it is damaged."""
    if len(data) < _MANIFEST.size + 4 or crc32(data[:-4]) != int.from_bytes(data[-4:], "big"):
        raise CorruptLog(f"{where}: checksum does not match")
    magic, base_size, count, total = _MANIFEST.unpack_from(data)
    at = _MANIFEST.size + base_size
    if magic != _MANIFEST_MAGIC or len(data) != at + count * DIGEST_SIZE + 4:
        raise CorruptLog(f"{where}: is not a snapshot's manifest")
    digests = tuple(data[at + DIGEST_SIZE * n : at + DIGEST_SIZE * (n + 1)] for n in range(count))
    return Snapshot(path, decode_base_body(data[_MANIFEST.size : at]), digests, total)


def _encode_manifest(snapshot: Snapshot) -> bytes:
    body = encode_base_body(snapshot.base)
    head = _MANIFEST.pack(_MANIFEST_MAGIC, len(body), len(snapshot.digests), snapshot.bytes_total)
    manifest = head + body + b"".join(snapshot.digests)
    return manifest + crc32(manifest).to_bytes(4, "big")


def hold(snapshot: Snapshot, number: int) -> Snapshot:
    """The same snapshot under a name of its own (hard links), which newer ones don't replace; end it with `let_go`.

    Blocks: call it in a thread. Raises StorageFailed, FileNotFoundError (it was just replaced: take the newer one).
    """
    path = f"{os.path.dirname(snapshot.path)}/{HELD_PREFIX}{number}"
    shutil.rmtree(path, ignore_errors=True)
    RealFiles().make_dir(path)
    try:
        for name in (MANIFEST_NAME, *map(chunk_name, range(len(snapshot.digests)))):
            os.link(f"{snapshot.path}/{name}", f"{path}/{name}")
    except FileNotFoundError:
        shutil.rmtree(path, ignore_errors=True)
        raise
    except OSError as error:
        shutil.rmtree(path, ignore_errors=True)
        raise failed("link", path, error) from error
    return replace(snapshot, path=path)


def let_go(snapshot: Snapshot) -> None:
    """End what `hold` began."""
    shutil.rmtree(snapshot.path, ignore_errors=True)


def let_all_go(directory: DataDirectory) -> None:
    """Remove what a process that ended had held."""
    root = f"{directory.path}/{SNAPSHOTS_NAME}"
    for name in RealFiles().list_dir(root) if RealFiles().exists(root) else ():
        if name.startswith(HELD_PREFIX):
            shutil.rmtree(f"{root}/{name}", ignore_errors=True)


def fetched_paths(directory: DataDirectory) -> list[str]:
    """Where chunks of snapshots lie that were being fetched; cheap."""
    root = f"{directory.path}/{SNAPSHOTS_NAME}"
    names = directory.files.list_dir(root) if directory.files.exists(root) else ()
    return [f"{root}/{name}" for name in names if name.startswith(INCOMING_PREFIX)]


def _finish_manifest(files: RealFiles, side: str, final: str, base: Base) -> Snapshot:
    """Write the manifest over the chunks that the child left."""
    digests, total = list[bytes](), 0
    for number in range(len([name for name in files.list_dir(side) if name.startswith("chunk-")])):
        data = files.read(f"{side}/{chunk_name(number)}", 0, CHUNK_BYTES + 1)
        digests.append(chunk_digest(data))
        total += len(data)
    snapshot = Snapshot(final, base, tuple(digests), total)
    replace_file(files, side, MANIFEST_NAME, _encode_manifest(snapshot))
    return snapshot


class SnapshotWriter:
    """A snapshot on its way in: chunks in a side directory, then a state built of them, then the switch.

    The same (index, digests) after a restart finds the chunks it has (`resume`): the fetch goes on with them.
    """

    def __init__(self, directory: DataDirectory, base: Base, digests: Sequence[bytes], bytes_total: int) -> None:
        """Raises InvariantViolation for a snapshot at or below what is applied here."""
        if directory.store is not None and base.index <= directory.store.applied:
            raise InvariantViolation(f"snapshot at {base.index}, but {directory.store.applied} is applied here")
        if len(digests) > CHUNKS_MAX:
            raise ChunkRefused(f"a manifest of {len(digests)} chunks")
        self._directory = directory
        self._files = directory.files
        self._base = base
        self._digests = tuple(digests)
        self._bytes_total = bytes_total
        self._built: str | None = None
        self.damaged = 0
        """Number of the chunk that `build_side` refused."""
        address = chunk_digest(encode_base_body(base) + b"".join(self._digests)).hex()[:16]
        self._path = f"{directory.path}/{SNAPSHOTS_NAME}/{INCOMING_PREFIX}{address}"
        self._files.make_dir(self._path)
        self._held: set[int] = set()

    def resume(self) -> frozenset[int]:
        """Take up what is here from before, verified, and remove chunks of other snapshots; the numbers now held.

        Blocks, for it reads every chunk: call it in a thread, before anything is stored.
        """
        for name in self._files.list_dir(os.path.dirname(self._path)):  # one at a time: chunks of another are left over
            if name.startswith(INCOMING_PREFIX) and name != os.path.basename(self._path):
                self._files.remove_tree(f"{os.path.dirname(self._path)}/{name}")
        names = set(self._files.list_dir(self._path))
        self._held = {n for n in range(len(self._digests)) if chunk_name(n) in names and self._is_good(n)}
        return self.held

    @property
    def held(self) -> frozenset[int]:
        """Numbers of the chunks that are here."""
        return frozenset(self._held)

    @property
    def complete(self) -> bool:
        """Whether all chunks are here."""
        return len(self._held) == len(self._digests)

    def store_chunk(self, number: int, data: bytes) -> None:
        """Verify a chunk and keep it. Raises ChunkRefused or StorageFailed."""
        if not 0 <= number < len(self._digests):
            raise ChunkRefused(f"chunk {number} of {len(self._digests)}")
        if len(data) > CHUNK_BYTES or chunk_digest(data) != self._digests[number]:
            raise ChunkRefused(f"chunk {number}: {len(data)} bytes that do not match the manifest")
        if number not in self._held:
            replace_file(self._files, self._path, chunk_name(number), data)
            self._held.add(number)

    def build(self) -> None:
        """Make the state in a side directory: verified, flushed, fsynced. Blocks: call it in a thread."""
        self._build(self._directory.next_state_name)

    def build_side(self, epoch: int) -> None:
        """The same for a promotion, in its side directory. Blocks: call it in a thread.

        Raises ChunkRefused, with its number in `damaged`, for a chunk that is no good any more.
        """
        for number in range(len(self._digests)):
            if number in self._held and not self._is_good(number):
                self._held.discard(number)
                self.damaged = number
                raise ChunkRefused(f"chunk {number} does not match the manifest any more")
        self._build(lambda: self._directory.next_side(epoch))

    def _build(self, next_name: Callable[[], str]) -> None:
        if not self.complete:
            raise InvariantViolation(f"{len(self._held)} of {len(self._digests)} chunks are here")
        name = next_name()
        path = f"{self._directory.path}/{name}"
        fetched = Snapshot(self._path, self._base, self._digests, self._bytes_total)
        if self._directory.is_model:
            build_state(self._directory.open_database(path), fetched, self._files)
        else:
            run_child(CHILD, "build", self._path, path, data=_encode_manifest(fetched))
        self._files.sync_dir(path)
        self._files.sync_dir(self._directory.path)
        self._built = name

    def switch(self) -> StateStore:
        """Make the built state the member's on the disk; open, for `attach_state`. Blocks: call it in a thread.

        The chunks go first: nothing would remove them after a crash, and without the switch they are fetched again.
        """
        if self._built is None:
            raise InvariantViolation("the snapshot's state was not built")
        self.discard()
        self._files.sync_dir(os.path.dirname(self._path))
        return self._directory.open_replacement(self._built, self._base)

    def discard(self) -> None:
        """Remove what has been fetched."""
        self._files.remove_tree(self._path)

    def _is_good(self, number: int) -> bool:
        return chunk_digest(self._chunk(number)) == self._digests[number]

    def _chunk(self, number: int) -> bytes:
        return self._files.read(f"{self._path}/{chunk_name(number)}", 0, CHUNK_BYTES)


def build_state(database: StateDatabase, fetched: Snapshot, files: Files) -> None:
    """Fill an empty database with the state of these chunks, durably; close it. Raises CorruptLog, StorageFailed."""
    names = map(chunk_name, range(len(fetched.digests)))
    chunks = (files.read(f"{fetched.path}/{name}", 0, CHUNK_BYTES) for name in names)
    try:
        fill(database, read_stream(chunks, fetched.bytes_total, fetched.base), fetched.path)
        write_base(database, fetched.base)
        database.flush()
    finally:
        database.close()


Stream = tuple[Meta, Iterator[tuple[bytes, bytes]]]
"""What a snapshot's stream says of itself, and its (full key, value) in key order."""


def read_stream(chunks: Iterator[bytes], bytes_total: int, base: Base) -> Stream:
    """Decode a snapshot's chunks one after the other. Raises CorruptLog, also while it is iterated."""
    stream = _records(chunks, bytes_total)
    meta = Meta.decode(next(stream)[1])
    if (meta.applied, meta.term) != (base.index, base.term):
        raise CorruptLog(f"the snapshot's stream holds the state at {meta.applied}, not at {base.index}")
    return meta, stream


def fill(database: StateDatabase, stream: Stream, where: str) -> None:
    """Write a stream into an empty database, batch by batch; the meta record comes last, once the hash is right.

    Nothing of it is durable before `flush`. Memory: one batch and one record. Raises CorruptLog, StorageFailed.
    """
    meta, records = stream
    total, size, batch = 0, 0, dict[bytes, bytes]()
    for full_key, value in records:
        total += record_hash(full_key, value)
        size += len(full_key) + len(value)
        if len(value) > LARGE_BYTES_MIN:
            pointer = Pointer(meta.applied, len(value))
            for number, part in enumerate(split_parts(value)):
                batch[part_key(full_key, pointer.index, number)] = part
            batch[full_key] = pointer.encode()
        else:
            batch[full_key] = INLINE + value
        if size >= BATCH_BYTES:
            database.write(batch.items())
            size, batch = 0, {}
    if total % 2**64 != meta.state_hash:
        raise CorruptLog(f"{where}: the state hash of the records is not the one stated with them")
    batch[META_KEY] = meta.encode()
    database.write(batch.items())


def _records(chunks: Iterator[bytes], bytes_total: int) -> Iterator[tuple[bytes, bytes]]:
    """(b"", encoded meta), then every (full key, value) of the stream. Raises CorruptLog."""
    buffer, at, seen = b"", 0, 0
    head = True
    for chunk in chunks:
        buffer, at = buffer[at:] + chunk, 0
        seen += len(chunk)
        if head:
            if len(buffer) < _STREAM_HEAD.size:
                continue
            magic, version, applied, term, state_hash = _STREAM_HEAD.unpack_from(buffer)
            if magic != _STREAM_MAGIC or version != 1:
                raise CorruptLog("the snapshot's stream has an unknown head")
            yield b"", Meta(applied, term, state_hash).encode()
            at, head = _STREAM_HEAD.size, False
        while len(buffer) - at >= _RECORD.size:  # ends: `at` rises
            key_size, value_size = _RECORD.unpack_from(buffer, at)
            stop = at + _RECORD.size + key_size + value_size
            if stop > len(buffer):
                break
            key_at = at + _RECORD.size
            yield buffer[key_at : key_at + key_size], buffer[key_at + key_size : stop]
            at = stop
    if head or at != len(buffer) or seen != bytes_total:
        raise CorruptLog(f"the snapshot's stream of {seen} bytes ends within a record")
