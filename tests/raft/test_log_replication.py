"""Replication, durability by write, conflict hints, commit: §3.5, §3.6.2, §5.3, §10.2.1 and rows 23-36."""

from __future__ import annotations

from dataclasses import replace

import pytest
from lockmaster_raft.config import SECOND, RaftConfig
from lockmaster_raft.entry import EntryKind
from lockmaster_raft.errors import InvariantViolation
from lockmaster_raft.events import PeerConnected, Propose
from lockmaster_raft.ids import Index, NodeId, Term
from lockmaster_raft.messages import AppendEntries, AppendEntriesReply, Heartbeat, HeartbeatReply
from lockmaster_raft.ready import Channel, Role

from .rig import Cluster, Rig, append, base, configuration, entries, header
from .test_elections import elect


def ack(sender: int, term: int, request: AppendEntries) -> AppendEntriesReply:
    match = Index(request.prev_index + len(request.entries))
    return AppendEntriesReply(
        header(sender, term),
        request.stream_epoch,
        request.request_id,
        True,
        match,
        match,
        Index(1),
        Index(2),
        Index(1),
        Term(0),
        Index(0),
        0,
    )


def to(rig: Rig, receiver: int) -> list[AppendEntries]:
    return [m for m in rig.sent(AppendEntries) if m.header.receiver == receiver]


def leading(config: RaftConfig | None = None) -> Rig:
    """Node 1 leads term 2 of three, its NOOP at index 2 is durable and committed with node 2."""
    rig = Rig(config=config)
    elect(rig)
    request = to(rig, 2)[0]
    rig.synced()
    rig.receive(ack(2, 2, request))
    assert rig.node.commit_index == 2
    return rig


def test_3_5_an_ack_waits_for_the_write_that_it_reports() -> None:
    rig = Rig(term=2)
    ready = rig.receive(append(2, 2, (1, 1), entries(2, 2, 2)))
    assert ready.persist is not None
    assert rig.only(AppendEntriesReply).match_index == 3
    assert rig.send_of(AppendEntriesReply).after == ready.persist.seq


def test_an_ack_of_entries_still_being_written_waits_for_their_write() -> None:
    rig = Rig(term=2)
    rig.receive(append(2, 2, (1, 1), entries(2, 2)))
    first = rig.seq
    ready = rig.receive(append(2, 2, (1, 1), entries(2, 2)))  # sent again
    assert ready.persist is None
    assert rig.send_of(AppendEntriesReply).after == first
    rig.synced()
    rig.receive(append(2, 2, (1, 1), entries(2, 2)))
    assert rig.send_of(AppendEntriesReply).after == 0


def test_durable_is_by_write_not_by_index() -> None:
    """100@t3 is being written, a new leader overwrites it with 100@t4: the first sync says nothing of the second."""
    rig = Rig(term=3)
    rig.receive(append(2, 3, (1, 1), entries(2, 3)))
    first = rig.seq
    rig.receive(append(3, 4, (1, 1), entries(2, 4)))
    second = rig.seq
    assert rig.send_of(AppendEntriesReply).after == second
    rig.synced(first)
    assert rig.node.durable_index == 1
    rig.receive(append(3, 4, (1, 1), entries(2, 4)))
    assert rig.send_of(AppendEntriesReply).after == second
    rig.synced(second)
    assert rig.node.durable_index == 2


def test_5_3_a_conflict_truncates_and_says_so_in_the_write() -> None:
    rig = Rig(log=entries(2, 2, 2, 2), term=2)
    ready = rig.receive(append(2, 3, (2, 2), entries(3, 3)))
    assert ready.persist is not None
    assert ready.persist.truncate_from == 3
    assert ready.persist.entries == entries(3, 3)
    assert rig.node.last_index == 3


def test_5_3_an_empty_or_old_append_removes_nothing() -> None:
    """Row 27."""
    rig = Rig(log=entries(2, 2, 2, 2), term=2)
    rig.receive(append(2, 2, (2, 2)))
    assert rig.node.last_index == 4
    rig.receive(append(2, 2, (1, 1), entries(2, 2)))
    assert rig.node.last_index == 4
    assert rig.only(AppendEntriesReply).match_index == 2


def test_5_3_a_mismatch_names_term_and_first_index() -> None:
    rig = Rig(log=entries(2, 2, 2, 2), term=3)
    rig.receive(append(2, 4, (4, 3)))
    reply = rig.only(AppendEntriesReply)
    assert not reply.success
    assert (reply.conflict_term, reply.conflict_first_index, reply.last_index) == (2, 2, 4)


