"""Linearizable reads by read index (§6.4) and rows 76-83."""

from __future__ import annotations

from lockmaster_raft.config import SECOND, RaftConfig
from lockmaster_raft.entry import Entry, EntryKind, make_entry
from lockmaster_raft.events import Propose, RequestRead
from lockmaster_raft.ids import Index, Nanos, Term
from lockmaster_raft.messages import Heartbeat, HeartbeatReply, ReadIndex, ReadIndexReply
from lockmaster_raft.ready import ReadReady

from .rig import Cluster, Rig, append, base, configuration, header
from .test_elections import elect
from .test_log_replication import leading


def beat_ack(beat: Heartbeat, sender: int = 2) -> HeartbeatReply:
    where = (Index(2), Index(1), Index(1))
    return HeartbeatReply(header(sender, beat.header.term), beat.round_id, beat.sent_at, *where, 0)


def three() -> Cluster:
    cluster = Cluster(blank=True)
    for number in (1, 2, 3):
        cluster.boot(number, base(configuration()))
    cluster.run(4 * SECOND)
    return cluster


def test_6_4_a_read_waits_for_a_round_that_began_after_it() -> None:
    rig = leading()
    rig.tick(rig.config.heartbeat_interval_ns)
    before = rig.sent(Heartbeat)[0]
    rig.step(RequestRead(7))
    mine = rig.sent(Heartbeat)[0]
    assert rig.receive(beat_ack(before)).reads == ()
    assert rig.receive(beat_ack(mine)).reads == (ReadReady(7, Index(2)),)


def test_6_4_no_read_before_an_own_term_commit() -> None:
    rig = Rig()
    elect(rig)
    beat = rig.sent(Heartbeat)[0]
    assert rig.step(RequestRead(7)).reads == ()
    assert rig.receive(beat_ack(beat)).reads == ()


def test_reads_that_come_during_a_round_share_the_next() -> None:
    rig = leading()
    rig.step(RequestRead(1))
    first = rig.sent(Heartbeat)[0]
    assert rig.step(RequestRead(2)).send == ()
    assert rig.step(RequestRead(3)).send == ()
    ready = rig.receive(beat_ack(first))
    assert ready.reads == (ReadReady(1, Index(2)),)
    second = rig.sent(Heartbeat)[0]
    assert [r.request_id for r in rig.receive(beat_ack(second)).reads] == [2, 3]


def test_a_leader_cut_off_answers_no_read() -> None:
    rig = leading()
    rig.step(RequestRead(1))
    ready = rig.tick(20 * SECOND)
    assert ready.reads == (ReadReady(1, None),)


def test_pending_reads_are_bounded() -> None:
    rig = leading(RaftConfig(pending_reads_max=2))
    rig.step(RequestRead(1))
    rig.step(RequestRead(2))
    assert rig.step(RequestRead(3)).reads == (ReadReady(3, None),)


def test_a_follower_forwards_and_releases_only_its_own_attempt() -> None:
    """Row 78: a retry with the same id would be released by the answer to the first one."""
    rig = Rig(term=2)
    rig.receive(append(2, 2, (1, 1)))
    rig.step(RequestRead(9))
    first = rig.only(ReadIndex)
    rig.tick(2 * rig.config.heartbeat_interval_ns)
    second = rig.only(ReadIndex)
    assert second.read_id != first.read_id
    assert rig.receive(ReadIndexReply(header(2, 2), first.read_id, True, Index(1))).reads == ()
    assert rig.receive(ReadIndexReply(header(2, 2), second.read_id, True, Index(5))).reads == (ReadReady(9, Index(5)),)


def test_a_follower_without_a_leader_says_so() -> None:
    rig = Rig()
    assert rig.step(RequestRead(1)).reads == (ReadReady(1, None),)


def test_a_forwarded_read_fails_after_an_election_timeout() -> None:
    rig = Rig(term=2)
    rig.receive(append(2, 2, (1, 1)))
    rig.step(RequestRead(9))
    reads: list[ReadReady] = []
    for _ in range(20):
        reads += rig.tick(rig.config.heartbeat_interval_ns).reads
    assert reads == [ReadReady(9, None)]


