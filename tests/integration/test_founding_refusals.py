"""Every wrong use of init, backup, restore and recover: one line, a documented exit code, nothing written."""

from __future__ import annotations

import asyncio
import os
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from lockmaster import AsyncClient
from lockmaster.archive import read_head
from lockmaster.cli.exit_codes import BUSY, CONFLICT, CORRUPT, STORAGE_FAILED, UNAVAILABLE, USAGE, WRONG_DIRECTORY
from lockmaster.cli.local_cluster import LocalCluster

from .founding import contents, done, refused, run

PLACE = ("--name", "new")


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    """One member that runs, with 3 MiB of keys."""
    with LocalCluster(
        tmp_path_factory.mktemp("old"), size=1, arguments=("--profile", "fast", "--full-min", "1")
    ) as one:
        one.start()

        async def fill() -> None:
            async with AsyncClient(one.endpoints, insecure=True) as client:
                for number in range(6):
                    await client.config("app").put(f"k{number}", os.urandom(500_000))

        asyncio.run(fill())
        yield one


@pytest.fixture(scope="module")
def archive(old: LocalCluster, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("archive") / "good.backup"
    done(run("backup", path, "-e", old.endpoints))
    return path


def test_a_target_that_is_not_blank(archive: Path, tmp_path: Path) -> None:
    target = tmp_path / "data"
    done(run("restore", archive, "--data-dir", target, *PLACE))
    before = contents(target)
    refused(run("restore", archive, "--data-dir", target, *PLACE), CONFLICT, "is not blank", "member 1 of cluster")
    refused(run("init", "--data-dir", target, *PLACE), CONFLICT, "is not blank")
    survivor = tmp_path / "data"
    refused(run("recover", "--survivor", survivor, "--data-dir", target, *PLACE), CONFLICT, "is not blank")
    assert contents(target) == before


def test_a_target_that_holds_something_else(archive: Path, tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(b"x")
    refused(run("restore", archive, "--data-dir", tmp_path, *PLACE), WRONG_DIRECTORY, "photo.jpg")
    refused(run("init", "--data-dir", tmp_path, *PLACE), WRONG_DIRECTORY, "photo.jpg")
    assert set(contents(tmp_path)) == {"photo.jpg"}


def test_a_target_that_is_a_file(archive: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    refused(run("restore", archive, "--data-dir", tmp_path / "file", *PLACE), STORAGE_FAILED, "file")
    assert (tmp_path / "file").read_bytes() == b"x"


def test_a_target_that_runs_blank(archive: Path, tmp_path: Path) -> None:
    with LocalCluster(tmp_path, size=2, arguments=("--profile", "fast")) as two:
        blank = two.members[1]  # it is told to join one that is not there
        two.start_member(blank)
        deadline = time.monotonic() + 30
        while two.status(blank) is None and time.monotonic() < deadline:
            time.sleep(0.05)
        target = ("--data-dir", blank.directory, *PLACE)
        refused(run("restore", archive, *target), BUSY, "another process")
        refused(run("init", *target), BUSY, "another process")
        status = two.status(blank)
        assert status is not None
        assert status.role == "blank"


def test_archives_that_are_none_or_damaged(archive: Path, tmp_path: Path) -> None:
    data = archive.read_bytes()
    middle = len(data) // 2
    wrong = {
        "empty": (b"", CORRUPT, "is cut off within its head"),
        "text": (b"hello, this is no backup", WRONG_DIRECTORY, "is not a Lockmaster backup"),
        "newer": (data[:8] + b"\0\2" + data[10:], WRONG_DIRECTORY, "format 2"),
        "cut": (data[:-1], CORRUPT, "is cut off within chunk"),
        "cut in its head": (data[:100], CORRUPT, "is cut off within its head"),
        "longer": (data + b"\0", CORRUPT, "bytes follow"),
        "flipped": (
            data[:middle] + bytes((data[middle] ^ 1,)) + data[middle + 1 :],
            CORRUPT,
            "does not match its hash",
        ),
        "flipped head": (data[:60] + bytes((data[60] ^ 1,)) + data[61:], CORRUPT, "head does not match its hash"),
    }
    for name, (content, code, word) in wrong.items():
        path = tmp_path / name
        path.write_bytes(content)
        refused(run("restore", path, "--data-dir", tmp_path / "data", *PLACE), code, str(path), word)
        refused(run("restore", path, "--verify-only"), code, str(path), word)
    refused(run("restore", tmp_path / "missing", "--data-dir", tmp_path / "data", *PLACE), USAGE, "missing")
    assert not (tmp_path / "data").exists()


def test_an_archive_of_the_future(archive: Path, tmp_path: Path) -> None:
    """Tokens go on by the wall clock: one that is behind could repeat them."""
    head = read_head(archive)
    rest = archive.read_bytes()[len(head.encode()) :]
    late = replace(head, manifest=replace(head.manifest, created_unix_s=int(time.time()) + 3600))
    path = tmp_path / "late"
    path.write_bytes(late.encode() + rest)
    refused(run("restore", path, "--data-dir", tmp_path / "data", *PLACE), CONFLICT, "set the clock")
    assert not (tmp_path / "data").exists()


def test_options_that_are_missing_or_wrong(archive: Path, old: LocalCluster, tmp_path: Path) -> None:
    target = ("--data-dir", tmp_path / "data")
    refused(run("restore", archive), USAGE, "--data-dir")
    refused(run("restore", archive, *target), USAGE, "--name")
    refused(run("init", *target), USAGE, "--name")
    refused(run("init", *target, *PLACE, "--cluster-id", "xyz"), USAGE, "--cluster-id")
    refused(run("init", *target, *PLACE, "--level", "99"), USAGE, "--level")
    refused(run("init", *target, *PLACE, "--advertise-peer", "nowhere"), USAGE, "--advertise-peer")
    refused(run("init", "-e", "127.0.0.1:1,127.0.0.1:2"), USAGE, "--endpoints")
    refused(run("recover", "--survivor", tmp_path / "none", *target, *PLACE), USAGE, "none")
    assert not (tmp_path / "data").exists()
    refused(run("init", "-e", old.endpoints), CONFLICT, "not blank")


def test_survivors_that_are_none(old: LocalCluster, archive: Path, tmp_path: Path) -> None:
    target = ("--data-dir", tmp_path / "new", *PLACE)
    refused(run("recover", "--survivor", old.members[0].directory, *target), BUSY, "another process")
    refused(run("recover", "--survivor", tmp_path, *target), STORAGE_FAILED, str(tmp_path))
    whole = tmp_path / "whole"
    done(run("restore", archive, "--data-dir", whole, *PLACE))
    refused(
        run("recover", "--survivor", whole, *target, "-o", "json", "--confirm", "0" * 32), CONFLICT, "not confirmed"
    )
    guard = whole / "guard"
    guard.write_bytes(bytes(guard.stat().st_size))
    refused(run("recover", "--survivor", whole, *target, "--confirm", "0" * 32), CORRUPT, str(guard))
    assert not (tmp_path / "new").exists()


def test_a_backup_that_has_nowhere_to_go(old: LocalCluster, archive: Path, tmp_path: Path) -> None:
    before = archive.read_bytes()
    refused(run("backup", archive, "-e", old.endpoints), CONFLICT, "never replaces a file")
    assert archive.read_bytes() == before
    refused(run("backup", tmp_path / "no" / "x", "-e", old.endpoints), USAGE, "there is no folder")
    refused(run("backup", tmp_path / "x", "-e", "127.0.0.1:1"), UNAVAILABLE, "127.0.0.1:1")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A tmpfs of a stated size, where this process may mount one."""
    place = tmp_path / "small"
    place.mkdir()
    if os.geteuid() != 0:
        pytest.skip("mounting a small tmpfs needs root; test_founding.py fails every single write")
    command = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("this machine does not let us mount a tmpfs; test_founding.py fails every single write")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_disk_that_is_full(old: LocalCluster, archive: Path, small_disk: Path) -> None:
    refused(run("restore", archive, "--data-dir", small_disk / "data", *PLACE), STORAGE_FAILED, "nothing was written")
    refused(run("init", "--data-dir", small_disk / "data", *PLACE), STORAGE_FAILED, "nothing was written")
    refused(run("backup", small_disk / "x", "-e", old.endpoints), STORAGE_FAILED, f"{small_disk / 'x'}: No space left")
    assert list(small_disk.iterdir()) == []
