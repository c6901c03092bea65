"""The real file layer's failures, and what journal and marker make of them: the process must end, no retry."""

from __future__ import annotations

import fcntl
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from lockmaster.storage.errors import StorageFailed
from lockmaster.storage.files import RealFiles, replace_file
from lockmaster.storage.guard import GuardFile, Marker
from lockmaster.storage.recording import RecordingFiles

from . import journal_model as jm


def test_enospc_names_file_offset_and_errno() -> None:
    files = RealFiles()
    handle = files.open_sync("/dev/full")
    with pytest.raises(StorageFailed, match=r"write /dev/full at offset 512: No space left on device \(errno 28\)"):
        files.write(handle, 512, b"x")
    files.close(handle)


_BOUNDED = """
import resource, signal, sys
from lockmaster.storage.files import RealFiles
from lockmaster.storage.errors import StorageFailed
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
"""


def _printed(program: str, path: str) -> str:
    """By a program of its own, which bounds the size of its files."""
    command = [sys.executable, "-c", _BOUNDED + program, path]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


_SHORT = """
files = RealFiles()
files.create_zeroed(sys.argv[1], 1024)
resource.setrlimit(resource.RLIMIT_FSIZE, (1536, 1536))
handle = files.open_sync(sys.argv[1])
try:
    files.write(handle, 1024, bytes(1024))
except StorageFailed as error:
    print(error)
"""


def test_a_short_write_is_a_failure(tmp_path: Path) -> None:
    path = str(tmp_path / "f")
    assert _printed(_SHORT, path) == f"write {path} at offset 1024: short, 512 of 1024 bytes\n"
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 1536


_PREALLOCATE = """
resource.setrlimit(resource.RLIMIT_FSIZE, (1536, 1536))
try:
    RealFiles().create_zeroed(sys.argv[1], 4096)
except StorageFailed as error:
    print(error)
"""


def test_a_file_without_room_names_the_reason_and_the_bytes_it_needs(tmp_path: Path) -> None:
    """A write that is short has no reason of its own: the next one has."""
    path = str(tmp_path / "f")
    assert _printed(_PREALLOCATE, path) == f"preallocate {path}: File too large (errno 27): 4096 bytes are needed\n"
    with pytest.raises(StorageFailed, match=r"No space left on device \(errno 28\): 512 bytes are needed$"):
        RealFiles().create_zeroed("/dev/full", 512)
    with pytest.raises(StorageFailed, match=r"No such file or directory \(errno 2\)$"):
        RealFiles().create_zeroed(str(tmp_path / "none" / "f"), 512)


def test_every_write_of_the_journal_is_durable_when_it_returns(tmp_path: Path) -> None:
    """Row 63: the kernel syncs it; no call to fsync could be forgotten."""
    path = tmp_path / "segment"
    path.touch()
    files = RealFiles()
    handle = files.open_sync(str(path))
    assert fcntl.fcntl(handle, fcntl.F_GETFL) & os.O_DSYNC == os.O_DSYNC
    files.close(handle)


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    files = RealFiles()
    for call in (files.size, files.open_sync, files.sync_file, files.list_dir):
        with pytest.raises(StorageFailed, match=r"No such file or directory \(errno 2\)$"):
            call(str(tmp_path / "none"))
    files.unlink(str(tmp_path / "none"))


def test_replace_file_leaves_the_new_content_and_no_side_file(tmp_path: Path) -> None:
    files = RealFiles()
    for content in (b"one", b"longer two"):
        replace_file(files, str(tmp_path), "name", content)
        assert (tmp_path / "name").read_bytes() == content
    assert os.listdir(tmp_path) == ["name"]


def test_the_marker_follows_the_last_frame_and_tells_a_failure_at_the_next() -> None:
    files = RecordingFiles()
    jm.make(files)
    guard = GuardFile.open(files, jm.ROOT)
    marker = Marker(guard, 0)
    marker.frame_starts()
    marker.frame_done(1)
    marker.close()
    assert guard.state.mark == 1
    files.fail_at = files.operations + 1
    marker = Marker(guard, 1)
    marker.frame_starts()
    marker.frame_done(2)
    marker._thread.join()  # it ends by itself at the failure
    with pytest.raises(StorageFailed, match="errno 5"):
        marker.frame_starts()
    with pytest.raises(StorageFailed, match="errno 5"):
        guard.write_mark(3)
    marker.close()
    assert guard.state.mark == 1
