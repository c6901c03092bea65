"""Committed ranges from other members (raft.md §3): who is named, what is believed, how it ends."""

from __future__ import annotations

from dataclasses import replace

from lockmaster_raft import ranges
from lockmaster_raft.config import MILLISECOND, SECOND, RaftConfig
from lockmaster_raft.entry import EntryKind, make_entry
from lockmaster_raft.events import PeerConnected
from lockmaster_raft.ids import Index, Nanos, NodeId, Term
from lockmaster_raft.messages import (
    AppendEntries,
    CatchUp,
    CatchUpReply,
    FetchRange,
    FetchRangeReply,
    Message,
    Retain,
)
from lockmaster_raft.pieces import PIECES_OUTSTANDING_MAX
from lockmaster_raft.progress import ProgressState
from lockmaster_raft.ready import Role
from lockmaster_raft.role_policy import RolePolicy

from .rig import Cluster, Rig, append, base, config_entry, configuration, entries, header
from .shapes import asked_for_nothing, log_of, shaped, until, write

FETCHING = RaftConfig(
    retained_entries_min=1,
    fetch_entries_min=20,
    fetch_piece_entries_max=8,
    batch_entries_max=4,
    role_policy=RolePolicy(promote_after_ns=3600 * SECOND),
)
ANCHORS = ((Index(1), Term(1)), (Index(4), Term(1)), (Index(6), Term(2)), (Index(9), Term(2)))
LOG = (*entries(2, 1, 1, 1), *entries(5, 2, 2, 2, 2, 2))
"""What the group has committed: indexes 2 to 9."""


def behind(*, log: int = 0, term: int = 2) -> Rig:
    """Member 1, which lacks all of LOG but the first `log` entries."""
    return Rig(
        conf=configuration((1, 2, 3, 4)), start=base(configuration((1, 2, 3, 4)), level=2), log=LOG[:log], term=term
    )


def named(rig: Rig, term: int = 2, epoch: int = 5, sources: tuple[int, ...] = (3, 4)) -> None:
    rig.receive(CatchUp(header(2, term), epoch, ANCHORS, tuple(NodeId(s) for s in sources)))


def piece(rig: Rig, source: int, prev: int, last: int, *, count: int | None = None, term: int = 2) -> None:
    """The source serves the entries after `prev` up to `last`, or the first `count` of them."""
    found = LOG[prev - 1 : last - 1]
    rig.receive(
        FetchRangeReply(header(source, term), Index(prev), Index(last), found if count is None else found[:count])
    )


def lagging(config: RaftConfig = FETCHING, fulls: int = 3, witnesses: int = 0, lag: int = 60) -> Cluster:
    """Member 2 comes back to a group that has gone on without it for `lag` entries."""
    cluster = shaped(fulls, witnesses, config)
    cluster.down.add(2)
    write(cluster, lag)
    cluster.sends.clear()
    cluster.down.clear()
    cluster.step(2, asked_for_nothing())
    return cluster


def entries_sent(cluster: Cluster, sender: int, receiver: int) -> int:
    """Entries of the log that one sent to the other."""
    kinds = (AppendEntries, FetchRangeReply)
    messages = [s.message for s in cluster.sends if s.to == receiver]
    return sum(len(m.entries) for m in messages if isinstance(m, kinds) and m.header.sender == sender)


def caught_up(cluster: Cluster, number: int = 2) -> bool:
    return cluster.nodes[number].last_index == cluster.nodes[cluster.leader].last_index


def test_a_member_far_behind_gets_the_log_from_the_others_and_next_to_nothing_from_the_leader() -> None:
    cluster = lagging()
    until(cluster, lambda: caught_up(cluster))
    lead = cluster.leader
    assert entries_sent(cluster, 3, 2) >= 40
    assert entries_sent(cluster, lead, 2) <= 20
    for index in range(cluster.nodes[2].last_index - 50, cluster.nodes[2].last_index + 1):
        assert log_of(cluster, 2, index) == log_of(cluster, lead, index)


def test_a_witness_serves_the_log_too() -> None:
    cluster = lagging(fulls=2, witnesses=1)
    until(cluster, lambda: caught_up(cluster))
    assert entries_sent(cluster, 3, 2) >= 40


def test_several_sources_share_a_range() -> None:
    cluster = lagging(fulls=5, lag=120)
    until(cluster, lambda: caught_up(cluster))
    shares = [entries_sent(cluster, source, 2) for source in (3, 4, 5)]
    assert min(shares) >= 16


