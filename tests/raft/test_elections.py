"""Elections: §3.4, §3.6.1, §4.2.3, §6.2, §9.6 and rows 2-20 of the bug list."""

from __future__ import annotations

from dataclasses import replace

import pytest
from lockmaster_raft.config import MILLISECOND, SECOND
from lockmaster_raft.events import Event, Persisted, Propose, Receive, RequestRead
from lockmaster_raft.ids import Index, NodeId, PersistSeq, Term
from lockmaster_raft.messages import (
    AppendEntries,
    AppendEntriesReply,
    PreVote,
    PreVoteReply,
    Removed,
    RequestVote,
    RequestVoteReply,
    TimeoutNow,
)
from lockmaster_raft.ready import HardState, ReadReady, Refused, Role

from .rig import Cluster, Rig, append, configuration, entries, header

LATER = 5 * SECOND


def request_vote(sender: int, term: int, last: tuple[int, int], *, transfer: bool = False) -> RequestVote:
    return RequestVote(header(sender, term), Index(last[0]), Term(last[1]), transfer)


def pre_vote(sender: int, term: int, last: tuple[int, int]) -> PreVote:
    return PreVote(header(sender, term), Term(term + 1), Index(last[0]), Term(last[1]), 9)


def patient() -> Rig:
    """A follower long after its boot whose own election timeout is not yet due again."""
    rig = Rig(log=entries(2, 1, 1), term=1)
    rig.tick(LATER)  # starts a pre-vote, which changes no term
    return rig


def elect(rig: Rig) -> None:
    """Make node 1 the leader of its next term by the votes of node 2."""
    rig.tick(LATER)
    ask = rig.sent(PreVote)[0]
    rig.receive(
        PreVoteReply(header(2, rig.node.term), ask.next_term, ask.round_id, True, "", ask.last_index, ask.last_term)
    )
    rig.synced()
    rig.receive(RequestVoteReply(header(2, rig.node.term), True, "", Index(1), Term(1)))


def test_3_4_a_vote_is_durable_before_it_is_told() -> None:
    rig = patient()
    ready = rig.receive(request_vote(2, 2, (3, 1)))
    assert ready.persist is not None
    assert ready.persist.hard_state == HardState(Term(2), NodeId(2))
    send = rig.send_of(RequestVoteReply)
    assert rig.only(RequestVoteReply).granted
    assert send.after == ready.persist.seq


def test_3_4_one_vote_per_term() -> None:
    rig = patient()
    rig.receive(request_vote(2, 2, (3, 1)))
    rig.receive(request_vote(3, 2, (3, 1)))
    assert not rig.only(RequestVoteReply).granted
    rig.receive(request_vote(2, 2, (3, 1)))
    assert rig.only(RequestVoteReply).granted  # the same candidate asks again


def test_3_4_a_vote_survives_a_restart() -> None:
    rig = Rig(log=entries(2, 1), term=2, voted_for=2)
    rig.tick(LATER)
    rig.receive(request_vote(3, 2, (3, 1)))
    assert not rig.only(RequestVoteReply).granted


def test_3_6_1_rejects_vote_for_a_shorter_log() -> None:
    rig = patient()
    rig.receive(request_vote(2, 2, (2, 1)))
    assert not rig.only(RequestVoteReply).granted
    assert rig.only(RequestVoteReply).reason == "log"


def test_3_6_1_rejects_vote_for_an_older_last_term_however_long() -> None:
    rig = Rig(log=entries(2, 1, 2), term=2)
    rig.tick(LATER)
    rig.receive(request_vote(2, 3, (100, 1)))
    assert not rig.only(RequestVoteReply).granted


def test_9_6_pre_vote_changes_nothing() -> None:
    rig = patient()
    ready = rig.receive(pre_vote(2, 7, (3, 1)))
    assert rig.only(PreVoteReply).granted
    assert ready.persist is None
    assert rig.node.term == 1