def test_a_committed_entry_is_never_removed() -> None:
    rig = Rig(log=entries(2, 2, 2), term=2)
    rig.receive(append(2, 2, (3, 2), commit=3))
    assert rig.node.commit_index == 3
    rig.receive(append(3, 3, (1, 1), entries(2, 3)))  # contradicts the law, and everything <= commit matches
    assert rig.node.last_index == 3


def test_commit_on_a_follower_is_bounded_by_what_matches() -> None:
    """Its tail beyond prev + n may be another leader's."""
    rig = Rig(log=entries(2, 2, 2, 2), term=2)
    rig.receive(append(2, 3, (2, 2), commit=4))
    assert rig.node.commit_index == 2


def test_commit_never_falls() -> None:
    """Row 24."""
    rig = Rig(log=entries(2, 2, 2), term=2)
    rig.receive(append(2, 2, (3, 2), commit=3))
    rig.receive(append(2, 2, (3, 2), commit=1))
    assert rig.node.commit_index == 3


def test_a_stale_leader_is_told_the_term() -> None:
    rig = Rig(term=5)
    rig.receive(append(2, 3, (1, 1)))
    reply = rig.only(AppendEntriesReply)
    assert not reply.success
    assert reply.header.term == 5


def test_two_leaders_of_one_term_stop_the_process() -> None:
    rig = Rig(term=2)
    rig.receive(append(2, 2, (1, 1)))
    with pytest.raises(InvariantViolation):
        rig.receive(append(3, 2, (1, 1)))


def test_3_6_2_only_an_own_term_entry_is_a_commit_point() -> None:
    """Figure 8: index 2 of term 1 on a majority does not count, the NOOP above it does."""
    rig = Rig(log=entries(2, 1), term=1)
    elect(rig)
    assert rig.node.last_index == 3
    request = to(rig, 2)[0]
    rig.synced()
    old_only = replace(ack(2, 2, request), match_index=Index(2), last_index=Index(2))
    rig.receive(old_only)
    assert rig.node.commit_index == 1
    rig.receive(ack(2, 2, to(rig, 2)[-1]))
    assert rig.node.commit_index == 3


def test_the_leaders_own_copy_counts_only_when_durable() -> None:
    rig = Rig()
    elect(rig)
    request = to(rig, 2)[0]
    rig.receive(ack(2, 2, request))
    assert rig.node.commit_index == 1
    rig.synced()
    assert rig.node.commit_index == 2


def test_commit_may_run_ahead_of_the_leaders_own_disk() -> None:
    rig = Rig()
    elect(rig)
    requests = to(rig, 2)[0], to(rig, 3)[0]
    rig.receive(ack(2, 2, requests[0]))
    ready = rig.receive(ack(3, 2, requests[1]))
    assert rig.node.commit_index == 2
    assert rig.node.durable_index == 1
    assert [e.kind for e in ready.apply] == [EntryKind.NOOP]


def test_entries_leave_before_the_own_sync_on_the_bulk_channel() -> None:
    rig = leading()
    ready = rig.step(Propose(1, b"one"))
    (send,) = [s for s in ready.send if s.to == 2]
    assert send.after == 0
    assert send.channel is Channel.BULK


def test_10_2_1_the_pipeline_does_not_wait_and_is_bounded() -> None:
    rig = leading(RaftConfig(inflight_requests_max=3))
    sent = 0
    for number in range(10):
        rig.step(Propose(number, b"x"))
        sent += len(to(rig, 2))
    assert sent == 3
    assert to(rig, 2) == []


def test_a_cumulative_ack_frees_the_whole_window() -> None:
    rig = leading(RaftConfig(inflight_requests_max=2))
    rig.step(Propose(1, b"x"))
    rig.step(Propose(2, b"x"))
    last = to(rig, 2)[-1]
    rig.step(Propose(3, b"x"))
    rig.step(Propose(4, b"x"))
    rig.receive(ack(2, 2, last))
    (batch,) = to(rig, 2)
    assert [e.index for e in batch.entries] == [5, 6]


def test_a_reply_of_an_older_stream_moves_nothing() -> None:
    """Row 28."""
    rig = leading()
    rig.step(Propose(1, b"x"))
    request = to(rig, 2)[0]
    rig.step(PeerConnected(request.header.receiver))
    rig.receive(ack(2, 2, request))
    assert rig.node.progress_view()[request.header.receiver].match_index == 2


def test_replies_in_another_order_lower_no_match() -> None:
    """Row 28."""
    rig = leading()
    requests = []
    for number in (1, 2):
        rig.step(Propose(number, b"x"))
        requests += to(rig, 2)
    assert [request.entries[-1].index for request in requests] == [3, 4]
    for request in reversed(requests):
        rig.receive(ack(2, 2, request))
    assert rig.node.progress_view()[NodeId(2)].match_index == 4


