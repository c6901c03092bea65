"""The data directory as a whole, on a real file system: blank, genesis, joining, refusals, snapshots."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from lockmaster.statemachine.records import META, META_KEY, NONCES, Meta
from lockmaster.statemachine.view import StateView, Table
from lockmaster.storage.directory import DataDirectory
from lockmaster.storage.errors import Amnesia, CorruptLog, DirectoryBusy, StorageFailed, WrongFormat
from lockmaster.storage.snapshot import ChunkRefused, Snapshot, SnapshotWriter, latest_snapshot, make_snapshot
from lockmaster_raft.entry import Entry
from lockmaster_raft.errors import InvariantViolation
from lockmaster_raft.ids import Index, NodeId, Term
from lockmaster_raft.membership import Levels
from lockmaster_raft.ready import Base, HardState, Persist

from . import journal_model as jm

SEGMENT = 64 << 10
CLUSTER = b"cluster-id-16byt"
BLOBS: Table[bytes, bytes] = Table("blobs", b"\x70", bytes, bytes, bytes, bytes, large_values=True)


def _open(path: Path, create: bool = False) -> DataDirectory:
    return DataDirectory.open(path, create=create, segment_bytes=SEGMENT, ballast_bytes=1 << 16)


def _initialise(view: StateView) -> None:
    view.put(NONCES, b"genesis", 1)


def _found(path: Path) -> DataDirectory:
    directory = _open(path, create=True)
    directory.genesis(
        cluster_id=CLUSTER,
        member_id=NodeId(1),
        configuration=jm.CONFIGURATION,
        levels=Levels(),
        initialise=_initialise,
    )
    return directory


def _persist(directory: DataDirectory, write: Persist) -> None:
    pending = directory.begin(write)
    pending.run()
    directory.finish(pending)


def _apply(directory: DataDirectory, entry: Entry) -> None:
    directory.state.put(NONCES, b"n%d" % (entry.index % 50), entry.index)
    if entry.index % 10 == 0:
        directory.state.put(BLOBS, b"b%d" % entry.index, random.Random(entry.index).randbytes(300_000))
    directory.state.sealed(entry.index, entry.term)


def _fill(directory: DataDirectory, first: int, stop: int) -> None:
    for index in range(first, stop):
        _persist(directory, jm.persist(jm.entry(index, 1)))
        _apply(directory, jm.entry(index, 1))


def _cut(directory: DataDirectory) -> Base:
    index = directory.state.cut()
    while directory.state.store(directory.journal.durable_index):
        pass
    return Base(index, Term(1), jm.CONFIGURATION, Index(1), Levels())


def _dump(directory: DataDirectory) -> list[tuple[object, object]]:
    state = directory.state
    return [*state.scan(NONCES, b"", None), *state.scan(BLOBS, b"", None)]


def test_blank_genesis_and_reopening(tmp_path: Path) -> None:
    directory = _open(tmp_path / "d", create=True)
    assert (directory.identity.cluster_id, directory.identity.member_id) == (None, 0)
    incarnation = directory.identity.incarnation
    directory.close()
    directory = _found(tmp_path / "d")
    assert directory.identity.incarnation == incarnation
    _fill(directory, 2, 40)
    expected = _dump(directory)
    directory.close()
    directory = _open(tmp_path / "d")
    assert (directory.identity.cluster_id, directory.identity.member_id) == (CLUSTER, 1)
    boot = directory.boot_state
    assert (boot.store.base.index, boot.store.last_index, boot.applied) == (1, 39, 39)
    assert _dump(directory) == expected
    with pytest.raises(StorageFailed, match="not blank"):
        directory.genesis(cluster_id=CLUSTER, member_id=NodeId(1), configuration=jm.CONFIGURATION, levels=Levels())
    directory.close()


def test_the_clock_goes_on_from_the_state_where_the_log_holds_no_entry(tmp_path: Path) -> None:
    directory = _found(tmp_path / "d")
    assert directory.boot_state.leader_time == 0
    directory.state.put(META, META_KEY, Meta(2, 1, 7, 5_000_000_000, 0, 0))
    _fill(directory, 2, 40)
    directory.close()
    directory = _open(tmp_path / "d")
    assert directory.boot_state.leader_time == 5_000_000_000
    directory.close()


def test_a_genesis_that_crashed_is_forgotten(
    tmp_path: Path,
) -> None:
    directory = _open(tmp_path / "d", create=True)

    class Stop(Exception):
        pass

    def stop(cluster_id: bytes, member_id: NodeId) -> None:
        raise Stop

    directory.guard.set_identity = stop  # type: ignore[method-assign]
    with pytest.raises(Stop):
        directory.genesis(
            cluster_id=CLUSTER,
            member_id=NodeId(1),
            configuration=jm.CONFIGURATION,
            levels=Levels(),
            initialise=_initialise,
        )
    directory.close()
    directory = _found(tmp_path / "d")
    assert directory.journal.base.index == 1
    directory.close()


def test_a_joiner_is_assigned_once(tmp_path: Path) -> None:
    directory = _open(tmp_path / "d", create=True)
    directory.assign(CLUSTER, NodeId(7))
    directory.assign(CLUSTER, NodeId(7))
    with pytest.raises(StorageFailed, match="belongs to member 7"):
        directory.assign(CLUSTER, NodeId(8))
    directory.close()


def test_a_second_process_is_refused(tmp_path: Path) -> None:
    directory = _open(tmp_path / "d", create=True)
    with pytest.raises(DirectoryBusy):
        _open(tmp_path / "d")
    directory.close()


def test_a_strange_directory_and_a_newer_format_are_refused(tmp_path: Path) -> None:
    (tmp_path / "strange").mkdir()
    (tmp_path / "strange" / "letters.txt").touch()
    with pytest.raises(WrongFormat, match=r"letters\.txt"):
        _open(tmp_path / "strange", create=True)
    _open(tmp_path / "d", create=True).close()
    from lockmaster.storage.files import RealFiles
    from lockmaster.storage.format import write_format

    write_format(RealFiles(), str(tmp_path / "d"), min_binary_level=99)
    with pytest.raises(WrongFormat, match="level 99"):
        _open(tmp_path / "d")


def _lose_format(d: Path) -> None:
    (d / "FORMAT").unlink()


def _lose_guard(d: Path) -> None:
    (d / "guard").unlink()


def _lose_state(d: Path) -> None:
    shutil.rmtree(d / "state-1")


def _lose_state_name(d: Path) -> None:
    (d / "STATE").unlink()


def _flip_format(d: Path) -> None:
    (d / "FORMAT").write_bytes((d / "FORMAT").read_bytes().replace(b"1", b"3", 1))


@pytest.mark.parametrize("damage", [_lose_format, _lose_guard, _lose_state, _lose_state_name, _flip_format])
def test_what_is_lost_is_refused(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    directory = _found(tmp_path / "d")
    _fill(directory, 2, 5)
    _persist(directory, jm.persist(base=jm.base(3, 1)))
    directory.close()
    damage(tmp_path / "d")
    with pytest.raises(CorruptLog):
        _open(tmp_path / "d")


def test_a_lost_journal_is_amnesia(tmp_path: Path) -> None:
    directory = _found(tmp_path / "d")
    _fill(directory, 2, 5)
    directory.close()
    for segment in (tmp_path / "d" / "journal").iterdir():
        segment.unlink()
    with pytest.raises(Amnesia):
        _open(tmp_path / "d")


def test_an_older_guard_file_is_refused(tmp_path: Path) -> None:
    directory = _found(tmp_path / "d")
    old = (tmp_path / "d" / "guard").read_bytes()
    _persist(directory, jm.persist(jm.entry(2, 5), hard=(5, 1)))
    directory.close()
    (tmp_path / "d" / "guard").write_bytes(old)
    with pytest.raises(CorruptLog, match="term 1 is below"):
        _open(tmp_path / "d")


def test_segments_roll_and_go_with_their_threads(tmp_path: Path) -> None:
    directory = _found(tmp_path / "d")
    _fill(directory, 2, 300)
    assert len(list((tmp_path / "d" / "journal").iterdir())) > 2
    before = [e.index for e in directory.journal.entries(Index(2), Index(300), 1 << 30)]
    assert before == list(range(2, 300))
    _persist(directory, jm.persist(base=jm.base(290, 1)))
    directory.close()
    assert len(list((tmp_path / "d" / "journal").iterdir())) <= 2
    directory = _open(tmp_path / "d")
    assert (directory.journal.base.index, directory.journal.last_index) == (290, 299)
    directory.close()


def test_s10_snapshots_of_one_index_are_byte_equal_and_round_trip(tmp_path: Path) -> None:
    one, two = _found(tmp_path / "one"), _found(tmp_path / "two")
    _fill(one, 2, 60)
    for index in range(2, 60):
        _fill(two, index, index + 1)
        two.state.store(Index(index))
    first, second = make_snapshot(one, _cut(one)), make_snapshot(two, _cut(two))
    assert first.digests == second.digests
    assert len(first.digests) > 1
    three = _open(tmp_path / "three", create=True)
    three.assign(CLUSTER, NodeId(3))
    _install(three, first)
    assert _dump(three) == _dump(one)
    _persist(three, jm.persist(base=first.base, hard=(1, 0)))
    _fill(three, 60, 70)
    _fill(one, 60, 70)
    again, original = make_snapshot(three, _cut(three)), make_snapshot(one, _cut(one))
    assert again.digests == original.digests
    assert latest_snapshot(one) == original
    for directory in (one, two, three):
        directory.close()


def _install(directory: DataDirectory, snapshot: Snapshot) -> None:
    writer = SnapshotWriter(directory, snapshot.base, snapshot.digests, snapshot.bytes_total)
    for number in range(len(snapshot.digests)):
        data = snapshot.read_chunk(number)
        assert data is not None
        with pytest.raises(ChunkRefused):
            writer.store_chunk(number, data[:-1] + bytes([data[-1] ^ 1]))
        writer.store_chunk(number, data)
        writer = SnapshotWriter(directory, snapshot.base, snapshot.digests, snapshot.bytes_total)
        assert number in writer.resume()
    writer.build()
    directory.remove_replaced(directory.attach_state(writer.switch()))


def test_a_state_that_is_not_the_one_that_was_built_replaces_nothing(tmp_path: Path) -> None:
    one, two = _found(tmp_path / "one"), _open(tmp_path / "two", create=True)
    two.assign(CLUSTER, NodeId(2))
    _fill(one, 2, 30)
    snapshot = make_snapshot(one, _cut(one))
    writer = SnapshotWriter(two, snapshot.base, snapshot.digests, snapshot.bytes_total)
    for number in range(len(snapshot.digests)):
        data = snapshot.read_chunk(number)
        assert data is not None
        writer.store_chunk(number, data)
    writer.build()
    before = two.state
    (built,) = (path for path in (tmp_path / "two").glob("state-*") if str(path) != before.path)
    shutil.rmtree(built)
    with pytest.raises(StorageFailed, match=r"holds the state at \(0, 0\)"):
        writer.switch()
    assert two.state is before
    two.close()
    two = _open(tmp_path / "two")
    assert two.state.path == before.path
    one.close()
    two.close()


def test_a_boot_between_install_and_base_writes_the_base_again(tmp_path: Path) -> None:
    one, two = _found(tmp_path / "one"), _open(tmp_path / "two", create=True)
    two.assign(CLUSTER, NodeId(2))
    two.guard.set_hard_state(HardState(Term(1), NodeId(0)))
    _fill(one, 2, 30)
    snapshot = make_snapshot(one, _cut(one))
    _install(two, snapshot)
    two.close()
    two = _open(tmp_path / "two")
    assert two.journal.base == snapshot.base
    assert two.boot_state.applied == 29
    assert _dump(two) == _dump(one)
    with pytest.raises(InvariantViolation, match="applied here"):
        SnapshotWriter(two, snapshot.base, snapshot.digests, snapshot.bytes_total)
    one.close()
    two.close()


_CHILD = """
import sys
from lockmaster.storage.directory import DataDirectory
sys.path.insert(0, sys.argv[2])
from tests.service.storage import journal_model as jm
from tests.service.storage.test_directory import _apply, _persist
directory = DataDirectory.open(sys.argv[1], create=False, segment_bytes=65536)
for entry in directory.journal.entries(directory.state.applied_stored + 1, directory.journal.last_index + 1, 1 << 30):
    _apply(directory, entry)