def test_9_6_pre_vote_checks_the_log() -> None:
    rig = patient()
    rig.receive(pre_vote(2, 7, (2, 1)))
    assert not rig.only(PreVoteReply).granted


def test_9_6_a_pre_vote_at_a_lower_term_is_answered_with_our_term() -> None:
    """Row 14: else the node with the smaller term asks in vain for ever."""
    rig = Rig(log=entries(2, 1), term=5)
    rig.tick(LATER)
    rig.receive(pre_vote(2, 1, (9, 1)))
    reply = rig.only(PreVoteReply)
    assert not reply.granted
    assert reply.header.term == 5


def test_4_2_3_sticky_to_a_live_leader() -> None:
    rig = Rig(term=1)
    rig.receive(append(2, 1, (1, 1)))
    rig.receive(request_vote(3, 9, (9, 9)), after_ns=rig.config.election_timeout_ns - 1)
    assert rig.only(RequestVoteReply).reason == "sticky"
    assert rig.node.term == 1


def test_4_2_3_sticky_after_a_restart() -> None:
    rig = Rig(term=1)
    rig.receive(request_vote(3, 9, (9, 9)), after_ns=MILLISECOND)
    assert rig.only(RequestVoteReply).reason == "sticky"


def test_5_1_a_vote_request_of_an_older_term_is_refused_and_moves_no_term() -> None:
    """Rows 4 and 8."""
    rig = Rig(log=entries(2, 1), term=5)
    rig.tick(LATER)
    rig.receive(request_vote(2, 4, (9, 4)))
    assert not rig.only(RequestVoteReply).granted
    assert rig.only(RequestVoteReply).reason == "term"
    assert rig.node.term == 5


def test_4_2_3_a_transfer_overrides_stickiness() -> None:
    rig = Rig(term=1)
    rig.receive(append(2, 1, (1, 1)))
    rig.receive(request_vote(3, 2, (9, 1), transfer=True))
    assert rig.only(RequestVoteReply).granted


def test_election_needs_a_pre_vote_quorum_first() -> None:
    rig = Rig()
    ready = rig.tick(LATER)
    assert rig.node.role is Role.PRE_CANDIDATE
    assert ready.persist is None
    assert {m.header.receiver for m in rig.sent(PreVote)} == {2, 3}


def test_own_vote_is_one_write_with_the_term_and_requests_wait_for_it() -> None:
    rig = Rig()
    rig.tick(LATER)
    ask = rig.sent(PreVote)[0]
    ready = rig.receive(PreVoteReply(header(2, 1), Term(2), ask.round_id, True, "", Index(1), Term(1)))
    assert rig.node.role is Role.CANDIDATE
    assert ready.persist is not None
    assert ready.persist.hard_state == HardState(Term(2), NodeId(1))
    assert all(s.after == ready.persist.seq for s in ready.send)


def test_a_duplicate_vote_counts_once() -> None:
    """Row 7."""
    rig = Rig(conf=configuration((1, 2, 3, 4, 5)))
    rig.tick(LATER)
    ask = rig.sent(PreVote)[0]
    reply = PreVoteReply(header(2, 1), Term(2), ask.round_id, True, "", Index(1), Term(1))
    rig.receive(reply)
    rig.receive(reply)
    assert rig.node.role is Role.PRE_CANDIDATE


