"""raft.md §2, service.md §1: a new cluster out of an old one's state. Never half-made, never the old one again."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from lockmaster.archive import Head, Manifest
from lockmaster.errors import Compacted
from lockmaster.statemachine.apply import EntryHeader, StateMachine
from lockmaster.statemachine.commands import Acquire, Command, Dedup, OpenSession, ResultStatus
from lockmaster.statemachine.view import record_hash
from lockmaster.storage.directory import UNFINISHED_NAME, DataDirectory
from lockmaster.storage.errors import CorruptLog, StorageFailed, WrongFormat
from lockmaster.storage.founding import (
    LEVEL_KNOWN,
    Founded,
    NoRoom,
    NotBlank,
    Source,
    archive_source,
    found,
    refuse_without_room,
    room_for,
)
from lockmaster.storage.frame import encode_base_body
from lockmaster.storage.recording import Crash, Image, RecordingFiles
from lockmaster.storage.records import LARGE_PREFIX, TABLES_FIRST, resolve
from lockmaster.storage.survivor import NoSurvivor, check_follows, examine, source_of
from lockmaster_raft.entry import EntryKind
from lockmaster_raft.ids import Index, Nanos, Term
from lockmaster_raft.membership import Levels, MemberRole
from lockmaster_raft.ready import Base

from . import founding_model as fm
from . import journal_model as jm

MIB = 1 << 20
Founding = Callable[[RecordingFiles], Founded]
STATES_PER_CRASH_MAX = 64


def _found(files: RecordingFiles, source: Source) -> Founded:
    return found(
        fm.NEW,
        source,
        fm.FOUNDER,
        unix_seconds=fm.NOW_S,
        segment_bytes=8192,
        ballast_bytes=512,
        disk=fm.model_disk(files),
    )


def restore(files: RecordingFiles) -> Founded:
    return _found(files, fm.archived())


@pytest.mark.parametrize("free", [0, 1, MIB - 1, MIB, 5 * MIB + 7])
@pytest.mark.parametrize("bytes_total", [0, 1, 7 * MIB + 1])
def test_the_numbers_of_a_disk_without_room_add_up(
    free: int, bytes_total: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.statvfs", lambda _: SimpleNamespace(f_bavail=free, f_frsize=1))
    with pytest.raises(NoRoom) as caught:
        refuse_without_room(str(tmp_path), bytes_total)
    needed, there, missing = (int(number) for number in re.findall(r"(\d+) MiB (?:is|are) ", str(caught.value)))
    assert needed << 20 >= room_for(bytes_total)
    assert there + missing == needed


def recover(files: RecordingFiles) -> Founded:
    directory = fm.open_survivor(files)
    founded = _found(files, source_of(directory, examine(directory)))
    directory.close()
    return founded


FOUNDINGS: dict[str, Founding] = {"restore": restore, "recover": recover}


def _before() -> Image:
    files = RecordingFiles()
    fm.make_survivor(files)
    return files.image()


BEFORE = _before()


def check_whole(directory: DataDirectory) -> StateMachine:
    """The new cluster's directory holds everything of the old one, and nobody of it."""
    identity, state = directory.identity, directory.state
    assert identity.cluster_id not in (None, fm.CLUSTER)
    assert (identity.member_id, identity.hard_state.term, identity.level) == (1, 1, 2)
    base = directory.journal.base
    assert (base.index, base.term, base.levels, directory.journal.last_index) == (1, 1, Levels(2, 2), 1)
    [own] = base.configuration.members
    assert (own.name, own.voter, own.incarnation) == ("new", True, identity.incarnation)
    assert (base.configuration.next_member_id, base.configuration.full_min) == (2, 1)
    assert (state.applied_stored, state.applied_term) == (1, 1)
    stored = state.database.scan(TABLES_FIRST, LARGE_PREFIX)
    total = sum(record_hash(k, resolve(state.database.get, k, v)) for k, v in stored)
    assert total % 2**64 == state.hash
    machine = StateMachine(state)
    items = {item.key: item.value for item in machine.range("app").items}
    assert items == {"a": b"two", "big": bytes(200 << 10), "late": b"in the log's tail"}
    assert machine.sessions_count == 0
    assert machine.list_sessions() == ([], False)
    assert machine.revision > fm.FIRST
    return machine


