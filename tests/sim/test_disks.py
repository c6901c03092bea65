"""The simulated disks: what a crash, an error, a flipped bit and a lack of room do, and that hosts obey the law."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest
from lockmaster_raft.config import MILLISECOND, SECOND
from lockmaster_raft.entry import EntryKind, make_entry
from lockmaster_raft.errors import CorruptLog, StorageFailed
from lockmaster_raft.ids import Index, Nanos, NodeId, PersistSeq, Term
from lockmaster_raft.ready import HardState, Persist
from lockmaster_raft.testing.application import load_application
from lockmaster_raft.testing.cluster import Cluster
from lockmaster_raft.testing.disk import Amnesia, Disk
from lockmaster_raft.testing.disk_faults import may_lose
from lockmaster_raft.testing.frontend import Answer
from lockmaster_raft.testing.host import Host
from lockmaster_raft.testing.invariants.base import Violation
from lockmaster_raft.testing.invariants.s2_effect_order import EffectOrder
from lockmaster_raft.testing.scheduler import Scheduler
from lockmaster_raft.testing.state_dirs import BLANK
from lockmaster_raft.testing.swarm import DISK_FAULTS, draw_mix, stream

SYNC = MILLISECOND


class Bench:
    """One disk with its clock; `done` are the sequence numbers that it called durable."""

    def __init__(self) -> None:
        self.scheduler = Scheduler()
        self.disk = Disk(self.scheduler, stream(1, "bench"), SYNC, BLANK, HardState(Term(1), NodeId(0)))
        self.done: list[int] = []
        self.failures: list[str] = []
        self.disk.on_fail = self.failures.append
        self.disk.on_tear = self.disk.crash
        self.disk.boot(lambda write: self.done.append(write.seq))
        self._seq = 0

    def submit(self, index: int, term: int = 1, truncate_from: int | None = None) -> None:
        self._seq += 1
        entry = make_entry(Index(index), Term(term), EntryKind.DATA, Nanos(0), b"x")
        first = None if truncate_from is None else Index(truncate_from)
        self.disk.submit(Persist(PersistSeq(self._seq), truncate_from=first, entries=(entry,)))

    def vote(self, term: int) -> None:
        self._seq += 1
        self.disk.submit(Persist(PersistSeq(self._seq), hard_state=HardState(Term(term), NodeId(2))))

    def wait(self, nanoseconds: int) -> None:
        self.scheduler.run_until(self.scheduler.now + nanoseconds)

    def with_entries(self, count: int) -> Bench:
        for index in range(1, count + 1):
            self.submit(index)
        self.wait(SECOND)
        return self

    def read(self, first: int = 1) -> tuple[int, ...]:
        found = self.disk.store.entries(Index(first), Index(self.disk.store.last_index + 1), 1 << 20)
        return tuple(entry.index for entry in found)


def test_a_torn_frame_is_the_end_of_the_journal_and_nothing_of_it_is_there() -> None:
    bench = Bench().with_entries(2)
    bench.disk.tear = "frame"
    bench.submit(3)
    bench.wait(SECOND)
    assert bench.disk.examine() == "torn frame cut"
    assert bench.read() == (1, 2)
    assert bench.done == [1, 2]
    assert bench.disk.examine() == ""


def test_what_a_waiting_write_supersedes_is_not_durable_any_more() -> None:
    bench = Bench().with_entries(3)
    bench.submit(3, term=2, truncate_from=3)
    bench.submit(4, term=2)
    assert bench.disk.durable_index == 2
    bench.wait(SECOND)
    assert bench.disk.durable_index == 4


def test_a_torn_guard_slot_leaves_the_vote_of_the_other() -> None:
    bench = Bench()
    bench.disk.tear = "guard"
    bench.vote(5)
    bench.wait(SECOND)
    assert bench.disk.examine() == "torn guard slot mended"
    assert bench.disk.boot(lambda write: None) == HardState(Term(1), NodeId(0))
    assert bench.done == []


def test_frames_lost_below_the_mark_are_amnesia() -> None:
    bench = Bench().with_entries(5)
    bench.disk.crash()
    bench.disk.forget(1)
    with pytest.raises(Amnesia, match="frame 4, the mark is 5"):
        bench.disk.examine()


def test_the_mark_follows_its_frame_so_no_crash_looks_like_amnesia() -> None:
    bench = Bench().with_entries(5)
    bench.submit(6)
    bench.wait(2 * SYNC)
    assert bench.done[-1] == 6
    assert not bench.disk.settled
    assert bench.disk.marked_last == 5
    bench.disk.crash()
    assert (bench.disk.frames, bench.disk.mark) == (6, 5)
    assert bench.disk.examine() == ""


def test_a_flipped_bit_is_found_by_a_read_and_by_a_boot_until_its_segment_is_gone() -> None:
    bench = Bench().with_entries(4)
    bench.disk.store.flipped.add(2)
    assert bench.read(3) == (3, 4)
    with pytest.raises(CorruptLog, match="entry 2"):
        bench.read()
    with pytest.raises(CorruptLog, match="journal"):
        bench.disk.examine()
    bench.disk.submit(Persist(PersistSeq(9), base=replace(BLANK, index=Index(2), term=Term(1))))
    bench.wait(SECOND)
    assert bench.disk.examine() == ""


def test_a_flipped_frame_that_was_superseded_is_read_by_the_next_boot_alone() -> None:
    bench = Bench().with_entries(3)
    bench.disk.store.flipped.add(3)
    bench.submit(3, term=2, truncate_from=3)
    bench.wait(SECOND)
    assert bench.read() == (1, 2, 3)
    with pytest.raises(CorruptLog, match="journal"):
        bench.disk.examine()


def test_one_flipped_guard_slot_is_mended_and_two_are_refused() -> None:
    bench = Bench().with_entries(1)
    bench.disk.slots[0] = None
    assert bench.disk.hard_state.term == 1
    bench.submit(2)
    bench.submit(3)
    bench.wait(SECOND)
    assert None not in bench.disk.slots
    bench.disk.slots[:] = [None, None]
    with pytest.raises(CorruptLog, match="guard"):
        bench.disk.examine()


@pytest.mark.parametrize("kind", ["frame", "guard"])
def test_a_write_that_fails_is_told_once_and_nothing_is_durable_after_it(kind: str) -> None:
    bench = Bench().with_entries(1)
    bench.disk.fail = kind
    bench.vote(3)
    bench.submit(2)
    bench.submit(3)
    bench.wait(SECOND)
    assert bench.failures == ["EIO"]
    assert bench.disk.failed
    assert bench.done == ([1] if kind == "guard" else [1, 2])


def test_a_full_disk_takes_what_finds_room_and_fails_the_next() -> None:
    bench = Bench()
    bench.disk.room = 2
    bench.with_entries(4)
    assert bench.failures == ["ENOSPC"]
    assert bench.done == [1, 2]


def test_a_read_error_is_told_once() -> None:
    bench = Bench().with_entries(1)
    bench.disk.store.unreadable = True
    with pytest.raises(StorageFailed, match="EIO"):
        bench.read()
    assert bench.read() == (1,)


# --- hosts ------------------------------------------------------------------------------------------------------------


def formed(seed: int = 1) -> Cluster:
    """Three full members and no faults."""
    mix = replace(draw_mix(seed), fulls=3, witnesses=0, role_faults=(), loss=0.0, rough_start_ns=0)
    cluster = Cluster(seed, load_application("register"), mix)
    cluster.form()
    run(cluster, 5)
    return cluster


def run(cluster: Cluster, seconds: float) -> None:
    cluster.scheduler.run_until(cluster.scheduler.now + int(seconds * SECOND))


def leader(cluster: Cluster) -> Host:
    lead = cluster.leader()
    assert lead is not None
    return lead


def write(host: Host, *, reserved: bool = False) -> list[Answer]:
    answers: list[Answer] = []
    host.front.write((1, len(answers) + 1, "x0", "v"), reserved, answers.append)
    return answers


def disk_of(host: Host) -> Disk:
    assert host.disk is not None
    return host.disk


def test_a_leader_whose_write_fails_stops_and_the_others_go_on() -> None:
    cluster = formed()
    lead = leader(cluster)
    disk_of(lead).fail = "frame"
    write(lead)
    run(cluster, 0.05)
    assert not lead.running
    run(cluster, 8)
    assert cluster.counts["stopped: EIO at a write"] == 1
    assert lead.running
    assert not lead.lost


def test_a_member_whose_journal_is_damaged_refuses_to_start_and_stays_down() -> None:
    cluster = formed()
    lead = leader(cluster)
    disk_of(lead).store.flipped.add(disk_of(lead).store.last_index)
    lead.crash(True)
    lead.boot()
    assert (lead.running, lead.lost, lead.refused) == (False, True, "corrupt journal")


def test_a_member_whose_state_is_damaged_refuses_to_start() -> None:
    cluster = formed()
    lead = leader(cluster)
    assert lead.dirs.own is not None
    lead.dirs.own.flipped = True
    lead.crash(False)
    lead.boot()
    assert lead.refused == "corrupt state"


def test_nothing_starts_on_a_full_disk_before_there_is_room() -> None:
    cluster = formed()
    lead = leader(cluster)
    lead.law.full_until = cluster.scheduler.now + 5 * SECOND
    disk_of(lead).room = 0
    write(lead, reserved=True)
    run(cluster, 4)
    assert not lead.running
    assert cluster.counts["no start on a full disk"] >= 1
    run(cluster, 8)
    assert lead.running


def test_a_leader_with_a_nearly_full_disk_admits_only_what_is_reserved() -> None:
    cluster = formed()
    lead = leader(cluster)
    lead.law.full_until = cluster.scheduler.now + 5 * SECOND
    assert [answer.error for answer in write(lead)] == ["overloaded"]
    reserved = write(lead, reserved=True)
    run(cluster, 1)
    assert [answer.error for answer in reserved] == [""]


def test_s2_a_message_after_a_failed_write_is_found() -> None:
    cluster = formed()
    lead = leader(cluster)
    disk_of(lead).failed = True
    message = SimpleNamespace(header=SimpleNamespace(term=1))
    with pytest.raises(Violation, match="after a write of its disk failed"):
        EffectOrder(cluster.checker).transmitting(
            lead, cast("Any", None), cast("Any", SimpleNamespace(message=message))
        )


def test_no_second_disk_is_damaged_before_the_first_is_replaced() -> None:
    cluster = formed()
    lead = leader(cluster)
    assert lead.node is not None
    assert may_lose(cluster, lead.node)
    other = next(host for host in cluster.hosts if host is not lead)
    disk_of(other).store.flipped.add(1)
    assert not may_lose(cluster, lead.node)
    disk_of(other).store.flipped.clear()
    other.lost = True
    assert not may_lose(cluster, lead.node)


def test_each_kind_of_fault_is_on_in_some_seeds_and_off_in_others() -> None:
    mixes = [draw_mix(seed).disk_faults for seed in range(1, 101)]
    assert 40 <= sum(bool(mix) for mix in mixes) <= 80
    for number, kind in enumerate(DISK_FAULTS):
        weights = {mix[number][1] for mix in mixes if mix}
        assert weights == {0, 1, 3}, kind