def test_below_level_2_nothing_of_it_is_sent() -> None:
    """raft.md §6: 0.1.0 has no decoder for it."""
    cluster = Cluster(FETCHING, level=1)
    cluster.run(SECOND)
    from .shapes import join

    for number in (2, 3):
        join(cluster, number)
    cluster.down.add(2)
    write(cluster, 60)
    cluster.down.clear()
    cluster.step(2, asked_for_nothing())
    until(cluster, lambda: caught_up(cluster))
    new = (CatchUp, CatchUpReply, FetchRange, FetchRangeReply, Retain)
    assert not [s for s in cluster.sends if isinstance(s.message, new)]


def test_with_its_sources_gone_the_leader_sends_after_the_deadline() -> None:
    cluster = lagging()
    lead = cluster.leader
    cluster.cut = lambda sender, receiver, message: isinstance(message, FetchRange)
    until(cluster, lambda: caught_up(cluster))
    assert cluster.nodes[lead].fetch_counts["ranges_fallen_back"] == 1
    assert entries_sent(cluster, lead, 2) >= 40
    assert cluster.now < 60 * SECOND


def test_what_a_member_still_lacks_after_a_fall_back_is_named_to_the_sources_again() -> None:
    """By bytes as by entries: a few large entries are much, too. Twice as long each time."""
    config = replace(FETCHING, fetch_entries_min=1000, fetch_bytes_min=2_000, inflight_bytes_max=2_000, boost_factor=1)
    cluster = lagging(config, lag=300)
    lead, tip = cluster.leader, cluster.nodes[cluster.leader].last_index
    progress = cluster.nodes[lead]._core.progress[NodeId(2)]
    slow = tip - 250

    def no_sources_and_a_slow_stream(_sender: int, receiver: int, message: Message) -> bool:
        late = receiver == 2 and isinstance(message, AppendEntries) and message.prev_index >= slow
        return late or isinstance(message, FetchRange)

    cluster.cut = no_sources_and_a_slow_stream
    until(cluster, lambda: cluster.nodes[lead].fetch_counts.get("ranges_fallen_back", 0) == 1)
    assert progress.fetch_barred - cluster.now <= SECOND
    cluster.run(SECOND * 3 // 2)
    assert progress.match <= slow + 4
    cluster.cut = lambda sender, receiver, message: False
    until(cluster, lambda: caught_up(cluster))
    assert cluster.nodes[lead].fetch_counts["ranges_named"] >= 2
    assert entries_sent(cluster, 3, 2) >= 150
    assert progress.fetch_failed == 0


def test_a_stream_that_works_is_left_for_the_sources_when_many_bytes_are_missing() -> None:
    """Not before the time for which a fetch that came to nothing bars them."""
    config = replace(FETCHING, fetch_entries_min=1000, fetch_bytes_min=2_000)
    cluster = shaped(3, 0, config)
    cluster.down.add(2)
    write(cluster, 300)
    core = cluster.nodes[cluster.leader]._core
    progress = core.progress[NodeId(2)]
    progress.restart(progress.match + 1)
    progress.state = ProgressState.REPLICATE
    states = []
    for barred in (core.now + 1, core.now):
        progress.fetch_barred = barred
        ranges.look(core)
        states.append(progress.state)
    assert states == [ProgressState.REPLICATE, ProgressState.FETCHING]


def test_a_source_whose_first_requests_were_lost_is_asked_once_more() -> None:
    """The two have only just connected; in a 2+1 cluster there is no other source."""
    cluster = lagging()
    lost: list[Message] = []

    def cut(sender: int, receiver: int, message: Message) -> bool:
        if isinstance(message, FetchRange) and len(lost) < PIECES_OUTSTANDING_MAX:
            lost.append(message)
            return True
        return False

    cluster.cut = cut
    until(cluster, lambda: caught_up(cluster))
    assert lost
    assert "ranges_fallen_back" not in cluster.nodes[cluster.leader].fetch_counts
    assert entries_sent(cluster, cluster.leader, 2) < 10


def test_a_leader_that_hears_nothing_of_a_fetch_sends_itself() -> None:
    """The member's word is lost, too: the leader's own deadline."""
    cluster = lagging()
    lead = cluster.leader
    cluster.cut = lambda sender, receiver, message: isinstance(message, FetchRange | CatchUpReply)
    until(cluster, lambda: cluster.nodes[lead].fetch_counts.get("ranges_fallen_back", 0) == 1)
    until(cluster, lambda: caught_up(cluster))


def test_a_dead_source_is_left_for_another() -> None:
    cluster = lagging(fulls=4, lag=120)
    cluster.cut = lambda sender, receiver, message: isinstance(message, FetchRange) and receiver == 3
    until(cluster, lambda: caught_up(cluster))
    assert entries_sent(cluster, 4, 2) >= 100
    assert "ranges_fallen_back" not in cluster.nodes[cluster.leader].fetch_counts


def test_a_fetch_goes_on_where_a_crash_of_the_member_cut_it() -> None:
    cluster = lagging(lag=200)
    cluster.cut = lambda sender, receiver, message: isinstance(message, FetchRange) and message.prev_index > 100
    until(cluster, lambda: cluster.nodes[2].last_index > 60)
    cluster.cut = lambda sender, receiver, message: False
    store = cluster.stores[2]
    had = store.last_index
    cluster.sends.clear()
    cluster.boot(2, store.base, store.log)
    cluster.step(cluster.leader, PeerConnected(NodeId(2)))
    until(cluster, lambda: caught_up(cluster))
    fetched = [s.message for s in cluster.sends if isinstance(s.message, FetchRange)]
    assert fetched
    assert min(m.prev_index for m in fetched) >= had - 8


def test_another_leader_goes_on_with_what_is_there() -> None:
    cluster = lagging(lag=200, fulls=4)
    cluster.cut = lambda sender, receiver, message: isinstance(message, FetchRange) and message.prev_index > 100
    until(cluster, lambda: cluster.nodes[2].last_index > 60)
    cluster.cut = lambda sender, receiver, message: False
    had = cluster.nodes[2].last_index
    cluster.down.add(cluster.leader)
    cluster.sends.clear()
    until(cluster, lambda: len(cluster.leaders()) == 1 and caught_up(cluster))
    sent = [s.message for s in cluster.sends if isinstance(s.message, FetchRange) and s.message.prev_index < had - 16]
    assert sent == []


def test_pieces_are_asked_of_all_sources_and_appended_in_order() -> None:
    rig = behind()
    named(rig)
    asked = [
        (s.to, s.message.prev_index, s.message.last_index) for s in rig.ready.send if isinstance(s.message, FetchRange)
    ]
    assert asked == [(3, 1, 4), (4, 4, 6), (3, 6, 9)]
    piece(rig, 4, 4, 6)
    assert rig.node.last_index == 1
    piece(rig, 3, 1, 4)
    assert rig.node.last_index == 6
    assert rig.node.commit_index == 6
    reply = rig.send_of(CatchUpReply)
    assert isinstance(reply.message, CatchUpReply)
    assert reply.message.match_index == 6
    assert reply.after == rig.seq  # A4: nothing is reported before it is durable


def test_a_piece_may_come_in_parts() -> None:
    rig = behind()
    named(rig)
    piece(rig, 3, 1, 4, count=2)
    assert rig.only(FetchRange).prev_index == 3
    piece(rig, 3, 3, 4)
    assert rig.node.last_index == 4


def test_a_piece_that_does_not_end_with_the_leaders_anchor_is_not_taken() -> None:
    """A source with another log (a disk that was swapped): its piece is had elsewhere."""
    rig = behind()
    named(rig)
    rig.receive(FetchRangeReply(header(3, 2), Index(1), Index(4), entries(2, 1, 1, 2)))
    assert rig.node.last_index == 1
    assert rig.node.refusals["range piece of another log"] == 1
    assert [(s.to, s.message.prev_index) for s in rig.ready.send if isinstance(s.message, FetchRange)] == [(4, 1)]
    assert [a.code for a in rig.ready.alarms] == ["bad_source"]


def test_a_piece_with_an_older_entry_at_its_end_is_not_taken() -> None:
    """What a deposed leader left at that index on a disk that was restored."""
    rig = behind()
    named(rig)
    rig.receive(FetchRangeReply(header(4, 2), Index(4), Index(6), entries(5, 1, 1)))
    assert rig.node.refusals["range piece of another log"] == 1
    assert [(s.to, s.message.prev_index) for s in rig.ready.send if isinstance(s.message, FetchRange)] == [(3, 4)]


def test_a_source_that_goes_on_sending_is_given_time() -> None:
    """A slow disk: each piece in time after the one before, the last one long after it was asked for."""
    rig = behind()
    named(rig, sources=(3,))
    for prev, last in ((1, 4), (4, 6), (6, 9)):
        rig.receive(append(2, 2, (1, 1)), after_ns=1900 * MILLISECOND)
        piece(rig, 3, prev, last)
    assert rig.node.last_index == 9


def test_entries_that_were_not_asked_for_are_not_taken() -> None:
    rig = behind()
    named(rig)
    piece(rig, 4, 1, 4)  # asked of 3
    piece(rig, 3, 4, 6)  # asked of 4
    piece(rig, 3, 2, 4)
    assert rig.node.last_index == 1
    assert rig.node.refusals["range piece not asked for"] == 3


def test_what_is_here_already_is_not_fetched_again() -> None:
    rig = behind(log=5)  # up to index 6, the second anchor
    named(rig)
    assert [m.prev_index for m in rig.sent(FetchRange)] == [6]
    assert rig.only(CatchUpReply).match_index == 6
    assert rig.node.commit_index == 6


def test_a_conflicting_tail_is_replaced() -> None:
    rig = Rig(start=base(configuration(), level=2), log=entries(2, 1, 1, 1, 1, 1), term=2)
    named(rig, sources=(3,))
    for prev, last in ((4, 6), (6, 9)):
        piece(rig, 3, prev, last)
    assert [e.term for e in rig.store.log] == [1, 1, 1, 2, 2, 2, 2, 2]


def test_the_members_own_promotion_and_removal_may_lie_in_a_range() -> None:
    """MR 2.3: each is in force as soon as its piece is here, and the removal is told once it is committed."""
    learning, voting, gone = (configuration((2, 3, 4), (1,)), configuration((1, 2, 3, 4)), configuration((2, 3, 4)))
    log = list(LOG)
    log[1], log[4] = config_entry(3, 1, replace(voting, epoch=2)), config_entry(6, 2, replace(gone, epoch=3))
    rig = Rig(conf=learning, start=base(learning, level=2), term=2)
    named(rig, sources=(3,))
    seen = [rig.node.role]
    for prev, last in ((1, 4), (4, 6), (6, 9)):
        rig.receive(FetchRangeReply(header(3, 2), Index(prev), Index(last), tuple(log[prev - 1 : last - 1])))
        seen.append(rig.node.role)
        if last == 6:
            assert [a.code for a in rig.ready.alarms] == ["removed"]
    assert seen == [Role.LEARNER, Role.FOLLOWER, Role.REMOVED, Role.REMOVED]


def test_a_range_that_does_not_join_is_refused_at_once() -> None:
    rig = behind()
    shifted = tuple((Index(i + 20), t) for i, t in ANCHORS)
    rig.receive(CatchUp(header(2, 2), 5, shifted, (NodeId(3),)))
    assert rig.only(CatchUpReply).reason == "the log does not join"
    assert rig.sent(FetchRange) == []


def test_when_no_source_is_left_the_leader_hears_of_it() -> None:
    rig = behind()
    named(rig)
    for source, prev, last in ((3, 1, 4), (4, 4, 6), (4, 1, 4)):
        rig.receive(FetchRangeReply(header(source, 2), Index(prev), Index(last), ()))
    for _ in range(3):
        rig.tick(2 * SECOND)
    assert rig.node.fetching_range is None


def test_the_leader_hears_at_once_that_a_piece_is_nowhere_though_a_later_one_waits_for_it() -> None:
    rig = behind()
    named(rig)
    piece(rig, 3, 6, 9)
    for source, prev, last in ((3, 1, 4), (4, 4, 6), (4, 1, 4)):
        rig.receive(FetchRangeReply(header(source, 2), Index(prev), Index(last), ()))
    assert rig.only(CatchUpReply).reason == "no source is left"
    assert rig.node.fetching_range is None


def test_a_piece_of_more_bytes_than_a_member_keeps_is_left_to_the_leader() -> None:
    rig = behind()
    named(rig, sources=(3,))
    large = tuple(make_entry(Index(i), Term(2), EntryKind.DATA, Nanos(0), b"x" * (6 << 20)) for i in (7, 8, 9))
    rig.receive(FetchRangeReply(header(3, 2), Index(6), Index(9), large[:2]))
    assert rig.only(FetchRange).prev_index == 8
    rig.receive(FetchRangeReply(header(3, 2), Index(8), Index(9), large[2:]))
    assert rig.node.refusals["range piece too large"] == 1
    for prev, last in ((1, 4), (4, 6)):
        piece(rig, 3, prev, last)
    assert [(m.match_index, m.reason) for m in rig.sent(CatchUpReply)] == [(6, ""), (6, "no source is left")]


def test_anchors_further_apart_than_a_piece_is_long_are_refused() -> None:
    rig = behind()
    far = (ANCHORS[0], (Index(1 + 4097), Term(2)))
    rig.receive(CatchUp(header(2, 2), 5, far, (NodeId(3),)))
    assert rig.node.fetching_range is None
    rig.receive(CatchUp(header(2, 2), 5, (ANCHORS[0], (Index(1 + 4096), Term(2))), (NodeId(3),)))
    assert rig.node.fetching_range == (1, 4097)


def test_a_member_stops_fetching_when_its_leader_sends_itself() -> None:
    """Or the whole range would come twice: the leader heard nothing of a fetch that goes on."""
    rig = behind()
    named(rig, epoch=5)
    for epoch, goes_on in ((4, True), (5, True), (6, False)):
        rig.receive(replace(append(2, 2, (1, 1)), stream_epoch=epoch))
        assert (rig.node.fetching_range is not None) is goes_on
    piece(rig, 3, 1, 4)
    assert rig.node.refusals["range piece that is not being fetched"] == 1


def test_another_term_ends_a_fetch() -> None:
    rig = behind()
    named(rig)
    rig.receive(append(3, 3, (1, 1)))
    piece(rig, 3, 1, 4)
    assert rig.node.fetching_range is None
    assert rig.node.last_index == 1


def test_a_source_moves_neither_term_nor_leader_contact() -> None:
    """A5: a member whose only traffic is its sources' campaigns after its election timeout all the same."""
    rig = behind()
    named(rig)
    term = rig.node.term
    for _ in range(40):
        piece(rig, 3, 1, 4, term=9)
        rig.tick(100 * MILLISECOND)
    assert rig.node.term == term
    assert rig.node.leader_id == 0


def source(commit: int) -> Rig:
    """A follower with all of LOG that knows it to be committed up to there."""
    rig = Rig(start=base(configuration(), level=2), log=LOG, term=2)
    rig.receive(append(2, 2, (9, 2), commit=commit))
    return rig


def asking(prev: tuple[int, int], last: tuple[int, int]) -> Message:
    return FetchRange(header(3, 2), Index(prev[0]), Term(prev[1]), Index(last[0]), Term(last[1]))


def test_a_source_serves_nothing_above_its_own_commit_index() -> None:
    rig = source(commit=6)
    rig.receive(asking((4, 1), (9, 2)))
    assert [e.index for e in rig.only(FetchRangeReply).entries] == [5, 6]
    rig.receive(asking((6, 2), (9, 2)))
    assert rig.only(FetchRangeReply).entries == ()


def test_a_source_serves_nothing_that_its_log_has_otherwise() -> None:
    rig = source(commit=9)
    for prev, last in (((4, 2), (6, 2)), ((4, 1), (6, 1)), ((12, 2), (14, 2)), ((0, 0), (6, 2))):
        rig.receive(asking(prev, last))
        assert rig.only(FetchRangeReply).entries == ()


def test_a_source_serves_the_state_of_its_disk_only_under_a_durable_term() -> None:
    rig = source(commit=9)
    rig.receive(append(3, 7, (9, 2)))
    rig.receive(asking((4, 1), (6, 2)))
    assert rig.send_of(FetchRangeReply).after == rig.seq


def test_the_leader_takes_no_match_beyond_what_it_named() -> None:
    cluster = lagging(lag=60)
    lead = cluster.leader
    cluster.cut = lambda sender, receiver, message: isinstance(message, FetchRange | CatchUpReply)
    until(cluster, lambda: cluster.nodes[lead].progress_view()[NodeId(2)].state is ProgressState.FETCHING)
    named_to = [s.message for s in cluster.sends if isinstance(s.message, CatchUp)][-1]
    head = replace(header(2, cluster.nodes[lead].term), receiver=NodeId(lead))
    from lockmaster_raft.events import Receive

    false = CatchUpReply(head, named_to.stream_epoch, Index(named_to.anchors[-1][0] + 1), Index(0), Index(0), 0)
    cluster.step(lead, Receive(false))
    assert cluster.nodes[lead].refusals["range reply beyond what was named"] == 1
