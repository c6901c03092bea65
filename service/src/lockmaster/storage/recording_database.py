"""RocksDB as a model on the recording file layer: after a crash it stands at any batch boundary from the last flush on.

That is all that RocksDB promises here (no WAL, one column family): a batch is whole or absent, batches are lost from
the newest on, and a flush keeps all before it. Its directory's name is a name like any other: durable once the
directory above is synced.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

from lockmaster_raft.errors import InvariantViolation

from lockmaster.storage.recording import RecordingFiles
from lockmaster.storage.rocks import Writes

_SIZES: Final = struct.Struct(">II")


class ModelDatabase:
    """A StateDatabase in memory. `Disk(files, partial(ModelDatabase, files), is_model=True)`."""

    def __init__(self, files: RecordingFiles, path: str) -> None:
        self.path = path
        self._files = files
        self._records = _decode(files.open_database(path))
        self._closed = False

    def get(self, key: bytes) -> bytes | None:
        """The value, or None."""
        return self._records.get(key)

    def write(self, writes: Writes) -> None:
        """One atomic batch: a boundary at which a crash may leave the state."""
        if self._closed:
            raise InvariantViolation(f"{self.path}: written after it was closed")
        after = dict(self._records)
        for key, value in writes:
            if value is None:
                after.pop(key, None)
            else:
                after[key] = value
        self._files.add_boundary(self.path, _encode(after))
        self._records = after

    def flush(self) -> None:
        """What was written so far stays."""
        self._files.flush_boundaries(self.path)

    def check(self) -> None:
        """Nothing runs in the background here."""

    def size_bytes(self) -> int:
        """Bytes of all records."""
        return sum(len(key) + len(value) for key, value in self._records.items())

    def checkpoint(self, path: str) -> None:
        """Not modelled: snapshots are made by a child process, from a copy."""
        raise InvariantViolation(f"{path}: the model makes no checkpoints")

    def scan(self, first: bytes, stop: bytes | None) -> Iterator[tuple[bytes, bytes]]:
        """(key, value) of first <= key < stop, ascending."""
        return iter(sorted((k, v) for k, v in self._records.items() if k >= first and (stop is None or k < stop)))

    def scan_back(self, first: bytes, stop: bytes) -> Iterator[tuple[bytes, bytes]]:
        """(key, value) of first <= key < stop, descending."""
        return iter(sorted(self.scan(first, stop), reverse=True))

    def close(self) -> None:
        """No more writes."""
        self._closed = True


def _encode(records: dict[bytes, bytes]) -> bytes:
    return b"".join(_SIZES.pack(len(k), len(v)) + k + v for k, v in sorted(records.items()))


def _decode(data: bytes) -> dict[bytes, bytes]:
    at, records = 0, dict[bytes, bytes]()
    while at < len(data):
        key_size, value_size = _SIZES.unpack_from(data, at)
        at += _SIZES.size
        records[data[at : at + key_size]] = data[at + key_size : at + key_size + value_size]
        at += key_size + value_size
    return records
