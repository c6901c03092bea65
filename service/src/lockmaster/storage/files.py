"""The thin file layer under journal, guard and FORMAT: a protocol, and the real one on `os`.

Laws. `write` is one pwrite on an O_DSYNC descriptor: when it returns, the bytes are durable; if it fails or is short it
raises StorageFailed and the process must exit (after EIO the page is clean and the data gone: a retry would lie). A
new name counts only after `sync_dir` of its directory. Nothing here retries.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from typing import Final, Protocol

from lockmaster.storage.errors import DirectoryBusy, StorageFailed

_ZEROS: Final = bytes(1 << 20)
_NO_ROOM: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Files(Protocol):
    """What storage needs of a file system. Paths are strings; handles are opaque ints."""

    def exists(self, path: str) -> bool:
        """Whether the name is there."""

    def list_dir(self, path: str) -> list[str]:
        """Names in a directory, sorted."""

    def size(self, path: str) -> int:
        """Size of a file in bytes."""

    def read(self, path: str, offset: int, size: int) -> bytes:
        """Up to `size` bytes from `offset`; shorter only at the end of the file."""

    def make_dir(self, path: str) -> None:
        """A directory, if it is not there."""

    def create_zeroed(self, path: str, size: int) -> None:
        """A file of `size` zero bytes, written (not a hole) and fsynced; its name is not durable yet."""

    def open_sync(self, path: str) -> int:
        """A handle whose writes are durable when they return."""

    def close(self, handle: int) -> None:
        """Close a handle."""

    def write(self, handle: int, offset: int, data: bytes) -> None:
        """One durable write."""

    def sync_file(self, path: str) -> None:
        """fsync a file's content."""

    def sync_dir(self, path: str) -> None:
        """fsync a directory: names made, renamed or removed in it are durable."""

    def rename(self, old: str, new: str) -> None:
        """Replace `new` by `old` atomically; durable after sync_dir."""

    def unlink(self, path: str) -> None:
        """Remove a name; durable after sync_dir."""

    def trim(self, path: str, size: int) -> None:
        """Give back what lies past `size`. Not synced: both lengths must mean the same."""

    def remove_tree(self, path: str) -> None:
        """Remove a directory with all in it, as far as that is possible; for what nothing refers to any more."""

    def lock(self, path: str) -> int:
        """A handle that keeps every other process out until it is closed. DirectoryBusy if another has it."""


def failed(what: str, path: str, error: OSError) -> StorageFailed:
    """The one-line error for a failed system call."""
    return StorageFailed(f"{what} {path}: {error.strerror or error} (errno {error.errno})")


class RealFiles:
    """Files on the operating system's file system."""

    def __init__(self) -> None:
        self._names: dict[int, str] = {}

    def exists(self, path: str) -> bool:
        """Whether the name is there."""
        return os.path.lexists(path)

    def list_dir(self, path: str) -> list[str]:
        """Names in a directory, sorted."""
        try:
            return sorted(os.listdir(path))
        except OSError as error:
            raise failed("list", path, error) from error

    def size(self, path: str) -> int:
        """Size of a file in bytes."""
        try:
            return os.stat(path).st_size
        except OSError as error:
            raise failed("stat", path, error) from error

    def read(self, path: str, offset: int, size: int) -> bytes:
        """Up to `size` bytes from `offset`."""
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                data = os.pread(descriptor, size, offset)
                while len(data) < size:  # bounded: each turn reads at least a byte or ends
                    more = os.pread(descriptor, size - len(data), offset + len(data))
                    if not more:
                        break
                    data += more
            finally:
                os.close(descriptor)
        except OSError as error:
            raise failed("read", path, error) from error
        return data

    def make_dir(self, path: str) -> None:
        """A directory, if it is not there."""
        try:
            os.makedirs(path, mode=0o700, exist_ok=True)
        except OSError as error:
            raise failed("make directory", path, error) from error

    def create_zeroed(self, path: str, size: int) -> None:
        """A file of zeros: written, because the first write into an unwritten extent costs a metadata commit."""
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            try:
                for at in range(0, size, len(_ZEROS)):
                    want = min(len(_ZEROS), size - at)
                    done = os.pwrite(descriptor, _ZEROS[:want], at)
                    if done != want:
                        os.pwrite(descriptor, _ZEROS[done:want], at + done)  # for its error, which says why
                        raise StorageFailed(f"preallocate {path}: short write at offset {at} of {size} bytes")
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            room = f": {size} bytes are needed" if error.errno in _NO_ROOM else ""
            raise StorageFailed(f"{failed('preallocate', path, error)}{room}") from error

    def open_sync(self, path: str) -> int:
        """A descriptor with O_DSYNC."""
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_DSYNC | os.O_CLOEXEC)
        except OSError as error:
            raise failed("open", path, error) from error
        self._names[descriptor] = path
        return descriptor

    def close(self, handle: int) -> None:
        """Close a descriptor."""
        self._names.pop(handle, None)
        os.close(handle)

    def write(self, handle: int, offset: int, data: bytes) -> None:
        """One pwrite; durable when it returns."""
        try:
            written = os.pwrite(handle, data, offset)
        except OSError as error:
            raise failed("write", f"{self._names.get(handle)} at offset {offset}", error) from error
        if written != len(data):
            name = self._names.get(handle)
            raise StorageFailed(f"write {name} at offset {offset}: short, {written} of {len(data)} bytes")

    def sync_file(self, path: str) -> None:
        """fsync a file."""
        self._sync(path, os.O_RDONLY)

    def sync_dir(self, path: str) -> None:
        """fsync a directory."""
        self._sync(path, os.O_RDONLY | os.O_DIRECTORY)

    def _sync(self, path: str, flags: int) -> None:
        try:
            descriptor = os.open(path, flags | os.O_CLOEXEC)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise failed("fsync", path, error) from error

    def rename(self, old: str, new: str) -> None:
        """Atomic replace."""
        try:
            os.rename(old, new)
        except OSError as error:
            raise failed("rename", new, error) from error

    def unlink(self, path: str) -> None:
        """Remove a name; none there is fine."""
        try:
            os.unlink(path)
        except FileNotFoundError:
            return
        except OSError as error:
            raise failed("unlink", path, error) from error

    def trim(self, path: str, size: int) -> None:
        """Shorten a file."""
        try:
            os.truncate(path, size)
        except OSError as error:
            raise failed("truncate", path, error) from error

    def remove_tree(self, path: str) -> None:
        """Remove a directory with all in it."""
        shutil.rmtree(path, ignore_errors=True)

    def lock(self, path: str) -> int:
        """An exclusive flock."""
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise failed("open", path, error) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            raise DirectoryBusy(f"{os.path.dirname(path)}: another process holds this data directory") from error
        return descriptor


def replace_file(files: Files, directory: str, name: str, data: bytes) -> None:
    """Write a small file whole: side file, synced, renamed over, directory synced. Old or new after a crash."""
    side = f"{directory}/{name}.new"
    files.create_zeroed(side, len(data))
    handle = files.open_sync(side)
    try:
        files.write(handle, 0, data)
    finally:
        files.close(handle)
    files.rename(side, f"{directory}/{name}")
    files.sync_dir(directory)