def test_batches_respect_entries_and_bytes() -> None:
    config = RaftConfig(batch_entries_max=4, batch_bytes_max=1000, inflight_requests_max=1)
    rig = leading(config)
    for number in range(12):
        rig.step(Propose(number, b"x" * 100))
        if to(rig, 2):
            first = to(rig, 2)[0]
    rig.receive(ack(2, 2, first))
    (batch,) = to(rig, 2)
    assert len(batch.entries) == 4


def test_heartbeats_are_rounds_on_the_control_channel() -> None:
    rig = leading()
    ready = rig.tick(rig.config.heartbeat_interval_ns)
    beats = [s for s in ready.send if isinstance(s.message, Heartbeat)]
    assert {s.to for s in beats} == {2, 3}
    assert {s.channel for s in beats} == {Channel.CONTROL}


def test_a_heartbeat_promises_only_what_matches() -> None:
    rig = leading()
    rig.tick(rig.config.heartbeat_interval_ns)
    commits = {m.header.receiver: m.commit for m in rig.sent(Heartbeat)}
    assert commits == {2: 2, 3: 0}


def test_every_heartbeat_gets_a_reply() -> None:
    rig = Rig(term=2)
    rig.receive(Heartbeat(header(2, 2), 1, 5, Index(1), 7, 1))  # type: ignore[arg-type]  # plain numbers do here
    reply = rig.only(HeartbeatReply)
    assert (reply.round_id, reply.sent_at) == (1, 5)
    assert 0 < reply.sticky_ns <= rig.config.election_timeout_ns


def probes_until_joined(follower_log: int, leader_log: int) -> int:
    cluster = Cluster(blank=True)
    conf = configuration((1, 2, 3))
    log = entries(2, *[1] * 10, *[2] * (leader_log - 10))
    cluster.boot(1, base(conf), log)
    cluster.boot(2, base(conf), log)
    cluster.down.add(2)
    cluster.boot(3, base(conf), log[:follower_log])
    cluster.down.remove(2)
    cluster.run(4 * SECOND)
    assert cluster.nodes[3].last_index == cluster.nodes[cluster.leader].last_index
    probes = 0
    for send in cluster.sends:
        if send.to == 3 and isinstance(send.message, AppendEntries):
            probes += 1
            if send.message.prev_index <= follower_log + 1:
                return probes
    raise AssertionError("never joined")


@pytest.mark.parametrize("has", [0, 1, 9, 11, 2000])
def test_a_member_behind_5000_entries_is_joined_within_2_probes(has: int) -> None:
    """MicroRaft needed 5,002."""
    assert probes_until_joined(has, 5000) <= 2


def test_a_diverged_tail_is_joined_within_3_probes_and_equal() -> None:
    cluster = Cluster(blank=True)
    conf = configuration((1, 2, 3))
    good = entries(2, *[1] * 50, *[4] * 500)
    for number in (1, 2):
        cluster.boot(number, base(conf), good, term=5)
    bad = entries(52, *[2] * 300, *[3] * 400, payload=b"bad")
    cluster.boot(3, base(conf), good[:50] + bad, term=3)
    cluster.run(6 * SECOND)
    assert cluster.stores[3].log == cluster.stores[cluster.leader].log


def test_a_member_whose_disk_lost_data_is_an_alarm() -> None:
    rig = leading()
    rig.step(PeerConnected(NodeId(2)))
    probe = to(rig, 2)[0]
    rig.receive(
        AppendEntriesReply(
            header(2, 2), probe.stream_epoch, probe.request_id, False,
            Index(0), Index(1), Index(1), Index(2), Index(1), Term(0), Index(0), 0,
        )
    )  # fmt: skip
    assert [a.code for a in rig.ready.alarms] == ["match_moved_back"]


def test_lost_requests_are_sent_again_by_measured_time() -> None:
    cluster = Cluster(blank=True)
    for number in (1, 2, 3):
        cluster.boot(number, base(configuration()))
    cluster.run(4 * SECOND)
    leader = cluster.leader
    lost = [3]

    def cut(sender: int, receiver: int, message: object) -> bool:
        if isinstance(message, AppendEntries) and message.entries and lost[0] > 0:
            lost[0] -= 1
            return True
        return False

    cluster.cut = cut
    cluster.step(leader, Propose(1, b"again"))
    cluster.run(SECOND)
    assert all(n.commit_index == cluster.nodes[leader].last_index for n in cluster.nodes.values())
    assert cluster.nodes[leader].role is Role.LEADER
    assert cluster.alarms == []
