"""What a member makes of how its child ends."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import NoReturn

import pytest
from lockmaster.storage.child import run_child
from lockmaster.storage.errors import ChildNotStarted, CorruptLog, StorageFailed
from lockmaster.storage.snapshot import CHILD


def test_a_disk_that_fails_is_told_in_its_last_words(tmp_path: Path) -> None:
    with pytest.raises(StorageFailed, match=f"{tmp_path}/side: the snapshot child ended with 74: .*checkpoint: open"):
        run_child(CHILD, "make", f"{tmp_path}/checkpoint", f"{tmp_path}/side")


def test_damage_is_told_as_damage(tmp_path: Path) -> None:
    with pytest.raises(CorruptLog, match="ended with 71: standard input: checksum does not match"):
        run_child(CHILD, "build", str(tmp_path), f"{tmp_path}/side", data=b"no manifest")


def test_a_bug_of_the_child_is_no_failure_of_the_disk(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"ended with 1: Traceback(.|\n)*ValueError"):
        run_child(CHILD, str(tmp_path))


def test_a_limit_of_processes_is_told_as_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lockmaster.storage.child.subprocess.Popen", no_more_processes)
    with pytest.raises(ChildNotStarted, match=r"no process can be started for .*snapshot_child: \[Errno 11\] Resource"):
        run_child(CHILD, "make", str(tmp_path), str(tmp_path))


def no_more_processes(*_: object, **__: object) -> NoReturn:
    raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
