"""A file layer in memory that can crash at any operation and say what a disk could hold then.

Model. A name made, renamed or removed is lost or kept, each on its own, until its directory is synced. A write on a
sync handle is durable when it returns; one in flight at the crash leaves any subset of its sectors. Content of a file
being preallocated is empty, or there. A write to the guard file just before one in flight elsewhere may be lost too:
marks are written beside frames. A sector is written whole or not at all.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import product
from typing import Final

from lockmaster.storage.errors import StorageFailed

SECTOR: Final = 512
SUBSET_SECTORS_MAX: Final = 8
"""Up to this many sectors every subset of a torn write is tried; above, every prefix and every single hole."""
NAMES_PENDING_MAX: Final = 6

Image = dict[str, bytes]


class Crash(Exception):
    """The planned crash; the operation named did not return."""


@dataclass(slots=True)
class _Content:
    data: bytearray
    boundaries: list[bytes] = field(default_factory=list)
    """Of a database: its content at the last flush and at each batch boundary since; empty for a plain file."""


@dataclass(slots=True)
class RecordingFiles:
    """Files in memory. `crash_at` counts operations that change something, from 1; 0: none."""

    crash_at: int = 0
    fail_at: int = 0
    """The operation that fails with StorageFailed, as EIO or ENOSPC do; 0: none. Of a write, half is there then."""
    operations: int = 0
    failed: bool = False
    names: dict[str, _Content] = field(default_factory=dict)
    durable: dict[str, _Content] = field(default_factory=dict)
    pending: list[tuple[str, _Content | None]] = field(default_factory=list)
    """(name, content or None: removed), newer than the last sync of its directory."""
    torn: tuple[_Content, int, bytes] | None = None
    beside: tuple[_Content, int, bytes] | None = None
    """(content, offset, bytes before) of the last write: the guard's mark is written beside the next frame."""
    directories: set[str] = field(default_factory=set)
    _handles: dict[int, str] = field(default_factory=dict)
    _next_handle: int = 3

    @classmethod
    def of(cls, image: Image, *, crash_at: int = 0, fail_at: int = 0) -> RecordingFiles:
        """A file system that holds this image, all of it durable."""
        files = cls(crash_at=crash_at, fail_at=fail_at)
        for name, data in image.items():
            content = _Content(bytearray(data))
            files.names[name] = files.durable[name] = content
            files.directories.add(os.path.dirname(name))
        return files

    def image(self) -> Image:
        """What a running process sees now."""
        return {name: bytes(content.data) for name, content in self.names.items()}

    def crash_images(self) -> Iterator[Image]:
        """Every state that the disk may hold after the crash."""
        pending = self.pending[-NAMES_PENDING_MAX:]
        for kept in product((False, True), repeat=len(pending)):
            names = dict(self.durable)
            for name, content in self.pending[: len(self.pending) - len(pending)]:
                _set(names, name, content)
            for keep, (name, content) in zip(kept, pending, strict=True):
                if keep:
                    _set(names, name, content)
            yield from self._torn_images(names)

    def _torn_images(self, names: dict[str, _Content]) -> Iterator[Image]:
        if self.torn is None or not any(content is self.torn[0] for content in names.values()):
            yield from _database_images(names, None, b"")
            return
        content, offset, data = self.torn
        if self.beside is not None and self.beside[0] is not content:
            mark, mark_at, before = self.beside
            now = bytes(mark.data)
            mark.data[mark_at : mark_at + len(before)] = before
            self.beside = None
            yield from self._torn_images(names)
            mark.data[:] = now
        for sectors in _sector_sets(-(-len(data) // SECTOR)):
            torn = bytearray(content.data)
            for sector in sectors:
                part = data[sector * SECTOR : (sector + 1) * SECTOR]
                torn[offset + sector * SECTOR : offset + sector * SECTOR + len(part)] = part
            yield from _database_images(names, content, bytes(torn))

    # The Files protocol.

    def exists(self, path: str) -> bool:
        """Whether the name is there."""
        return path in self.names or path in self.directories

    def list_dir(self, path: str) -> list[str]:
        """Names in a directory, sorted."""
        return sorted(os.path.basename(name) for name in self.names if os.path.dirname(name) == path)

    def size(self, path: str) -> int:
        """Size of a file."""
        return len(self._content(path).data)

    def read(self, path: str, offset: int, size: int) -> bytes:
        """Bytes of a file."""
        return bytes(self._content(path).data[offset : offset + size])

    def make_dir(self, path: str) -> None:
        """A directory; taken as durable."""
        self.directories.add(path)

    def create_zeroed(self, path: str, size: int) -> None:
        """Two points to crash at: the name with an empty file, and the whole one."""
        content = _Content(bytearray())
        self._name(path, content)
        self._operation(path)
        content.data[:] = bytes(size)
        self._operation(path)

    def open_sync(self, path: str) -> int:
        """A handle."""
        self._content(path)
        self._next_handle += 1
        self._handles[self._next_handle] = path
        return self._next_handle

    def close(self, handle: int) -> None:
        """Close a handle."""
        del self._handles[handle]

    def write(self, handle: int, offset: int, data: bytes) -> None:
        """A durable write; torn if the crash comes now."""
        path = self._handles[handle]
        content = self._content(path)
        if offset + len(data) > len(content.data):
            raise StorageFailed(f"{path}: write beyond the preallocated end at {offset}")
        self.torn = (content, offset, data)
        try:
            self._operation(path)
        except StorageFailed:
            half = len(data) // 2
            content.data[offset : offset + half] = data[:half]
            self.torn = None
            raise
        self.torn = None
        if path.endswith("/guard"):
            self.beside = (content, offset, bytes(content.data[offset : offset + len(data)]))
        else:
            self.beside = None
        content.data[offset : offset + len(data)] = data

    def sync_file(self, path: str) -> None:
        """Content is durable already in this model."""
        self._content(path)

    def sync_dir(self, path: str) -> None:
        """Names in it are durable."""
        self.beside = None
        self._operation(path)
        for name, content in self.pending:
            if os.path.dirname(name) == path:
                _set(self.durable, name, content)
        self.pending = [item for item in self.pending if os.path.dirname(item[0]) != path]

    def rename(self, old: str, new: str) -> None:
        """Replace `new`; one pending change (a rename is atomic), and the old name's removal goes with it."""
        content = self._content(old)
        self._operation(new)
        self._name(new, content)
        self._name(old, None)

    def unlink(self, path: str) -> None:
        """Remove a name."""
        if path in self.names:
            self._operation(path)
            self._name(path, None)

    def trim(self, path: str, size: int) -> None:
        """Shorten a file."""
        self._operation(path)
        del self._content(path).data[size:]

    def remove_tree(self, path: str) -> None:
        """Remove all names in and under it, and its own; each may come back until its directory is synced."""
        for name in [n for n in self.names if n == path or n.startswith(f"{path}/")]:
            self.unlink(name)
        self.directories -= {d for d in self.directories if d == path or d.startswith(f"{path}/")}

    def lock(self, path: str) -> int:
        """Nobody else is there."""
        self._next_handle += 1
        self._handles[self._next_handle] = path
        return self._next_handle

    # What recording_database.py adds: a database is one name whose content stands at a batch boundary.

    def open_database(self, path: str) -> bytes:
        """The content; an empty one is made if the name is not there."""
        if path not in self.names:
            self._operation(path)
            self._name(path, _Content(bytearray(), [b""]))
        content = self._content(path)
        content.boundaries = [bytes(content.data)]
        return bytes(content.data)

    def add_boundary(self, path: str, data: bytes) -> None:
        """One more batch."""
        content = self._content(path)
        self._operation(path)
        content.boundaries.append(data)
        content.data[:] = data

    def flush_boundaries(self, path: str) -> None:
        """All batches so far are durable."""
        content = self._content(path)
        self._operation(path)
        content.boundaries = [bytes(content.data)]

    def _name(self, path: str, content: _Content | None) -> None:
        _set(self.names, path, content)
        self.pending.append((path, content))

    def _content(self, path: str) -> _Content:
        if path not in self.names:
            raise StorageFailed(f"open {path}: No such file or directory (errno 2)")
        return self.names[path]

    def _operation(self, path: str) -> None:
        if self.failed:
            raise StorageFailed(f"{path}: used again after a failure")
        self.operations += 1
        if self.operations == self.crash_at:
            raise Crash(path)
        if self.operations == self.fail_at:
            self.failed = True
            raise StorageFailed(f"write {path}: Input/output error (errno 5)")


def _database_images(names: dict[str, _Content], torn: _Content | None, data: bytes) -> Iterator[Image]:
    """Each database at each of its boundaries, in all combinations."""
    image = {name: data if content is torn else bytes(content.data) for name, content in names.items()}
    databases = [name for name, content in names.items() if content.boundaries]
    for chosen in product(*[names[name].boundaries for name in databases]):
        yield {**image, **dict(zip(databases, chosen, strict=True))}


def _set(names: dict[str, _Content], name: str, content: _Content | None) -> None:
    if content is None:
        names.pop(name, None)
    else:
        names[name] = content


def _sector_sets(count: int) -> Iterator[tuple[int, ...]]:
    """Which sectors of a torn write may be on the disk."""
    if count <= SUBSET_SECTORS_MAX:
        for mask in range(1 << count):
            yield tuple(sector for sector in range(count) if mask >> sector & 1)
        return
    for stop in range(count + 1):
        yield tuple(range(stop))
    for hole in range(count):
        yield tuple(sector for sector in range(count) if sector != hole)
