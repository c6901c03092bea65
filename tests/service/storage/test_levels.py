"""The level in guard file and FORMAT (raft.md §6): durable before it is reported, across kill and boot."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from lockmaster.storage.directory import DataDirectory
from lockmaster.storage.errors import CorruptLog, LevelUnsupported, WrongFormat, exit_code
from lockmaster.storage.files import RealFiles
from lockmaster.storage.format import check_format, write_format
from lockmaster.storage.frame import decode_base_body, decode_records, encode_base_body, encode_entries
from lockmaster.storage.guard import GuardFile
from lockmaster.storage.recording import Crash, RecordingFiles
from lockmaster_raft.config import RaftConfig
from lockmaster_raft.entry import Entry, EntryKind, entry_crc32, make_entry
from lockmaster_raft.gates import Gate, GateOperation, encode_gate
from lockmaster_raft.ids import Index, Nanos, NodeId, PersistSeq, Term
from lockmaster_raft.membership import Levels
from lockmaster_raft.node import Node
from lockmaster_raft.ready import Persist

from . import journal_model as jm

CLUSTER = b"cluster-id-16byt"


def _open(path: Path, level_max: int, create: bool = False) -> DataDirectory:
    return DataDirectory.open(path, create=create, segment_bytes=64 << 10, ballast_bytes=1 << 16, level_max=level_max)


def _found(path: Path, levels: Levels, level_max: int = 2) -> DataDirectory:
    directory = _open(path, level_max, create=True)
    directory.genesis(cluster_id=CLUSTER, member_id=NodeId(1), configuration=jm.CONFIGURATION, levels=levels)
    return directory


def _persist(directory: DataDirectory, *entries: Entry, level: int | None = None) -> None:
    write = directory.begin(Persist(PersistSeq(1), None, None, entries, None, level))
    write.run()
    directory.finish(write)


def _gate(index: int, operation: GateOperation, fence: int = 0) -> Entry:
    payload = encode_gate(Gate(operation, 2, Index(fence)))
    return make_entry(Index(index), Term(1), EntryKind.GATE, Nanos(0), payload)


def test_a_promise_is_in_guard_and_format_and_refuses_an_older_binary(tmp_path: Path) -> None:
    directory = _found(tmp_path / "d", Levels())
    assert directory.identity.level == 1
    _persist(directory, _gate(2, GateOperation.FENCE), level=2)
    assert directory.identity.level == 2
    directory.close()
    with pytest.raises(WrongFormat, match=r"FORMAT: needs a binary of level 2 or newer; this one knows up to 1: start"):
        _open(tmp_path / "d", 1)
    write_format(RealFiles(), str(tmp_path / "d"))
    with pytest.raises(WrongFormat, match="guard: needs a binary of level 2 or newer; this one knows up to 1: start"):
        _open(tmp_path / "d", 1)
    directory = _open(tmp_path / "d", 2)
    assert (directory.boot_state.level, directory.identity.level) == (2, 2)
    directory.close()
    assert check_format(RealFiles(), str(tmp_path / "d"), 2) == 2


def test_after_a_cancel_an_older_binary_opens_it_and_replays_both_entries(tmp_path: Path) -> None:
    directory = _found(tmp_path / "d", Levels())
    _persist(directory, _gate(2, GateOperation.FENCE), level=2)
    _persist(directory, _gate(3, GateOperation.CANCEL, fence=2), level=1)
    directory.close()
    older = _open(tmp_path / "d", 1)
    boot = older.boot_state
    assert 0 < boot.boot_nonce < 1 << 63
    node = Node(node_id=NodeId(1), cluster_id=CLUSTER, config=RaftConfig(), boot=boot, now=Nanos(0), draw=1)
    assert node.levels_at(Index(2)) == Levels(1, 2, Index(2))
    assert node.levels_at(Index(3)) == Levels(1, 1, Index(3))
    older.close()


def test_a_cluster_founded_at_a_level_keeps_older_binaries_out(tmp_path: Path) -> None:
    _found(tmp_path / "d", Levels(2, 2)).close()
    with pytest.raises(WrongFormat, match="level 2"):
        _open(tmp_path / "d", 1)
    directory = _open(tmp_path / "d", 2)
    assert directory.journal.base.levels == Levels(2, 2)
    directory.close()


def _crash_points() -> list[tuple[RecordingFiles, tuple[int, int], int]]:
    """(files, (level before, level after), level_floor then) for each crash in raising to 2 and lowering to 1 again."""
    blank = RecordingFiles()
    jm.make(blank)
    write_format(blank, jm.ROOT)
    found: list[tuple[RecordingFiles, tuple[int, int], int]] = []
    for crash_at in range(1, 200):
        files, done = RecordingFiles.of(blank.image(), crash_at=crash_at), 0
        guard: GuardFile | None = None
        try:
            guard = GuardFile.open(files, jm.ROOT)
            for level in (2, 1):
                guard.set_level(level)
                done += 1
            return found
        except Crash:
            floor = guard.level_floor if guard is not None else 1
            found.append((files, [(1, 2), (2, 1), (1, 1)][done], floor))
    raise AssertionError("more operations than expected")


def test_every_crash_while_the_level_changes_leaves_the_old_or_the_new_one() -> None:
    seen = set()
    for files, possible, floor in _crash_points():
        for image in files.crash_images():
            after = RecordingFiles.of(image)
            promised = GuardFile.open(after, jm.ROOT).state.level
            format_level = check_format(after, jm.ROOT, 2)
            assert promised in possible
            assert format_level in possible
            assert max(promised, format_level) <= floor  # what its status says of who can open it
            seen.add((possible, promised, format_level))
    assert {((1, 2), 1, 1), ((1, 2), 2, 1), ((2, 1), 2, 2), ((2, 1), 1, 2)} <= seen


def test_boot_makes_format_say_what_the_guard_says(tmp_path: Path) -> None:
    _found(tmp_path / "d", Levels()).close()
    write_format(RealFiles(), str(tmp_path / "d"), 2)
    with pytest.raises(WrongFormat):
        _open(tmp_path / "d", 1)
    _open(tmp_path / "d", 2).close()
    assert check_format(RealFiles(), str(tmp_path / "d"), 2) == 1


def test_a_base_carries_the_gate_state() -> None:
    base = replace(jm.base(7, 2), levels=Levels(1, 2, Index(5)))
    assert decode_base_body(encode_base_body(base)) == base
    with pytest.raises(CorruptLog):
        decode_base_body(encode_base_body(base)[:30])


def test_an_entry_of_an_unknown_kind_in_the_journal_is_told_as_such() -> None:
    entry = make_entry(Index(4), Term(1), EntryKind.DATA, Nanos(5), b"later")
    kind: Any = 9
    later = replace(entry, kind=kind, crc32=entry_crc32(Index(4), Term(1), kind, Nanos(5), b"later"))
    parts: list[bytes] = []
    encode_entries((later,), parts)
    with pytest.raises(LevelUnsupported, match="entry 4 is of kind 9") as caught:
        decode_records(b"".join(parts))
    assert exit_code(caught.value) == 66