def campaigning(count: int) -> Rig:
    """A candidate of term 2 in a group of so many, its own vote durable."""
    rig = Rig(conf=configuration(tuple(range(1, count + 1))))
    rig.tick(LATER)
    ask = rig.sent(PreVote)[0]
    for voter in range(2, count // 2 + 2):
        rig.receive(PreVoteReply(header(voter, 1), Term(2), ask.round_id, True, "", Index(1), Term(1)))
    rig.synced()
    assert rig.node.role is Role.CANDIDATE
    return rig


def test_a_duplicate_of_a_vote_counts_once_too() -> None:
    """Row 7."""
    rig, roles = campaigning(5), []
    for voter in (2, 2, 3):
        rig.receive(RequestVoteReply(header(voter, 2), True, "", Index(1), Term(1)))
        roles.append(rig.node.role)
    assert roles == [Role.CANDIDATE, Role.CANDIDATE, Role.LEADER]


def test_9_6_a_candidate_that_hears_nothing_asks_before_it_campaigns_again() -> None:
    """D15: else a candidate that is cut off raises its term with every timeout."""
    rig = campaigning(5)
    for _ in range(5):
        rig.tick(LATER)
    assert rig.node.role is Role.PRE_CANDIDATE
    assert rig.node.term == 2


def test_a_pre_vote_reply_of_an_older_round_counts_nothing() -> None:
    rig = Rig()
    rig.tick(LATER)
    ask = rig.sent(PreVote)[0]
    rig.tick(LATER)
    rig.receive(PreVoteReply(header(2, 1), Term(2), ask.round_id, True, "", Index(1), Term(1)))
    assert rig.node.role is Role.PRE_CANDIDATE


def test_timeouts_are_drawn_anew() -> None:
    """Row 18: a fixed jitter splits votes for ever."""
    rig = Rig()
    waits = set()
    for _ in range(6):
        rig.tick(LATER)
        waits.add(rig.ready.next_deadline - rig.now)
    assert len(waits) == 6
    assert all(SECOND <= w < 2 * SECOND for w in waits)


def test_a_same_term_step_down_keeps_the_vote() -> None:
    """Row 3."""
    rig = Rig()
    elect(rig)
    assert rig.node.role is Role.LEADER
    rig.tick(20 * SECOND)
    assert rig.node.role is not Role.LEADER
    assert rig.node.term == 2
    assert rig.node.voted_for == 1


def led() -> tuple[Rig, AppendEntriesReply]:
    """A leader whose NOOP is on its way, and node 2's answer: with its own sync, in any order, it commits."""
    rig = Rig()
    elect(rig)
    assert rig.node.role is Role.LEADER
    (ask,) = (m for m in rig.sent(AppendEntries) if m.header.receiver == 2)
    last = rig.node.last_index
    where = (ask.stream_epoch, ask.request_id, True, last, last, Index(1), Index(2), Index(1), Term(0), Index(0), 0)
    return rig, AppendEntriesReply(header(2, 2), *where)


def test_3_5_the_own_sync_and_one_answer_commit() -> None:
    rig, answer = led()
    rig.synced()
    rig.receive(answer)
    assert rig.node.commit_index == rig.node.last_index == 2


@pytest.mark.parametrize("kind", ["answer", "sync", "expiry", "read"])
def test_a_leader_paused_for_20_s_stops_leading_before_anything_else(kind: str) -> None:
    """raft.md §1: whatever event it finds first when it goes on, it finds it as a follower."""
    rig, answer = led()
    if kind != "sync":
        rig.synced()
    if kind != "answer":
        rig.receive(answer)
    before = rig.node.commit_index
    first: dict[str, Event] = {
        "answer": Receive(answer),
        "sync": Persisted(PersistSeq(rig.seq)),
        "expiry": Propose(7, b"an Expire", reserved=True),
        "read": RequestRead(8),
    }
    ready = rig.step(first[kind], after_ns=20 * SECOND)
    assert rig.node.role is not Role.LEADER
    assert [a.code for a in ready.alarms] == ["quorum_lost"]
    assert (rig.node.commit_index, rig.node.last_index) == (before, 2)
    assert ready.persist is None
    assert [type(outcome) for outcome in ready.proposals] == ([Refused] if kind == "expiry" else [])
    assert list(ready.reads) == ([ReadReady(8, None)] if kind == "read" else [])


def test_6_2_check_quorum_counts_no_learner() -> None:
    """D1 of MicroRaft."""
    cluster = Cluster(blank=True)
    conf = configuration((1, 2, 3), (4,))
    *voters, learner = conf.members
    conf = replace(conf, members=(*voters, replace(learner, promote_when_caught_up=False)))
    for number in (1, 2, 3, 4):
        cluster.boot(number, Rig(conf=conf).store.base)
    cluster.run(5 * SECOND)
    leader = cluster.leader
    assert cluster.nodes[leader].configuration.voter_ids == (1, 2, 3)
    others = {n for n in (1, 2, 3) if n != leader}
    cluster.down |= others
    cluster.run(2 * SECOND)
    assert cluster.nodes[leader].role is not Role.LEADER


def test_a_learner_never_campaigns() -> None:
    rig = Rig(conf=configuration((2, 3), (1,)))
    ready = rig.tick(60 * SECOND)
    assert rig.node.role is Role.LEARNER
    assert ready.send == ()


def test_a_learner_that_has_not_seen_its_promotion_votes() -> None:
    """Row 20."""
    rig = Rig(conf=configuration((2, 3), (1,)))
    rig.tick(LATER)
    rig.receive(request_vote(2, 2, (1, 1)))
    assert rig.only(RequestVoteReply).granted


def test_a_blank_member_never_elects_itself() -> None:
    cluster = Cluster(blank=True)
    cluster.boot(2)
    cluster.run(60 * SECOND)
    assert cluster.sends == []


def test_timeout_now_counts_only_from_the_own_leader() -> None:
    rig = Rig(term=2)
    rig.receive(append(2, 2, (1, 1)))
    rig.receive(TimeoutNow(header(2, 2)))
    assert rig.node.role is Role.CANDIDATE
    assert all(m.transfer for m in rig.sent(RequestVote))


def test_a_removed_member_is_told() -> None:
    conf = configuration((1, 2, 3))
    gone = conf.without_member(NodeId(3))
    rig = Rig(conf=gone)
    rig.receive(pre_vote(3, 1, (9, 1)))
    assert rig.only(Removed).configuration_epoch == gone.epoch


def test_a_member_told_of_its_removal_stops_campaigning() -> None:
    rig = Rig()
    rig.receive(Removed(header(2, 1), 2))
    assert rig.node.role is Role.REMOVED
    assert rig.tick(60 * SECOND).send == ()


def test_single_voter_leads_only_once_its_vote_is_durable() -> None:
    """Row 32."""
    rig = Rig(conf=configuration((1,), full_min=1))
    assert rig.ready.persist is not None
    ready = rig.synced()
    assert ready.role_changed is not None
    assert ready.role_changed.role is Role.LEADER
    assert rig.node.commit_index == 1
    rig.synced()
    assert rig.node.commit_index == 2


@pytest.mark.parametrize("round_trip_ms", [1, 250, 400, 700])
def test_a_cluster_forms_and_commits_over_long_round_trips(round_trip_ms: int) -> None:
    """With the default timeouts: by the age of what was answered every answer looked like the end of a silence."""
    cluster = Cluster(blank=True)
    cluster.delay_ns = round_trip_ms * MILLISECOND // 2
    for number in (1, 2, 3):
        cluster.boot(number, Rig().store.base)
    cluster.run(20 * SECOND)
    lead = cluster.leader
    term, last = cluster.nodes[lead].term, cluster.nodes[lead].last_index
    for _ in range(5):
        cluster.step(lead, Propose(1, b"x"))
        cluster.run(2 * round_trip_ms * MILLISECOND)
    cluster.run(SECOND)
    assert all(node.commit_index == last + 5 for node in cluster.nodes.values())
    cluster.run(20 * SECOND)
    assert (cluster.leader, cluster.nodes[lead].term) == (lead, term)


def test_three_nodes_elect_one_leader_and_a_second_after_its_death() -> None:
    cluster = Cluster(blank=True)
    for number in (1, 2, 3):
        cluster.boot(number, Rig().store.base)
    cluster.run(4 * SECOND)
    first = cluster.leader
    cluster.down.add(first)
    cluster.run(4 * SECOND)
    assert cluster.leader != first