def test_a_node_that_does_not_lead_refuses_a_read_index() -> None:
    rig = Rig(term=2)
    rig.receive(ReadIndex(header(2, 2), 4))
    assert not rig.only(ReadIndexReply).ok


def test_reads_anywhere_see_every_write_acknowledged_before() -> None:
    cluster = three()
    leader = cluster.leader
    for number in range(5):
        cluster.step(leader, Propose(number, b"x"))
    cluster.run(SECOND // 100)
    written = cluster.nodes[leader].commit_index
    for number in cluster.nodes:
        cluster.step(number, RequestRead(number))
    cluster.run(SECOND // 20)
    assert sorted(n for n, _ in cluster.reads) == [1, 2, 3]
    assert all(r.index is not None and r.index >= written for _, r in cluster.reads)
    assert all(n.commit_index >= written for n in cluster.nodes.values())  # told at once, not at the next heartbeat


def test_cluster_time_runs_only_while_a_quorum_confirms_it() -> None:
    """service.md §1: C + min(now - t, 2 heartbeats)."""
    rig = leading()
    rig.tick(rig.config.heartbeat_interval_ns)
    rig.receive(beat_ack(rig.sent(Heartbeat)[0]))
    at = rig.node.cluster_time(Nanos(rig.now))
    later = rig.node.cluster_time(Nanos(rig.now + rig.config.heartbeat_interval_ns))
    assert later - at == rig.config.heartbeat_interval_ns
    much_later = rig.node.cluster_time(Nanos(rig.now + 60 * SECOND))
    assert much_later - at == 2 * rig.config.heartbeat_interval_ns


def test_cluster_time_never_falls_across_leaders_and_stands_without_one() -> None:
    cluster = three()
    last = 0
    for _ in range(3):
        leader = cluster.leader
        cluster.step(leader, Propose(1, b"x"))
        cluster.run(SECOND)
        stamp = cluster.nodes[leader].cluster_time(Nanos(cluster.now))
        assert stamp >= last
        last = cluster.applied[leader][-1].leader_time
        cluster.down = {leader}
        cluster.run(4 * SECOND)
    stamps = [e.leader_time for e in cluster.applied[cluster.leader]]
    assert stamps == sorted(stamps)
    real = cluster.now
    assert stamps[-1] < real


def test_a_leader_with_an_empty_log_goes_on_from_the_cluster_time_of_its_state() -> None:
    """service.md §1: a new leader continues from the last stamp, also where the log's base swallowed that entry."""
    rig = Rig(start=base(configuration(), index=10, term=1), leader_time=50 * SECOND)
    elect(rig)
    (noop,) = rig.store.log
    assert noop.leader_time >= 50 * SECOND


def stamped(index: int, term: int, stamp: int) -> Entry:
    return make_entry(Index(index), Term(term), EntryKind.DATA, Nanos(stamp), b"x")


def test_a_leader_goes_on_from_its_logs_last_stamp_whatever_heartbeats_told_beyond_it() -> None:
    """Seed 282: another leader, who had not heard that heartbeat, renewed a session meanwhile, by an earlier stamp."""
    rig = Rig(log=(stamped(2, 1, 5 * SECOND),))
    beat = Heartbeat(header(2, 1), 1, Nanos(0), Index(1), Nanos(50 * SECOND), 1)
    rig.receive(beat)
    assert rig.node.cluster_time(Nanos(rig.now)) == 50 * SECOND
    elect(rig)
    assert rig.store.log[-1].leader_time == 5 * SECOND


def test_a_leader_goes_on_from_its_logs_last_stamp_whatever_a_removed_tail_had() -> None:
    rig = Rig(log=(stamped(2, 1, 5 * SECOND), stamped(3, 1, 50 * SECOND)))
    rig.receive(append(2, 2, (2, 1), (stamped(3, 2, 6 * SECOND),)))
    elect(rig)
    assert rig.store.log[-2:] == [stamped(3, 2, 6 * SECOND), rig.store.log[-1]]
    assert rig.store.log[-1].leader_time == 6 * SECOND
