"""Issue 4, Bad input: a member proves no more than it was sent or offered, and nobody answers for another."""

from __future__ import annotations

from dataclasses import replace

import pytest
from lockmaster_raft.config import RaftConfig
from lockmaster_raft.events import PeerDisconnected, Propose, Receive, RequestRead
from lockmaster_raft.ids import INDEX_MAX, Index, NodeId, Term
from lockmaster_raft.messages import (
    AppendEntries,
    AppendEntriesReply,
    CatchUp,
    CatchUpReply,
    Coverage,
    FetchRange,
    Header,
    InstallSnapshotReply,
    Message,
    ReadIndex,
    ReadIndexReply,
    Retain,
)
from lockmaster_raft.progress import ProgressState
from lockmaster_raft.ready import ReadReady

from .rig import CLUSTER, Cluster, Rig, append, header
from .shapes import until
from .test_bad_messages import follower, refused, witness
from .test_log_replication import ack, leading, to
from .test_range_fetch import lagging
from .test_snapshot_sources import leading_with_nobody_caught_up

BEYOND = "append reply beyond what was sent"


# --- what a member was sent -----------------------------------------------------------------------------------------


def one_at_a_time() -> tuple[Rig, AppendEntries]:
    """A leader with entries 3 to 5, of which member 2 was sent the first; all are durable here."""
    rig = leading(RaftConfig(inflight_requests_max=1))
    rig.step(Propose(1, b"x"))
    (sent,) = to(rig, 2)
    rig.step(Propose(2, b"x"))
    rig.step(Propose(3, b"x"))
    rig.synced()
    assert [e.index for e in sent.entries] == [3]
    return rig, sent


@pytest.mark.parametrize("match", [4, 5])
def test_a_match_above_what_was_sent_is_refused(match: int) -> None:
    """It would commit entries that this member has never seen (I5)."""
    rig, sent = one_at_a_time()
    false = replace(ack(2, 2, sent), match_index=Index(match), last_index=Index(match))
    refused(rig, false, BEYOND)
    rig.receive(ack(2, 2, sent))
    assert rig.node.commit_index == 3


def test_a_member_may_hold_more_than_it_was_sent_and_says_so() -> None:
    """A tail from before its restart, or what others gave it: its match is the request's all the same."""
    rig, sent = one_at_a_time()
    rig.receive(replace(ack(2, 2, sent), last_index=Index(9)))
    assert rig.node.commit_index == 3
    assert rig.node.refusals == {}


def test_a_repeated_answer_proves_nothing_new() -> None:
    rig, sent = one_at_a_time()
    rig.receive(ack(2, 2, sent))
    rig.receive(ack(2, 2, sent))
    assert rig.node.refusals == {}
    refused(rig, replace(ack(2, 2, sent), match_index=Index(4), last_index=Index(4)), BEYOND)


def test_answers_in_any_order_are_taken() -> None:
    rig = leading()
    sent = []
    for number in range(3):
        rig.step(Propose(number, b"x"))
        sent += to(rig, 2)
    rig.synced()
    for at in (1, 0, 2):
        rig.receive(ack(2, 2, sent[at]))
    assert rig.node.commit_index == 5
    assert rig.node.refusals == {}


def mismatch(sent: AppendEntries, **numbers: int) -> AppendEntriesReply:
    told = {"last_index": 2, "commit": 1, "log_first": 2, "applied": 1, "conflict_term": 1, "conflict_first_index": 2}
    last, commit, first, applied, term, start = (told | numbers).values()
    where = (Index(last), Index(commit), Index(first), Index(applied), Term(term), Index(start))
    return AppendEntriesReply(header(2, 2), sent.stream_epoch, sent.request_id, False, Index(0), *where, 0)


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        ({"last_index": INDEX_MAX, "commit": INDEX_MAX, "applied": INDEX_MAX}, BEYOND),
        ({"last_index": 9, "commit": 6}, BEYOND),
        ({"conflict_term": 3}, "number out of range"),
        ({"conflict_first_index": 3}, "number out of range"),
        ({"log_first": 3}, "number out of range"),
    ],
)
def test_a_mismatch_with_impossible_numbers_moves_nothing(told: dict[str, int], reason: str) -> None:
    rig, sent = one_at_a_time()
    refused(rig, mismatch(sent, **told), reason)
    assert to(rig, 2) == []
    rig.receive(mismatch(sent))
    assert [m.prev_index for m in to(rig, 2)] == [2]


def test_nothing_that_a_leader_sent_is_on_its_way_to_a_member_that_fetches_a_range() -> None:
    cluster, named = naming()
    numbers = (Index(1), Index(1), Index(1), Index(1), Index(1), Term(0), Index(0), 0)
    says(cluster, AppendEntriesReply(header(2, 2), named.stream_epoch, 1, True, *numbers))
    assert cluster.nodes[1].refusals["append reply of another stream"] == 1


# --- what a member was offered --------------------------------------------------------------------------------------


def test_a_late_answer_to_an_offer_from_before_a_broken_connection_counts() -> None:
    """What is offered is forgotten with the connection, so that it is offered again; that it was offered is not."""
    rig, offered = leading_with_nobody_caught_up(6)
    rig.step(PeerDisconnected(NodeId(2)))
    rig.receive(InstallSnapshotReply(header(2, 2), offered.stream_epoch, Index(6), True, 12, Index(6)))
    assert rig.only(AppendEntries).prev_index == 6