@pytest.mark.parametrize("name", FOUNDINGS)
def test_everything_is_there_and_nobody_holds_anything(name: str) -> None:
    files = RecordingFiles.of(BEFORE)
    founded = FOUNDINGS[name](files)
    assert (founded.index, founded.term, founded.replayed) == (fm.LAST, fm.TERM, 1)
    assert (founded.sessions_ended, founded.locks_released) == (2, 1)
    assert founded.first_revision == fm.FIRST
    directory = fm.open_new(files)
    machine = check_whole(directory)
    assert directory.identity.cluster_id == founded.cluster_id
    assert not files.exists(f"{fm.NEW}/{UNFINISHED_NAME}")
    lock = machine.inspect_lock("orders")
    assert (lock.token, lock.queue_length) == (0, 0)
    assert lock.delay_until == machine.cluster_time + fm.DELAY


def test_service_1_a_lock_is_granted_after_its_delay_and_every_token_is_above_the_old_ones() -> None:
    files = RecordingFiles.of(BEFORE)
    restore(files)
    machine = StateMachine(fm.open_new(files).state)

    def apply(second: int, *commands: Command) -> list[tuple[ResultStatus, int]]:
        at = Nanos(machine.cluster_time + second * fm.SECOND)
        entry = EntryHeader(Index(machine.applied + 1), Term(1), EntryKind.DATA, at)
        return [(result.status, result.revision) for result in machine.apply(entry, commands).results]

    [(status, session)] = apply(1, Command(OpenSession(bytes(16), 15 * fm.SECOND, "carol", "", 0)))
    assert status is ResultStatus.OK
    assert session > fm.FIRST
    take = Acquire("orders", False, 0)
    assert apply(1, Command(take, Dedup(session, 1, 1, bytes(8))))[0][0] is ResultStatus.BUSY
    [(status, token)] = apply(4, Command(take, Dedup(session, 2, 2, bytes(8))))
    assert status is ResultStatus.OK
    assert token > fm.FIRST > fm.OLD_REVISION
    old = Command(Acquire("other", True, 0), Dedup(fm.HOLDER, 9, 9, bytes(8)))
    assert apply(0, old) == [(ResultStatus.SESSION_EXPIRED, 0)]


def test_service_1_history_before_is_compacted_in_every_namespace_known_or_not() -> None:
    files = RecordingFiles.of(BEFORE)
    founded = restore(files)
    machine = StateMachine(fm.open_new(files).state)
    for namespace in ("app", "made-after-the-backup"):
        with pytest.raises(Compacted):
            machine.changes(namespace, "", fm.OLD_REVISION + 20, prefix=True)
        with pytest.raises(Compacted):
            machine.range(namespace, at_revision=founded.first_revision - 1)
        machine.changes(namespace, "", founded.first_revision, prefix=True)
    [change] = machine.changes("app", "", founded.first_revision, prefix=True).changes
    assert (change.item.key, change.item.deleted) == ("here", True)
    assert machine.get("app", "a", founded.first_revision) is not None


def test_service_1_a_clock_behind_the_stored_revision_still_goes_up() -> None:
    files = RecordingFiles()
    founded = found(fm.NEW, fm.archived(), fm.FOUNDER, unix_seconds=1, ballast_bytes=0, disk=fm.model_disk(files))
    assert founded.first_revision == founded.stored_revision + 1


def test_the_same_backup_restored_twice_gives_two_clusters() -> None:
    first, second = restore(RecordingFiles()), restore(RecordingFiles())
    assert first.cluster_id != second.cluster_id


# -- crashes


def _crashes(founding: Founding) -> Iterator[tuple[int, RecordingFiles]]:
    for crash_at in range(1, 2000):
        files = RecordingFiles.of(BEFORE, crash_at=crash_at)
        try:
            founding(files)
        except Crash:
            yield crash_at, files
            continue
        return
    raise AssertionError("more operations than expected")


