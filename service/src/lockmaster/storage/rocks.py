"""RocksDB as Lockmaster opens it: the one place that imports rocksdict.

Binding rules, measured on rocksdict 0.3.29: raw_mode everywhere; one column family; the WAL off; scans only by iter()
with status() after every page (items(), keys() and values() end silently at a bad block; a lint test forbids them).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, Protocol

from rocksdict import (
    AccessType,
    BlockBasedOptions,
    Cache,
    Checkpoint,
    Options,
    Rdict,
    RdictIter,
    WriteBatch,
    WriteOptions,
)

from lockmaster.storage.errors import CorruptLog, StorageFailed

__all__ = ["Database", "StateDatabase", "Writes"]

Writes = Iterable[tuple[bytes, bytes | None]]
"""(key, value, or None to delete), in order."""

BLOCK_CACHE_BYTES: Final = 64 << 20
WRITE_BUFFER_BYTES: Final = 64 << 20
SCAN_PAGE: Final = 256
"""Records between two looks at the iterator's status."""


def _options() -> Options:
    options = Options(raw_mode=True)
    options.create_if_missing(True)
    options.set_paranoid_checks(True)
    options.set_write_buffer_size(WRITE_BUFFER_BYTES)
    options.set_max_background_jobs(2)
    options.set_keep_log_file_num(2)
    options.set_max_open_files(256)
    table = BlockBasedOptions()
    table.set_block_cache(Cache(BLOCK_CACHE_BYTES))
    table.set_bloom_filter(10, False)
    table.set_cache_index_and_filter_blocks(True)
    options.set_block_based_table_factory(table)
    return options


class StateDatabase(Protocol):
    """What the state store needs of RocksDB; recording.py has a model of it whose crashes can be explored."""

    path: str

    def get(self, key: bytes) -> bytes | None:
        """The value, or None."""

    def write(self, writes: Writes) -> None:
        """One atomic batch, not durable before `flush`."""

    def flush(self) -> None:
        """All batches so far are durable when it returns."""

    def check(self) -> None:
        """Raises StorageFailed if a background job has failed."""

    def size_bytes(self) -> int:
        """About how much it holds: files, and what is not in one yet."""

    def checkpoint(self, path: str) -> None:
        """A copy by hard links."""

    def scan(self, first: bytes, stop: bytes | None) -> Iterator[tuple[bytes, bytes]]:
        """(key, value) of first <= key < stop, ascending, as of this call."""

    def scan_back(self, first: bytes, stop: bytes) -> Iterator[tuple[bytes, bytes]]:
        """(key, value) of first <= key < stop, descending, as of this call."""

    def close(self) -> None:
        """Close it. What was not flushed is gone, as after kill -9."""


class Database:
    """One open RocksDB. Every error leaves as StorageFailed; none is retried.

    Making it holds the interpreter lock, in any thread: five syncs for one that is there, ten for a new one. So does
    `write` while it waits for buffers to be flushed.
    """

    def __init__(self, path: str, *, read_only: bool = False) -> None:
        self.path = path
        self._read_only = read_only
        try:
            if read_only:
                self._db = Rdict(path, _options(), access_type=AccessType.read_only(False))
            else:
                self._db = Rdict(path, _options())
                write_options = WriteOptions()
                write_options.disable_wal = True  # type: ignore[method-assign,assignment]  # the stub is wrong
                self._db.set_write_options(write_options)
        except Exception as error:
            raise self._failed("open", error) from error

    def get(self, key: bytes) -> bytes | None:
        """The value, or None."""
        try:
            value: bytes | None = self._db.get(key)
        except Exception as error:
            raise self._failed("read", error) from error
        return value

    def write(self, writes: Writes) -> None:
        """One atomic batch, not durable before `flush`."""
        batch = WriteBatch(raw_mode=True)
        for key, value in writes:
            if value is None:
                del batch[key]
            else:
                batch[key] = value
        try:
            self._db.write(batch)
        except Exception as error:
            raise self._failed("write", error) from error

    def flush(self) -> None:
        """All batches so far are durable when it returns. Lets the interpreter lock go: call it in a thread."""
        try:
            self._db.flush(True)
        except Exception as error:
            raise self._failed("flush", error) from error
        self.check()

    def check(self) -> None:
        """Raises StorageFailed if a background job has failed: RocksDB would resume and hide it."""
        if self._db.property_int_value("rocksdb.background-errors"):
            raise StorageFailed(f"{self.path}: a background flush or compaction failed")

    def size_bytes(self) -> int:
        """About how much it holds: files, and what is not in one yet. A look at counters, no I/O."""
        names = ("rocksdb.total-sst-files-size", "rocksdb.cur-size-all-mem-tables")
        return sum(self._db.property_int_value(name) or 0 for name in names)

    def checkpoint(self, path: str) -> None:
        """A copy by hard links. Call right after `flush`: it holds the interpreter lock while it runs."""
        try:
            Checkpoint(self._db).create_checkpoint(path)
        except Exception as error:
            raise self._failed("checkpoint", error) from error

    def scan(self, first: bytes, stop: bytes | None) -> Iterator[tuple[bytes, bytes]]:
        """(key, value) of first <= key < stop, ascending, as of this call. Raises StorageFailed, never ends early."""
        iterator = self._iterator()
        iterator.seek(first)
        return self._walk(iterator, stop)

    def scan_back(self, first: bytes, stop: bytes) -> Iterator[tuple[bytes, bytes]]:
        """(key, value) of first <= key < stop, descending, as of this call."""
        iterator = self._iterator()
        iterator.seek_for_prev(stop)
        if iterator.valid() and iterator.key() >= stop:
            iterator.prev()
        return self._walk_back(iterator, first)

    def close(self) -> None:
        """Close it. What was not flushed is gone, as after kill -9."""
        try:
            self._db.close()
        except Exception as error:
            raise self._failed("close", error) from error

    def _iterator(self) -> RdictIter:
        try:
            return self._db.iter()
        except Exception as error:
            raise self._failed("iterate", error) from error

    def _walk(self, iterator: RdictIter, stop: bytes | None) -> Iterator[tuple[bytes, bytes]]:
        count = 0
        while iterator.valid():  # ends: the iterator advances over a finite snapshot
            key = iterator.key()
            if stop is not None and key >= stop:
                break
            yield key, iterator.value()
            count += 1
            if count % SCAN_PAGE == 0:
                self._status(iterator)
            iterator.next()
        self._status(iterator)

    def _walk_back(self, iterator: RdictIter, first: bytes) -> Iterator[tuple[bytes, bytes]]:
        while iterator.valid():  # ends: the iterator goes back over a finite snapshot
            key = iterator.key()
            if key < first:
                break
            yield key, iterator.value()
            iterator.prev()
        self._status(iterator)

    def _status(self, iterator: RdictIter) -> None:
        try:
            iterator.status()
        except Exception as error:
            raise self._failed("iterate", error) from error

    def _failed(self, what: str, error: Exception) -> StorageFailed:
        text = str(error).splitlines()[0] if str(error) else type(error).__name__
        kind = CorruptLog if text.startswith("Corruption") else StorageFailed
        return kind(f"{self.path}: {what}: {text}")
