"""Elections at their edges: what `make mutation` showed that no test held (docs/mutation.md)."""

from __future__ import annotations

from dataclasses import replace

import pytest
from lockmaster_raft.config import MILLISECOND, SECOND
from lockmaster_raft.events import RemoveMember
from lockmaster_raft.ids import Index, Nanos, NodeId, Term
from lockmaster_raft.messages import AppendEntriesReply, PreVote, PreVoteReply, Removed, RequestVote, RequestVoteReply
from lockmaster_raft.ready import Role

from .rig import Cluster, Rig, append, base, config_entry, configuration, entries, header, member
from .shapes import join, shaped
from .test_elections import LATER, patient, pre_vote, request_vote
from .test_witness import no, witness


def test_4_2_3_a_sole_voter_is_never_sticky_for_nobody_else_can_lead() -> None:
    rig = Rig(conf=configuration((1,), (2,), full_min=1))
    rig.receive(request_vote(2, 5, (9, 4)))
    assert rig.only(RequestVoteReply).granted


def test_4_1_whoever_is_left_the_only_voter_does_not_lead_before_that_is_committed() -> None:
    """Leader 1 removes itself; 2 writes that, restarts before its ack, and may not lead while 1 holds its lease."""
    cluster = Cluster(full_min=1)
    cluster.run(SECOND)
    join(cluster, 2)
    cluster.run(2 * SECOND)
    cluster.cut = lambda sender, _, message: sender == 2 and isinstance(message, AppendEntriesReply)
    cluster.step(1, RemoveMember(1, NodeId(1), None))
    cluster.run(5 * MILLISECOND)
    cluster.cut = lambda *_: True
    cluster.restart(2)
    cluster.run(50 * MILLISECOND)
    assert cluster.nodes[2].configuration.voter_ids == (2,)
    assert cluster.nodes[1].holds_lease(Nanos(cluster.now))
    assert cluster.nodes[2].role is not Role.LEADER
    cluster.down.add(1)
    cluster.run(5 * SECOND)
    assert cluster.leader == 2


