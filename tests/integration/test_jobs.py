"""`lockmaster job`: each of the operator's Jobs may be killed anywhere and be run again (operator.md §1)."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lockmaster.cli.exit_codes import CONFLICT, CORRUPT
from lockmaster.cli.jobs import expired
from lockmaster.cli.local_cluster import LocalCluster
from lockmaster.statemachine.refounding import REVISION_SHIFT
from lockmaster.storage.files import RealFiles
from lockmaster.storage.founding import member_of, room_for

from .founding import contents, done, refused, run

NEW = "ab" * 16
PLACE = ("--name", "new-0")


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    path = tmp_path_factory.mktemp("old")
    with LocalCluster(path, size=1, arguments=("--profile", "fast", "--full-min", "1")) as one:
        one.start()
        done(run("config", "put", "app", "k", "v", "-e", one.endpoints))
        yield one


def backup(old: LocalCluster, folder: Path, stamp: str, *more: str) -> dict[str, Any]:
    report = folder.parent / "report"
    flags = ("--directory", folder, "--name", "nightly", "--stamp", stamp, "--report", report, "-e", old.endpoints)
    done(run("job", "backup", *flags, *more))
    found: dict[str, Any] = json.loads(report.read_text())
    return found


def test_a_backup_that_was_written_is_told_again_and_the_oldest_go(old: LocalCluster, tmp_path: Path) -> None:
    folder = tmp_path / "archives"
    folder.mkdir()
    (folder / "nightly-20260101T000000Z.lma.partial").write_bytes(b"of a pod that was killed")
    (folder / "nightly-x-20200101T000000Z.lma").write_bytes(b"another's")
    first = backup(old, folder, "20260101T000000Z")
    assert backup(old, folder, "20260101T000000Z") == first
    assert first["size"] == (folder / "nightly-20260101T000000Z.lma").stat().st_size
    backup(old, folder, "20260102T000000Z")
    third = backup(old, folder, "20260103T000000Z", "--count", "2")
    assert third["kept"] == ["20260103T000000Z", "20260102T000000Z"]
    assert {path.name for path in folder.iterdir()} == {
        "nightly-20260102T000000Z.lma",
        "nightly-20260103T000000Z.lma",
        "nightly-x-20200101T000000Z.lma",
    }


def test_a_damaged_archive_is_found_and_nothing_is_removed(old: LocalCluster, tmp_path: Path) -> None:
    folder = tmp_path / "archives"
    backup(old, folder, "20260101T000000Z")
    shutil.copy(folder / "nightly-20260101T000000Z.lma", folder / "nightly-20260102T000000Z.lma")
    with (folder / "nightly-20260102T000000Z.lma").open("r+b") as file:
        file.seek(-20, 2)
        file.write(b"\0\1\2")
    flags = ("--directory", folder, "--name", "nightly", "--stamp", "20260102T000000Z", "--count", "1")
    refused(run("job", "backup", *flags, "--report", tmp_path / "r", "-e", old.endpoints), CORRUPT, "20260102")
    assert len(list(folder.iterdir())) == 2


def test_a_restore_that_is_done_is_told_again_and_another_cluster_is_never_overwritten(
    old: LocalCluster, tmp_path: Path
) -> None:
    told = backup(old, tmp_path / "a", "20260101T000000Z")
    archive, data, report = tmp_path / "a" / "nightly-20260101T000000Z.lma", tmp_path / "data", tmp_path / "report"
    job = ("job", "restore", archive, "--data-dir", data, *PLACE, "--report", report, "--cluster-id")
    began = int(time.time())
    done(run(*job, NEW))
    before, said = contents(data), report.read_text()
    done(run(*job, NEW))
    assert (contents(data), report.read_text()) == (before, said)
    first = json.loads(report.read_text())
    assert first["old_revision"] == told["revision"]
    assert began <= first["first_revision"] >> REVISION_SHIFT <= time.time()
    refused(run(*job, "cd" * 16), CONFLICT, "is not blank")


def test_a_recovery_may_be_killed_between_any_two_steps(old: LocalCluster, tmp_path: Path) -> None:
    told = backup(old, tmp_path / "a", "20260101T000000Z")
    data, report = tmp_path / "data", tmp_path / "report"
    archive = tmp_path / "a" / "nightly-20260101T000000Z.lma"
    done(run("job", "restore", archive, "--data-dir", data, *PLACE, "--report", report, "--cluster-id", NEW))
    lost, goes_on = NEW, "cd" * 16
    job = ("job", "recover", "--data-dir", data, *PLACE, "--report", report, "--cluster-id", goes_on)
    refused(run(*job, "--old-cluster-id", told["cluster_id"], "--member-id", "1"), CONFLICT, "not member 1 of cluster")
    refused(run(*job, "--old-cluster-id", lost, "--member-id", "2"), CONFLICT, "not member 2 of cluster")
    whole = (*job, "--old-cluster-id", lost, "--member-id", "1")
    beside, aside = tmp_path / "data.next", tmp_path / f"data.before-{goes_on[:8]}"
    beside.mkdir()
    (beside / "UNFINISHED").write_bytes(b"")
    done(run(*whole))
    first = json.loads(report.read_text())
    assert first["last_index"] >= 1
    assert member_of(RealFiles(), str(data)) == (bytes.fromhex(goes_on), 1)
    assert member_of(RealFiles(), str(aside)) == (bytes.fromhex(lost), 1)
    assert not beside.exists()
    data.rename(beside)  # killed between the two renames
    done(run(*whole))
    data.rename(beside)  # killed before the first one
    aside.rename(data)
    done(run(*whole))
    assert json.loads(report.read_text()) == first
    done(run(*whole))
    assert member_of(RealFiles(), str(data)) == (bytes.fromhex(goes_on), 1)


def test_a_member_says_what_room_a_second_copy_of_its_state_needs(old: LocalCluster) -> None:
    done(run("snapshot", "make", "-e", old.endpoints))
    (row,) = json.loads(done(run("status", "-o", "json", "-e", old.endpoints)).stdout)
    assert row["copy_bytes"] >= room_for(0)


def test_a_look_tells_a_blank_volume_from_anothers_and_changes_nothing(old: LocalCluster, tmp_path: Path) -> None:
    told = backup(old, tmp_path / "a", "20260101T000000Z")
    archive, data, report = tmp_path / "a" / "nightly-20260101T000000Z.lma", tmp_path / "data", tmp_path / "report"
    look = ("job", "look", "--data-dir", data, "--report", report, "--cluster-id")
    done(run(*look, NEW))
    assert json.loads(report.read_text()) == {"blank": True}
    assert not data.exists()
    done(run("job", "restore", archive, "--data-dir", data, *PLACE, "--report", report, "--cluster-id", NEW))
    before = contents(data)
    done(run(*look, NEW))
    assert json.loads(report.read_text()) == {"blank": False}
    refused(run(*look, told["cluster_id"]), CONFLICT, f"is not blank: it is member 1 of cluster {NEW}")
    assert contents(data) == before
    (data / "guard").write_bytes(b"")
    refused(run(*look, told["cluster_id"]), CONFLICT, "no guard file that can be read")
    (data / "guard").unlink()
    refused(run(*look, NEW), CONFLICT, "no guard file that can be read")


def test_a_recovery_without_room_for_a_second_copy_says_how_much_is_missing(old: LocalCluster, tmp_path: Path) -> None:
    """A file in the state's folder that is larger than any disk, without its blocks, stands for a large state."""
    backup(old, tmp_path / "a", "20260101T000000Z")
    data, report = tmp_path / "data", tmp_path / "report"
    archive = tmp_path / "a" / "nightly-20260101T000000Z.lma"
    done(run("job", "restore", archive, "--data-dir", data, *PLACE, "--report", report, "--cluster-id", NEW))
    state = next(data.rglob("CURRENT")).parent
    with (state / "large").open("wb") as file:
        file.truncate(1 << 42)
    goes_on = "cd" * 16
    job = ("job", "recover", "--data-dir", data, *PLACE, "--report", report, "--cluster-id", goes_on)
    refused(
        run(*job, "--old-cluster-id", NEW, "--member-id", "1"),
        CONFLICT,
        "no room for a second copy",
        "MiB are missing: nothing was written",
    )
    assert member_of(RealFiles(), str(data)) == (bytes.fromhex(NEW), 1)
    assert not list(tmp_path.glob("data.*"))
    (state / "large").unlink()
    done(run(*job, "--old-cluster-id", NEW, "--member-id", "1"))


def test_what_expires() -> None:
    day = 86_400.0
    names = [f"n-2026010{number}T000000Z.lma" for number in range(1, 5)]
    now = 1_767_225_600.0 + 3 * day  # 2026-01-04
    assert expired(names, "n", now, 2, 0) == [names[1], names[0]]
    assert expired(names, "n", now, 9, 1.5 * day) == [names[1], names[0]]
    assert expired(names, "n", now + 100 * day, 1, day) == names[2::-1]
    assert expired(names[:1], "n", now + 100 * day, 1, day) == []
    assert expired(names, "m", now, 1, 0) == []
