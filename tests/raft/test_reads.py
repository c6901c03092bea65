"""Linearizable reads by read index (§6.4) and rows 76-83."""

from __future__ import annotations

from dataclasses import replace

from lockmaster_raft.config import SECOND, RaftConfig
from lockmaster_raft.entry import Entry, EntryKind, make_entry
from lockmaster_raft.events import Applied, Propose, RequestRead, TransferLeadership
from lockmaster_raft.ids import Index, Nanos, NodeId, Term
from lockmaster_raft.messages import Heartbeat, HeartbeatReply, PreVote, PreVoteReply, ReadIndex, ReadIndexReply
from lockmaster_raft.ready import ReadReady, Role

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


# --- leases and bounded age -----------------------------------------------------------------------------------------


def promised(rig: Rig, beat: Heartbeat, sender: int, sticky_ns: int) -> None:
    where = (Index(2), Index(1), Index(1))
    rig.receive(HeartbeatReply(header(sender, beat.header.term), beat.round_id, beat.sent_at, *where, sticky_ns))


def leased(sticky_ns: int = SECOND) -> Rig:
    """A leader of three with an acked heartbeat of this very moment."""
    rig = leading()
    rig.tick(rig.config.heartbeat_interval_ns)
    beat = rig.sent(Heartbeat)[0]
    promised(rig, beat, 2, sticky_ns)
    return rig


def by_lease(rig: Rig, after_ns: int = 0) -> bool:
    return rig.step(RequestRead(9, by_lease=True), after_ns).reads == (ReadReady(9, Index(2)),)


def test_6_4_1_a_lease_answers_without_a_round_and_ends_before_the_promise_by_the_drift() -> None:
    assert by_lease(leased())
    assert by_lease(leased(), SECOND - SECOND // 100 - 1)
    assert not by_lease(leased(), SECOND - SECOND // 100)


def test_raft_md_2_no_voter_within_the_drift_bound_elects_another_while_the_lease_lasts() -> None:
    """The leader's clock is the slow one, the voter's 1 % faster: at the voter's first vote the lease is over."""
    leader, voter = leading(), Rig(node_id=2, term=2)
    leader.tick(leader.config.heartbeat_interval_ns)
    beat = leader.sent(Heartbeat)[0]
    voter.receive(beat)
    promise = voter.only(HeartbeatReply)
    leader.receive(promise)
    assert promise.sticky_ns == SECOND
    ask = PreVote(header(3, 2, 2), Term(3), Index(9), Term(2), 1)
    voter.receive(ask, SECOND - 1)
    assert voter.only(PreVoteReply).reason == "sticky"
    voter.receive(ask, 1)
    assert voter.only(PreVoteReply).granted
    elapsed = SECOND * 100 // 101  # what the leader's clock has counted meanwhile
    assert not by_lease(leader, elapsed)
    assert leader.node.role is Role.LEADER  # or it would prove nothing


def test_6_4_1_no_lease_before_an_own_term_commit_though_a_quorum_promised_one() -> None:
    """D3: what an earlier leader acknowledged may not be known as committed here yet."""
    rig = Rig()
    elect(rig)
    beat = rig.sent(Heartbeat)[0]
    rig.receive(replace(beat_ack(beat), sticky_ns=SECOND))
    assert rig.node.role is Role.LEADER
    assert rig.step(RequestRead(9, by_lease=True)).reads == ()


def test_a_lease_is_as_short_as_the_voter_s_own_count() -> None:
    assert not by_lease(leased(SECOND // 10), SECOND // 10)


def test_without_asking_for_it_a_read_takes_a_round() -> None:
    assert leased().step(RequestRead(9)).reads == ()


def test_a_lease_counts_from_when_the_heartbeat_was_sent() -> None:
    rig = leading()
    rig.tick(rig.config.heartbeat_interval_ns)
    beat = rig.sent(Heartbeat)[0]
    rig.tick(SECOND // 4)
    promised(rig, beat, 2, SECOND // 2)
    assert by_lease(rig)
    assert not by_lease(rig, SECOND // 4)
    assert rig.node.role is Role.LEADER  # or it would prove nothing


def test_no_lease_from_a_minority() -> None:
    rig = Rig(conf=configuration((1, 2, 3, 4, 5)))
    assert not by_lease(rig)
    rig = leading()
    assert not by_lease(rig)


def test_row_82_a_transfer_ends_the_lease_and_an_aborted_one_bars_it_until_the_target_acks_a_later_heartbeat() -> None:
    rig = leased()
    beat = rig.sent(Heartbeat)
    assert beat == []
    rig.step(TransferLeadership(5, NodeId(2)))
    assert not by_lease(rig)
    before = Nanos(rig.now)
    core = rig.node._core
    core.transfer = None  # aborted
    promised(rig, Heartbeat(header(2, 2), core.round_id, before, Index(2), before, 1), 2, SECOND)
    assert not by_lease(rig)
    promised(rig, Heartbeat(header(2, 2), core.round_id, Nanos(before + 1), Index(2), before, 1), 2, SECOND)
    assert by_lease(rig, 1) is False  # sent in this node's future: refused
    rig.tick(10)
    promised(rig, Heartbeat(header(2, 2), core.round_id, Nanos(before + 1), Index(2), before, 1), 3, SECOND)
    assert not by_lease(rig)
    promised(rig, Heartbeat(header(2, 2), core.round_id, Nanos(before + 1), Index(2), before, 1), 2, SECOND)
    assert by_lease(rig)


def test_bounded_a_leader_s_state_is_as_old_as_its_last_acked_heartbeat() -> None:
    rig = leased()
    assert rig.node.state_age_ns(Nanos(rig.now)) is None  # not applied yet
    rig.step(Applied(Index(2)))
    assert rig.node.state_age_ns(Nanos(rig.now)) == 0
    assert rig.node.state_age_ns(Nanos(rig.now + 990)) == 1000  # this clock may be the slow one, by 1 %
    assert rig.node.state_age_ns(Nanos(rig.now + 991)) == 1002  # rounded up


def test_bounded_a_follower_s_state_is_as_old_as_the_start_of_its_last_confirmed_read() -> None:
    rig = Rig(term=2)
    rig.receive(append(3, 2, (1, 1)))
    assert rig.node.state_age_ns(Nanos(rig.now)) is None
    rig.step(RequestRead(4))
    ask = rig.only(ReadIndex)
    rig.tick(693)
    rig.receive(ReadIndexReply(header(3, 2), ask.read_id, True, Index(1)))
    assert rig.node.state_age_ns(Nanos(rig.now)) == 700


def test_bounded_what_is_confirmed_and_not_applied_makes_nothing_younger() -> None:
    rig = Rig(term=2)
    rig.receive(append(3, 2, (1, 1)))
    rig.step(RequestRead(4))
    rig.receive(ReadIndexReply(header(3, 2), rig.only(ReadIndex).read_id, True, Index(9)))
    assert rig.node.state_age_ns(Nanos(rig.now)) is None


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