def _sample(files: RecordingFiles) -> list[Image]:
    states = list(files.crash_images())
    return (
        states if len(states) <= STATES_PER_CRASH_MAX else [*states[:: len(states) // STATES_PER_CRASH_MAX], states[-1]]
    )


@pytest.mark.parametrize("name", FOUNDINGS)
def test_a_crash_at_any_step_leaves_a_whole_cluster_or_one_that_nothing_opens(name: str) -> None:
    seen = {"whole": 0, "refused": 0, "blank": 0}
    for crash_at, files in _crashes(FOUNDINGS[name]):
        for image in _sample(files):
            after = RecordingFiles.of(image)
            try:
                directory = fm.open_new(after, create=True)
            except WrongFormat:
                seen["refused"] += 1
                continue
            if directory.identity.cluster_id is not None:
                check_whole(directory)
                seen["whole"] += 1
            else:
                assert not directory.state.applied, crash_at
                assert not directory.journal.last_index, crash_at
                seen["blank"] += 1
    assert min(seen.values()) > 0, seen
    assert seen["refused"] > 100, seen


@pytest.mark.parametrize("name", FOUNDINGS)
def test_after_a_crash_it_is_simply_run_again_and_the_survivor_is_as_it_was(name: str) -> None:
    for crash_at, files in _crashes(FOUNDINGS[name]):
        images = list(files.crash_images())
        again = RecordingFiles.of(images[(crash_at * 7) % len(images)])
        with contextlib.suppress(NotBlank):  # the crash came after the last step
            FOUNDINGS[name](again)
        check_whole(fm.open_new(again))
        survivor = examine(fm.open_survivor(again))
        assert (survivor.applied, survivor.last_index) == (fm.STORED, fm.LAST)


@pytest.mark.parametrize("name", FOUNDINGS)
def test_after_a_failed_write_the_target_is_blank(name: str) -> None:
    failed = 0
    for fail_at in range(1, 2000):
        files = RecordingFiles.of(BEFORE, fail_at=fail_at)
        try:
            FOUNDINGS[name](files)
        except StorageFailed:
            failed += 1
            # the model refuses everything after a failure: what was cleaned up in memory is what the process sees
            after = RecordingFiles.of(files.image())
            try:
                directory = fm.open_new(after, create=True)
            except WrongFormat:
                continue
            if directory.identity.cluster_id is not None:
                check_whole(directory)
            continue
        break
    assert failed > 30


# -- refusals


@pytest.mark.parametrize("name", FOUNDINGS)
def test_a_directory_that_is_not_blank_is_refused_untouched(name: str) -> None:
    files = RecordingFiles.of(BEFORE)
    restore(files)
    before = {path: data for path, data in files.image().items() if path.startswith(fm.NEW)}
    with pytest.raises(NotBlank, match="is member 1 of cluster"):
        FOUNDINGS[name](files)
    assert {path: data for path, data in files.image().items() if path.startswith(fm.NEW)} == before


def test_records_that_are_not_what_their_hash_says_are_refused_and_nothing_is_left() -> None:
    files = RecordingFiles()
    with pytest.raises(CorruptLog, match="the archive: the state hash"):
        _found(files, fm.archived(spoilt=True))
    assert not [path for path in files.image() if path.startswith(fm.NEW)]


def test_a_blank_member_that_was_served_before_can_be_restored_into() -> None:
    files = RecordingFiles()
    fm.open_new(files, create=True).close()
    restore(files)
    check_whole(fm.open_new(files))


def test_raft_2_recovery_from_a_witness_is_refused_and_says_what_to_do() -> None:
    files = RecordingFiles()
    fm.make_survivor(files, MemberRole.WITNESS)
    with pytest.raises(
        NoSurvivor,
        match=r"is a witness.*restore a backup and replay this log.*--replay /old --data-dir NEW --name NAME$",
    ):
        examine(fm.open_survivor(files))


def test_a_blank_directory_is_no_survivor() -> None:
    files = RecordingFiles()
    with pytest.raises(NoSurvivor, match="is blank"):
        examine(fm.open_new(files, create=True))


def test_a_log_is_replayed_only_where_it_goes_on_from_the_backup() -> None:
    directory = fm.open_survivor(RecordingFiles.of(BEFORE))
    cluster = fm.CLUSTER.hex()
    check_follows(directory, cluster, fm.STORED, fm.TERM)
    for wrong, why in (
        (("00" * 16, fm.STORED, fm.TERM), "belongs to cluster"),
        ((cluster, fm.LAST + 1, fm.TERM), "nothing to replay"),
        ((cluster, fm.STORED, fm.TERM + 1), "is not of term 4"),
        ((cluster, 0, 0), "what lies between is gone"),
    ):
        with pytest.raises(NoSurvivor, match=why):
            check_follows(directory, *wrong)


def test_83_an_archive_of_a_level_above_this_binarys_is_refused_before_it_is_read() -> None:
    base = Base(Index(7), Term(2), jm.CONFIGURATION, Index(1), Levels(LEVEL_KNOWN + 1, LEVEL_KNOWN + 1))
    manifest = Manifest("ab" * 16, 0, 7, 2, 3, LEVEL_KNOWN + 1, "locks-0", "9.0.0")
    head = Head(manifest, encode_base_body(base), (), 1, 0)
    with pytest.raises(WrongFormat, match=f"is of level {LEVEL_KNOWN + 1}; this binary knows up to {LEVEL_KNOWN}"):
        archive_source(head, Path("no-such-file"), None)