def test_a_snapshot_that_was_not_offered_is_not_believed_though_it_is_committed() -> None:
    rig, offered = leading_with_nobody_caught_up(6)
    rig.receive(InstallSnapshotReply(header(2, 2), offered.stream_epoch, Index(6), True, 12, Index(6)))
    for _ in range(2):
        rig.receive(ack(2, 2, rig.only(AppendEntries)))
    commit = rig.node.commit_index
    rig.node._core.progress[NodeId(2)].state = ProgressState.CATCHUP
    epoch = rig.node._core.progress[NodeId(2)].epoch
    false = InstallSnapshotReply(header(2, 2), epoch, commit, True, 12, commit)
    refused(rig, false, "snapshot reply beyond what was offered")


# --- what a member says of a range ----------------------------------------------------------------------------------


def naming() -> tuple[Cluster, CatchUp]:
    """A leader (1) that has named a range to member 2, and what it named."""
    cluster = lagging()
    assert cluster.leader == 1
    cluster.cut = lambda sender, receiver, message: isinstance(message, FetchRange | CatchUpReply)
    until(cluster, lambda: cluster.nodes[1].progress_view()[NodeId(2)].state is ProgressState.FETCHING)
    return cluster, [s.message for s in cluster.sends if isinstance(s.message, CatchUp)][-1]


def says(cluster: Cluster, message: Message) -> None:
    """Member 2 says it to the leader, in its term."""
    head = Header(CLUSTER, NodeId(2), NodeId(1), cluster.nodes[1].term, 1, 2)
    cluster.step(1, Receive(replace(message, header=head)))


@pytest.mark.parametrize(("applied", "log_first"), [(INDEX_MAX, 1), (0, INDEX_MAX), (1, 0), (0, 2)])
def test_what_a_fetching_member_says_of_itself_is_within_the_leader_s_log(applied: int, log_first: int) -> None:
    """`applied` decides over demotions, `log_first` over where logs may start (I6). The last two are one too many."""
    cluster, named = naming()
    last = cluster.nodes[1].last_index
    if applied < 2 and log_first < 3:
        applied, log_first = applied * (last + 1), log_first and last + log_first
    match = named.anchors[0][0]
    says(cluster, CatchUpReply(header(2, 2), named.stream_epoch, match, Index(applied), Index(log_first), 0))
    assert cluster.nodes[1].refusals["range reply beyond the leader's log"] == 1
    view = cluster.nodes[1].progress_view()[NodeId(2)]
    assert max(view.applied, view.log_first) <= last


def test_a_fetching_member_may_hold_all_that_the_leader_has() -> None:
    cluster, named = naming()
    last = cluster.nodes[1].last_index
    reply = CatchUpReply(header(2, 2), named.stream_epoch, named.anchors[0][0], last, Index(last + 1), 0)
    says(cluster, reply)
    assert cluster.nodes[1].progress_view()[NodeId(2)].applied == last


# --- what a leader names --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "message",
    [
        Coverage(header(2, 2), Index(INDEX_MAX)),
        Retain(header(2, 2), Index(INDEX_MAX), Index(0)),
        Retain(header(2, 2), Index(0), Index(INDEX_MAX)),
    ],
)
def test_an_index_from_the_far_future_is_refused(message: Message) -> None:
    rig = witness()
    rig.receive(append(2, 2, (3, 1)))
    refused(rig, message, "index from the far future")
    assert rig.node.covered == 0


# --- reads ----------------------------------------------------------------------------------------------------------


def asking() -> tuple[Rig, ReadIndex]:
    """A follower of 2 in term 2 that has asked it for a read index."""
    rig = follower()
    rig.receive(append(2, 2, (3, 1)))
    rig.step(RequestRead(5))
    return rig, rig.only(ReadIndex)


@pytest.mark.parametrize(
    ("sender", "term", "index", "reason"),
    [
        (3, 2, 3, "read index of a member that was not asked"),
        (55, 1, 3, "read index of a member that was not asked"),
        (2, 1, 3, "read index of a member that was not asked"),
        (2, 2, 0, "number out of range"),
        (2, 2, INDEX_MAX, "index from the far future"),
    ],
)
def test_a_read_is_released_by_nobody_but_who_was_asked(sender: int, term: int, index: int, reason: str) -> None:
    """An answer with an early index is a stale read; one from an early term may know none of what was written since."""
    rig, ask = asking()
    refused(rig, ReadIndexReply(header(sender, term), ask.read_id, True, Index(index)), reason)
    assert not rig.ready.reads
    assert rig.receive(ReadIndexReply(header(2, 2), ask.read_id, True, Index(3))).reads == (ReadReady(5, Index(3)),)


def test_the_leader_that_was_asked_may_have_been_elected_again_meanwhile() -> None:
    rig, ask = asking()
    rig.receive(ReadIndexReply(header(2, 4), ask.read_id, True, Index(4)))
    assert rig.ready.reads == (ReadReady(5, Index(4)),)


def test_a_refusal_comes_from_who_was_asked_in_any_term() -> None:
    """Deposed meanwhile, it says so at once in its later term."""
    rig, ask = asking()
    rig.receive(ReadIndexReply(header(2, 3), ask.read_id, False, Index(0)))
    assert rig.ready.reads == (ReadReady(5, None),)


# --- levels ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("levels", [(2, 1), (0, 1), (-5, 2**70), (1, 2**16)])
def test_levels_that_no_binary_has_are_refused(levels: tuple[int, int]) -> None:
    """What a member reports of them decides over gates (raft.md §6)."""
    told = replace(append(2, 2, (3, 1)), header=Header(CLUSTER, NodeId(2), NodeId(1), Term(2), *levels))
    refused(follower(), told, "level out of range")