SHAPES = {
    "2 + 1": (configuration((1, 2, 3), witnesses=(3,)), 2, True),
    "2 + 1 and a full learner": (configuration((1, 2, 3), (4,), witnesses=(3,)), 2, True),
    "two full": (configuration((1, 2)), 2, True),
    "2 + 1, led by the witness": (configuration((1, 2, 3), witnesses=(3,)), 3, False),
    "3 full": (configuration((1, 2, 3)), 2, False),
    "3 + 2": (configuration((1, 2, 3, 4, 5), witnesses=(4, 5)), 2, False),
    "a swap of the other full voter": (
        replace(configuration((1, 3, 4), (2,), witnesses=(3,)), outgoing=(NodeId(1), NodeId(2), NodeId(3))),
        2,
        False,
    ),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_who_has_no_rival_but_the_leader_waits_for_the_stickiness_of_others_and_little_longer(shape: str) -> None:
    conf, leader, soon = SHAPES[shape]
    rig = Rig(conf=conf)
    waits = set()
    for number in range(200):
        rig.receive(append(leader, 1, (1, 1), request_id=number + 1), after_ns=MILLISECOND)
        waits.add(rig.ready.next_deadline - rig.now)
    first, last = (1_150, 1_400) if soon else (1_000, 2_000)
    assert len(waits) == 200
    assert first * MILLISECOND <= min(waits) < (first + 20) * MILLISECOND
    assert (last - 20) * MILLISECOND < max(waits) < last * MILLISECOND


def test_who_knows_no_leader_may_have_a_rival_in_the_last_one() -> None:
    rig = Rig(conf=configuration((1, 2, 3), witnesses=(3,)))
    rig.receive(append(2, 1, (1, 1)))
    waits = set()
    for _ in range(50):
        rig.tick(LATER)
        waits.add(rig.ready.next_deadline - rig.now)
    assert max(waits) > 1_800 * MILLISECOND


@pytest.mark.parametrize("unheard_ms", [0, 50, 95])
def test_4_2_3_at_2_plus_1_the_other_full_member_leads_in_its_first_round(unheard_ms: int) -> None:
    """Also where the witness has heard one heartbeat of the leader more than it has."""
    cluster = shaped()
    cluster.run(SECOND)
    cluster.cut = lambda sender, receiver, _: sender == 1 and receiver == 2
    cluster.run(unheard_ms * MILLISECOND)
    cluster.down.add(1)
    cluster.run(1_420 * MILLISECOND)
    assert cluster.leader == 2
    assert cluster.nodes[2].term == cluster.nodes[1].term + 1


def test_i3_a_witness_waits_no_less_than_half_an_election_timeout_for_silent_full_replicas() -> None:
    rig = witness(5)
    rig.tick(LATER)
    no(rig, 1, (2, 1), granted=True)
    no(rig, 4, (3, 1), granted=True)
    rig.tick(rig.config.election_timeout_ns // 2 - 1)
    assert rig.node.role is Role.PRE_CANDIDATE


@pytest.mark.parametrize(("last", "goes_on"), [((9, 1), False), ((3, 1), False), ((2, 1), True)])
def test_i3_a_witness_leaves_the_campaign_to_a_full_replica_that_refuses_it_and_is_not_behind(
    last: tuple[int, int], *, goes_on: bool
) -> None:
    rig = witness(5)
    rig.tick(LATER)
    no(rig, 1, last)
    assert (rig.node.role is Role.PRE_CANDIDATE) == goes_on


@pytest.mark.parametrize("message", [pre_vote(9, 1, (9, 9)), request_vote(9, 2, (9, 9))])
def test_i12_an_id_that_was_never_minted_is_not_told_that_it_was_removed(message: PreVote | RequestVote) -> None:
    rig = patient()
    rig.receive(message)
    assert rig.sent(Removed) == []


def test_i12_a_member_of_an_uncommitted_configuration_is_answered() -> None:
    known = replace(configuration(), next_member_id=NodeId(5))
    rig = Rig(start=base(known), log=[config_entry(2, 1, known.with_member(member(4)))])
    rig.tick(LATER)
    rig.receive(pre_vote(4, 1, (9, 1)))
    assert rig.sent(Removed) == []
    assert rig.only(PreVoteReply).granted


def test_9_6_a_pre_vote_for_the_term_that_we_are_in_comes_too_late() -> None:
    rig = Rig(log=entries(2, 1, 1), term=3)
    rig.tick(LATER)
    rig.receive(pre_vote(2, 2, (9, 2)))
    assert rig.only(PreVoteReply).reason == "term"


def test_9_6_a_pre_vote_reply_for_another_term_counts_nothing() -> None:
    rig = patient()
    ask = rig.sent(PreVote)[0]
    rig.receive(PreVoteReply(header(2, 1), Term(ask.next_term + 1), ask.round_id, True, "", Index(3), Term(1)))
    assert rig.node.role is Role.PRE_CANDIDATE


def test_3_4_a_candidate_asked_in_its_own_term_stays_one() -> None:
    """Whatever the term: numbers above 256 are equal without being identical."""
    rig = Rig(log=entries(2, 1, 1), term=999)
    rig.tick(LATER)
    ask = rig.sent(PreVote)[0]
    rig.receive(PreVoteReply(header(2, 999), Term(ask.next_term), ask.round_id, True, "", Index(3), Term(1)))
    rig.tick(rig.config.election_timeout_ns // 2)
    assert rig.node.role is Role.CANDIDATE
    rig.receive(request_vote(3, int("1000"), (3, 1)))
    assert rig.only(RequestVoteReply).reason in ("voted", "sticky")
    assert rig.node.role is Role.CANDIDATE


@pytest.mark.parametrize(("reason", "role"), [("sticky", Role.FOLLOWER), ("log", Role.CANDIDATE)])
def test_4_2_3_a_sticky_voter_s_refusal_in_its_own_older_term_counts(reason: str, role: Role) -> None:
    rig = patient()
    ask = rig.sent(PreVote)[0]
    rig.receive(PreVoteReply(header(2, 1), ask.next_term, ask.round_id, True, "", Index(3), Term(1)))
    rig.synced()
    assert rig.node.role is Role.CANDIDATE
    for voter in (2, 3):
        rig.receive(RequestVoteReply(header(voter, 1), False, reason, Index(3), Term(1)))
    assert rig.node.role is role


def test_3_4_a_first_refusal_is_no_vote() -> None:
    rig = patient()
    ask = rig.sent(PreVote)[0]
    rig.receive(PreVoteReply(header(2, 1), ask.next_term, ask.round_id, True, "", Index(3), Term(1)))
    rig.synced()
    rig.receive(RequestVoteReply(header(2, 2), False, "voted", Index(3), Term(1)))
    assert rig.node.role is Role.CANDIDATE


@pytest.mark.parametrize(("epoch", "removed"), [(1, False), (2, True)])
def test_a_removal_that_our_committed_configuration_is_past_is_void(epoch: int, *, removed: bool) -> None:
    rig = patient()
    rig.receive(Removed(header(2, 1), epoch))
    assert (rig.node.role is Role.REMOVED) == removed
