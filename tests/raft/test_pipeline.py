"""The adaptive pipeline and the boost of a member that catches up (raft.md §3; MicroRaft 2.4, 2.5)."""

from __future__ import annotations

from dataclasses import replace

import pytest
from lockmaster_raft import pipeline
from lockmaster_raft.config import MIB, MILLISECOND, SECOND, RaftConfig
from lockmaster_raft.core import Core
from lockmaster_raft.events import Propose
from lockmaster_raft.ids import Index, Nanos, NodeId, Term
from lockmaster_raft.messages import AppendEntries, InstallSnapshotReply, Message
from lockmaster_raft.progress import CommitLatency, Progress
from lockmaster_raft.ready import HardState
from lockmaster_raft.storage import BootState
from lockmaster_raft.testing.memory_store import MemoryStore

from .rig import CLUSTER, START, base, configuration, entries
from .shapes import CALM, asked_for_nothing, join, report, shaped, until, write
from .test_log_replication import ack, leading, to

CONFIG = RaftConfig(inflight_requests_max=16, inflight_bytes_max=16 * MIB, batch_entries_max=8)
ORDINARY = (16, 16 * MIB, 8)


def leader(config: RaftConfig = CONFIG, log: int = 0) -> tuple[Core, Progress]:
    """A core with that much of a log, and what it knows of member 2; member 3 is there, too."""
    store = MemoryStore(base(configuration()), list(entries(2, *[1] * log)))
    boot = BootState(HardState(Term(1), NodeId(0)), store, Index(1))
    core = Core(
        node_id=NodeId(1),
        cluster_id=CLUSTER,
        config=config,
        boot=boot,
        now=Nanos(START),
        draw=1,
        level_min=1,
        level_max=2,
    )
    for number in (2, 3):
        core.progress[NodeId(number)] = Progress(NodeId(number), 2, Nanos(START), 1)
    return core, core.progress[NodeId(2)]


def answers(core: Core, p: Progress, *times_ns: int) -> None:
    """Requests that were sent one after the other, answered after so long."""
    for took in times_ns:
        p.request_id += 1
        pipeline.answered(core, p, p.request_id, took)


def test_the_window_starts_as_wide_as_the_configuration_allows() -> None:
    assert pipeline.limits(*leader()) == ORDINARY


def test_answers_in_good_time_leave_it_so() -> None:
    core, p = leader()
    answers(core, p, *[MILLISECOND] * 20, 4 * MILLISECOND)
    assert pipeline.limits(core, p) == ORDINARY


def test_requests_that_wait_at_the_other_end_narrow_the_window() -> None:
    core, p = leader()
    answers(core, p, MILLISECOND, 50 * MILLISECOND)
    assert pipeline.limits(core, p) == (12, 12 * MIB, 8)


def test_requests_on_their_way_together_narrow_it_once() -> None:
    core, p = leader()
    answers(core, p, MILLISECOND)
    p.request_id = 10
    for request_id in range(2, 11):
        pipeline.answered(core, p, request_id, 50 * MILLISECOND)
    assert pipeline.limits(core, p)[0] == 12


def test_it_is_never_narrower_than_four_requests() -> None:
    core, p = leader()
    answers(core, p, MILLISECOND, *[50 * MILLISECOND] * 30)
    assert pipeline.limits(core, p)[:2] == (4, 2 * MIB)
    core, p = leader(replace(CONFIG, inflight_requests_max=1))
    answers(core, p, MILLISECOND, *[50 * MILLISECOND] * 30)
    assert pipeline.limits(core, p)[0] == 1


def test_each_answer_in_good_time_widens_it_by_one_request() -> None:
    core, p = leader()
    answers(core, p, MILLISECOND, *[50 * MILLISECOND] * 30)
    answers(core, p, *[MILLISECOND] * 3)
    assert pipeline.limits(core, p)[:2] == (7, 5 * MIB)
    answers(core, p, *[MILLISECOND] * 100)
    assert pipeline.limits(core, p) == ORDINARY


def test_a_slow_disk_is_its_own_measure() -> None:
    """Every request takes 80 ms, the first one too: nothing waits, so nothing is narrowed."""
    core, p = leader()
    answers(core, p, *[80 * MILLISECOND] * 20)
    assert pipeline.limits(core, p) == ORDINARY


def test_a_lost_request_halves_it() -> None:
    core, p = leader()
    pipeline.lost(core, p)
    assert pipeline.limits(core, p)[:2] == (8, 8 * MIB)


def test_while_the_window_is_full_entries_gather_into_one_request_and_a_lone_write_leaves_at_once() -> None:
    rig = leading(replace(CONFIG, inflight_requests_max=2, fetch_entries_min=0))
    rig.step(Propose(1, b"x"))
    first = to(rig, 2)[0]
    rig.step(Propose(2, b"x"))
    rig.step(Propose(3, b"x"))
    assert to(rig, 2) == []
    rig.step(Propose(4, b"x"))
    rig.receive(ack(2, 2, first))
    (gathered,) = to(rig, 2)
    assert isinstance(gathered, AppendEntries)
    assert len(gathered.entries) == 2