for index in range(directory.journal.last_index + 1, 10**9):
    _persist(directory, jm.persist(jm.entry(index, 1, index * 37 % 3000 + 8)))
    print(index, flush=True)
    _apply(directory, jm.entry(index, 1))
    while directory.state.store(directory.journal.durable_index):
        pass
    if index % 20 == 0:
        flushed = directory.state.flush()
        if flushed > 40:
            _persist(directory, jm.persist(base=jm.base(flushed - 30, 1)))
"""


def test_kill_9_in_the_middle_of_writing_loses_nothing_acknowledged(tmp_path: Path) -> None:
    _found(tmp_path / "d").close()
    acknowledged = 1
    root = str(Path(__file__).parents[3])
    for lines in (47, 61):
        command = [sys.executable, "-c", _CHILD, str(tmp_path / "d"), root]
        child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        if child.stdout is None:
            raise AssertionError("no pipe")
        acknowledged = [int(child.stdout.readline()) for _ in range(lines)][-1]
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        child.stdout.close()
        directory = _open(tmp_path / "d")
        journal = directory.journal
        assert journal.last_index >= acknowledged
        for entry in journal.entries(Index(journal.base.index + 1), Index(journal.last_index + 1), 1 << 30):
            assert entry == jm.entry(entry.index, 1, entry.index * 37 % 3000 + 8)
        directory.close()


def test_the_ballast_can_be_removed_once(tmp_path: Path) -> None:
    directory = _open(tmp_path / "d", create=True)
    assert (tmp_path / "d" / "ballast").stat().st_size == 1 << 16
    assert directory.space.free_bytes > 0
    assert directory.remove_ballast()
    assert not directory.remove_ballast()
    directory.close()


def test_a_witness_s_directory_is_small(tmp_path: Path) -> None:
    """Two segments lie ready, beside the ballast: together a third of a full member's at most."""
    sizes = []
    for witness in (True, False):
        directory = DataDirectory.open(tmp_path / str(witness), create=True, witness=witness)
        directory.close()
        directory = DataDirectory.open(tmp_path / str(witness), create=False, witness=witness)
        directory.close()
        sizes.append(sum(path.stat().st_size for path in (tmp_path / str(witness)).rglob("*") if path.is_file()))
    assert 3 * sizes[0] <= sizes[1]