# --- boost ----------------------------------------------------------------------------------------------------------


def boosted(log: int = 100, **free: int) -> tuple[Core, Progress]:
    core, p = leader(log=log)
    p.free_bytes = free.get("free_bytes", 0)
    pipeline.look_for_lag(core, p)
    return core, p


def test_a_member_far_behind_has_a_wider_window_and_larger_batches() -> None:
    assert pipeline.limits(*boosted()) == (64, 64 * MIB, 32)


def test_a_member_a_little_behind_has_not() -> None:
    assert pipeline.limits(*boosted(log=60)) == ORDINARY


def test_its_free_room_bounds_the_boost() -> None:
    assert pipeline.limits(*boosted(free_bytes=100 * MIB)) == (64, 25 * MIB, 32)
    assert pipeline.limits(*boosted(free_bytes=1 * MIB)) == (64, 16 * MIB, 32)


def test_it_ends_when_the_member_has_what_the_log_held_then() -> None:
    core, p = boosted()
    p.match = Index(50)
    pipeline.end_boost(core, p)
    assert p.boost_until
    p.match = Index(core.log.last_index)
    pipeline.end_boost(core, p)
    assert pipeline.limits(core, p) == ORDINARY


def test_a_lost_request_halves_the_boost() -> None:
    core, p = boosted()
    pipeline.lost(core, p)
    p.window_requests = p.window_bytes = 0
    assert pipeline.limits(core, p) == (32, 32 * MIB, 16)


def test_one_member_is_boosted_at_a_time_voters_first() -> None:
    core, p = boosted()
    other = core.progress[NodeId(3)]
    pipeline.begin_boost(core, other)
    assert pipeline.limits(core, p)[0] == 64
    assert pipeline.limits(core, other) == ORDINARY
    core.voters = (NodeId(1), NodeId(3))
    assert pipeline.limits(core, p) == ORDINARY
    assert pipeline.limits(core, other)[0] == 64


def test_a_silent_member_leaves_its_place_to_one_that_catches_up_in_its_stead() -> None:
    core, p = boosted()
    other = core.progress[NodeId(3)]
    pipeline.begin_boost(core, other)
    p.contact = core.now - core.config.election_timeout_ns
    assert pipeline.limits(core, p) == ORDINARY
    assert pipeline.limits(core, other)[0] == 64
    p.contact = core.now
    assert pipeline.limits(core, p)[0] == 64
    assert pipeline.limits(core, other) == ORDINARY


@pytest.mark.parametrize("took_ms", [100, 101])
def test_nobody_is_boosted_while_commits_take_longer_than_a_heartbeat_interval(took_ms: int) -> None:
    core, p = boosted()
    core.latency.appended(101, core.now)
    core.begin(Nanos(core.now + took_ms * MILLISECOND), 1)
    assert pipeline.limits(core, p)[0] == (64 if took_ms == 100 else 16)


def test_the_latency_of_commits_is_that_of_one_entry_at_a_time() -> None:
    latency = CommitLatency()
    latency.appended(5, 0)
    latency.appended(6, 7 * SECOND)
    latency.committed(4, 7 * SECOND)
    latency.committed(6, 8 * SECOND)
    assert latency.average_ns == SECOND
    latency.appended(7, 10 * SECOND)
    assert latency.worst_ns(13 * SECOND) == 3 * SECOND
    latency.restart()
    assert latency.worst_ns(99 * SECOND) == SECOND


def test_the_log_is_kept_beyond_its_budget_for_a_member_that_has_just_installed_a_snapshot() -> None:
    """Or it would need another one at once, and so on (MicroRaft 2.4)."""
    config = replace(CALM, log_bytes_max=60_000, fetch_entries_min=0, batch_entries_max=4)
    cluster = shaped(3, 0, config)
    write(cluster, 20, b"x" * 1000)
    report(cluster)
    lost: list[type] = [AppendEntries, InstallSnapshotReply]

    def cut(sender: int, receiver: int, message: Message) -> bool:
        return 4 in (sender, receiver) and type(message) in lost and cluster.nodes[4].last_index > 1

    cluster.cut = cut
    join(cluster, 4, promote=False)
    until(cluster, lambda: cluster.nodes[4].last_index > 1)
    index = cluster.nodes[4].last_index
    write(cluster, 60, b"x" * 1000)
    lost.pop()
    cluster.run(2 * SECOND)
    report(cluster)
    assert cluster.nodes[1].log_first <= index + 1
    lost.pop()
    cluster.step(4, asked_for_nothing())
    until(cluster, lambda: cluster.nodes[4].last_index == cluster.nodes[1].last_index)
