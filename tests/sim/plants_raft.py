"""Planted violations of the rules I1 to I14 (raft.md) and of those that a bug of the field gave."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

from lockmaster_raft.gates import Gate, GateOperation, encode_gate
from lockmaster_raft.ids import Index, NodeId, Term
from lockmaster_raft.membership import LEVEL_MAX, Levels, MemberPhase
from lockmaster_raft.messages import (
    AppendEntriesReply,
    CatchUp,
    CatchUpReply,
    Coverage,
    FetchRangeReply,
    InstallSnapshot,
    PreVote,
    PreVoteReply,
    ReadIndexReply,
    RequestVote,
    RequestVoteReply,
)
from lockmaster_raft.ready import FOLLOWER, Alarm, Appended, InstallPieces, ReadReady
from lockmaster_raft.testing.application import Outcome
from lockmaster_raft.testing.gate_churn import GATE_SEEDS_FROM
from lockmaster_raft.testing.invariants.check_quorum_first import CheckQuorumFirst
from lockmaster_raft.testing.invariants.i1_election_safety import ElectionSafety
from lockmaster_raft.testing.invariants.i1_leader_completeness import LeaderCompleteness
from lockmaster_raft.testing.invariants.i1_log_matching import LogMatching
from lockmaster_raft.testing.invariants.i1_state_machine_safety import StateMachineSafety
from lockmaster_raft.testing.invariants.i2_votes import Votes
from lockmaster_raft.testing.invariants.i3_witness_votes import WitnessVotes
from lockmaster_raft.testing.invariants.i4_caretaker import Caretaker
from lockmaster_raft.testing.invariants.i5_commit_quorum import CommitQuorum
from lockmaster_raft.testing.invariants.i6_base import BaseIsCommitted
from lockmaster_raft.testing.invariants.i6_coverage import WitnessCoverage
from lockmaster_raft.testing.invariants.i7_fresh_witness import FreshWitness
from lockmaster_raft.testing.invariants.i8_two_full import TwoFull
from lockmaster_raft.testing.invariants.i9_privileges import Privileges
from lockmaster_raft.testing.invariants.i10_one_change import OneChange
from lockmaster_raft.testing.invariants.i11_quorums import Quorums
from lockmaster_raft.testing.invariants.i12_incarnations import Incarnations
from lockmaster_raft.testing.invariants.i13_gates import Gates
from lockmaster_raft.testing.invariants.i13_level import WitnessLevel
from lockmaster_raft.testing.invariants.i14_state_hash import EqualStates
from lockmaster_raft.testing.invariants.newer_snapshot import NewerSnapshot
from lockmaster_raft.testing.invariants.range_sources import RangeSources

from .plants import (
    GATE,
    NOOP,
    TERM,
    THREE,
    TWO_AND_WITNESS,
    World,
    base,
    change,
    disk,
    entry,
    group,
    header,
    member,
    node,
    plant,
    send,
    witness,
    write,
)

CARETAKER = node(3, TWO_AND_WITNESS)


def named_snapshot(index: int) -> InstallSnapshot:
    place = (THREE, Index(1), Levels(LEVEL_MAX, LEVEL_MAX))
    return InstallSnapshot(header(), 1, Index(index), Term(2), *place, (), 0, ())


def voted(sender: int, index: int, term: int, granted: bool = True) -> RequestVoteReply:
    return RequestVoteReply(header(sender), granted, "", Index(index), Term(term))


# --- I1: Raft itself ------------------------------------------------------------------------------------------------


@plant(ElectionSafety)
def i1_two_hosts_lead_one_term(w: World, rule: ElectionSafety) -> None:
    rule.led(w.host(1), node(1))
    rule.led(w.host(2), node(2))


@plant(ElectionSafety)
def i1_a_host_leads_its_term_again_after_a_restart(w: World, rule: ElectionSafety) -> None:
    rule.led(w.host(1), node(1))
    rule.led(w.host(1), node(1))


@plant(LeaderCompleteness)
def i1_a_later_leader_lacks_what_was_committed(w: World, rule: LeaderCompleteness) -> None:
    one, two = w.host(1), w.host(2)
    w.committed(4, 4)
    w.log(one, entry(2, 4), entry(3, 4))
    w.log(two, entry(2, 4))
    rule.commits(one, node(1, term=4), 1, 3)
    rule.led(two, node(2))


@plant(LogMatching)
def i1_committed_entries_are_truncated(w: World, rule: LogMatching) -> None:
    host = w.host()
    w.log(host, entry(2), entry(3))
    w.checker.commit_before[1] = 3
    w.step(rule, host, node(), persist=write(truncate=3))


@plant(LogMatching)
def i1_another_entry_of_the_same_term_at_an_index(w: World, rule: LogMatching) -> None:
    for number, payload in ((1, b"a"), (2, b"b")):
        host, what = w.host(number), entry(2, payload=payload)
        w.log(host, what)
        w.step(rule, host, node(number), persist=write(what))


@plant(LogMatching)
def i1_the_same_entry_after_another_log(w: World, rule: LogMatching) -> None:
    for number, term in ((1, 3), (2, 4)):
        host = w.host(number)
        w.log(host, entry(2, term), entry(3))
        w.step(rule, host, node(number), persist=write(entry(3)))


@plant(StateMachineSafety)
def i1_another_entry_is_applied(w: World, rule: StateMachineSafety) -> None:
    w.committed(4)
    for number, payload in ((1, b"a"), (2, b"b")):
        rule.applied(w.host(number), entry(2, payload=payload), Outcome())


@plant(StateMachineSafety)
def i1_an_entry_is_applied_before_it_is_committed(w: World, rule: StateMachineSafety) -> None:
    w.committed(4)
    rule.applied(w.host(), entry(3), Outcome())


# --- I2 to I5: votes, caretakers, commits ---------------------------------------------------------------------------


@plant(Votes)
def i2_a_vote_for_a_shorter_log(w: World, rule: Votes) -> None:
    rule.transmitting(w.host(2), node(2), send(RequestVote(header(2, 1), Index(7), Term(4)), 1))
    rule.transmitting(w.host(1), node(1), send(voted(1, 8, 4), 2))


@plant(Votes)
def i2_a_vote_that_nobody_asked_for(w: World, rule: Votes) -> None:
    rule.transmitting(w.host(1), node(1), send(voted(1, 8, 4), 2))


@plant(WitnessVotes)
def i3_a_full_replica_votes_for_a_witness_as_new_as_itself(w: World, rule: WitnessVotes) -> None:
    asked = RequestVote(header(3, 1), Index(8), Term(4))
    rule.transmitting(w.host(3), node(3, TWO_AND_WITNESS), send(asked, 1))
    rule.transmitting(w.host(1), node(1, TWO_AND_WITNESS), send(voted(1, 8, 4), 3))


@plant(WitnessVotes)
def i3_the_same_before_the_vote(w: World, rule: WitnessVotes) -> None:
    asked = PreVote(header(3, 1), Term(6), Index(8), Term(4), 1)
    told = PreVoteReply(header(1, 3), Term(6), 1, True, "", Index(8), Term(4))
    rule.transmitting(w.host(3), node(3, TWO_AND_WITNESS), send(asked, 1))
    rule.transmitting(w.host(1), node(1, TWO_AND_WITNESS), send(told, 3))


@plant(WitnessVotes)
def i3_a_witness_campaigns_on_a_transfer(w: World, rule: WitnessVotes) -> None:
    asked = RequestVote(header(3, 1), Index(8), Term(4), True)
    rule.transmitting(w.host(3), node(3, TWO_AND_WITNESS), send(asked, 1))


@plant(Caretaker)
def i4_a_caretaker_appends_data(w: World, rule: Caretaker) -> None:
    w.step(rule, w.host(3), CARETAKER, persist=write(entry(2, kind=NOOP), entry(3)))


@plant(Caretaker)
def i4_a_caretaker_moves_its_logs_start(w: World, rule: Caretaker) -> None:
    w.step(rule, w.host(3), CARETAKER, persist=write(start=base(4)))


@plant(Caretaker)
def i4_a_caretaker_serves_a_read(w: World, rule: Caretaker) -> None:
    w.seldom(rule, w.host(3), CARETAKER, reads=(ReadReady(1, Index(2)),))


@plant(Caretaker)
def i4_a_caretaker_answers_a_forwarded_read(w: World, rule: Caretaker) -> None:
    rule.transmitting(w.host(3), CARETAKER, send(ReadIndexReply(header(3), 1, True, Index(2)), 1))


@plant(Caretaker)
def i4_a_caretaker_says_how_far_witnesses_may_truncate(w: World, rule: Caretaker) -> None:
    rule.transmitting(w.host(3), CARETAKER, send(Coverage(header(3), Index(2)), 1))


@plant(CommitQuorum)
def i5_an_older_terms_entry_is_committed_by_counting(w: World, rule: CommitQuorum) -> None:
    host = w.host()
    w.log(host, entry(2, TERM - 1))
    rule.commits(host, node(), 1, 2)


@plant(CommitQuorum)
def i5_only_one_disk_of_three_has_it(w: World, rule: CommitQuorum) -> None:
    host = w.host(1, disk=disk(entry(2)))
    w.host(2, disk=disk())
    w.host(3, disk=disk(entry(2, TERM - 1)))
    w.log(host, entry(2))
    rule.commits(host, node(), 1, 2)


# --- I6 to I9: what witnesses and role changes may lose ---------------------------------------------------------------


@plant(BaseIsCommitted)
def i6_a_log_starts_at_an_uncommitted_index(w: World, rule: BaseIsCommitted) -> None:
    w.committed(4, 4)
    w.step(rule, w.host(), node(commit_index=2), persist=write(start=base(3, 4)))


@plant(BaseIsCommitted)
def i6_a_log_starts_at_another_entry_than_was_committed(w: World, rule: BaseIsCommitted) -> None:
    w.committed(4, 4)
    w.step(rule, w.host(), node(commit_index=3), persist=write(start=base(3, 3)))


@plant(BaseIsCommitted)
def i6_a_log_starts_after_what_is_flushed(w: World, rule: BaseIsCommitted) -> None:
    w.committed(4, 4)
    host = w.host(state=SimpleNamespace(flushed_meta=base(2)))
    w.step(rule, host, node(commit_index=3), persist=write(start=base(3, 4)))


def truncating_witness(w: World, rule: WitnessCoverage, of_full: list[int]) -> None:
    """A witness's log starts after 3; a full voter's disk holds entries of these terms from 2 on."""
    w.host(1, disk=disk(entry(2, 4), entry(3, 4)))
    w.host(2, disk=disk(*(entry(index, term) for index, term in enumerate(of_full, start=2))))
    third = w.host(3)
    w.committed(4, 4)
    w.step(rule, third, node(3, TWO_AND_WITNESS, role=FOLLOWER), persist=write(start=base(3, 4)))


@plant(WitnessCoverage)
def i6_a_witness_truncates_what_a_full_voter_lacks(w: World, rule: WitnessCoverage) -> None:
    truncating_witness(w, rule, [4])


@plant(WitnessCoverage)
def i6_a_witness_truncates_what_a_full_voter_has_of_another_term(w: World, rule: WitnessCoverage) -> None:
    truncating_witness(w, rule, [4, 3])


@plant(WitnessCoverage)
def i6_a_full_voter_is_admitted_below_a_witnesss_log(w: World, rule: WitnessCoverage) -> None:
    leader = w.host(1, disk=disk(entry(2, 4), entry(3, 4)))
    w.host(2, disk=disk(entry(2, 4)))
    w.host(3, disk=disk(at=3))
    w.committed(4, 4)
    w.step(rule, leader, node(1, TWO_AND_WITNESS), persist=write(change(4, TWO_AND_WITNESS)))


@plant(FreshWitness)
def i7_a_blank_witness_votes(w: World, rule: FreshWitness) -> None:
    rule.transmitting(w.host(3), node(3, TWO_AND_WITNESS, log_first=1), send(voted(3, 0, 0), 1))


@plant(FreshWitness)
def i7_a_blank_witness_acknowledges(w: World, rule: FreshWitness) -> None:
    where = (Index(4), Index(4), Index(4), Index(1), Index(0), Term(0), Index(0))
    message = AppendEntriesReply(header(3), 1, 1, True, *where, 0)
    rule.transmitting(w.host(3), node(3, TWO_AND_WITNESS, log_first=1), send(message, 1))


@plant(TwoFull)
def i8_a_change_leaves_one_full_voter(w: World, rule: TwoFull) -> None:
    after = group(member(1), member(2, phase=MemberPhase.DEMOTING), witness(3))
    w.step(rule, w.host(), node(1, after, TWO_AND_WITNESS), persist=write(change(2, after)))


@plant(TwoFull)
def i8_full_voters_are_no_majority(w: World, rule: TwoFull) -> None:
    after = group(member(1), member(2), witness(3), witness(4))
    w.step(rule, w.host(), node(1, after, TWO_AND_WITNESS), persist=write(change(2, after)))


@plant(Privileges)
def i9_a_member_truncates_in_its_role_change(w: World, rule: Privileges) -> None:
    of = group(member(1), member(2, phase=MemberPhase.DEMOTING), member(3))
    host = w.host(2)
    w.log(host, entry(4), at=3)
    w.step(rule, host, node(2, of, role=FOLLOWER), persist=write(start=base(3)))


@plant(Privileges)
def i9_a_member_whose_promotion_is_not_committed_truncates(w: World, rule: Privileges) -> None:
    host = w.host(3)
    w.log(host, entry(4), at=3)
    w.step(rule, host, node(3, THREE, TWO_AND_WITNESS, role=FOLLOWER), persist=write(start=base(3)))


@plant(Privileges)
def i9_a_leader_proposes_data_in_its_own_role_change(w: World, rule: Privileges) -> None:
    of = group(member(1), member(2, phase=MemberPhase.DEMOTING), member(3))
    host = w.host(2)
    w.log(host, entry(2))
    w.step(rule, host, node(2, of), persist=write(entry(2)))


@plant(Privileges)
def i9_a_state_is_dropped_by_what_is_only_appended(w: World, rule: Privileges) -> None:
    rule.dropped(w.host(2, node=node(2, group(member(1), witness(2), member(3)), THREE)))


# --- I10 to I14: changes, ids, levels, states -------------------------------------------------------------------------


@plant(OneChange)
def i10_two_changes_at_once(w: World, rule: OneChange) -> None:
    host, changes = w.host(), [change(2, THREE), change(3, THREE)]
    w.log(host, *changes)
    w.step(rule, host, node(), persist=write(changes[1]))


@plant(OneChange)
def i10_a_change_before_a_commit_of_the_own_term(w: World, rule: OneChange) -> None:
    host, what = w.host(), change(3, THREE)
    w.log(host, entry(2, TERM - 1), what)
    w.step(rule, host, node(commit_index=2), persist=write(what))


@plant(OneChange)
def i10_two_voters_in_one_step(w: World, rule: OneChange) -> None:
    host, what = w.host(), change(3, group(member(1), member(2), member(3), member(4), member(5)))
    w.log(host, entry(2), what)
    w.step(rule, host, node(commit_index=2), persist=write(what))


@plant(Quorums)
def i11_a_reduced_commit_quorum_and_an_election_beside_it(w: World, rule: Quorums) -> None:
    four = group(*(member(n) for n in (1, 2, 3, 4)), reduced_commit=True)
    w.step(rule, w.host(), node(1, THREE, four), persist=write(change(2, THREE)))


@plant(Quorums)
def i11_majorities_that_do_not_meet(w: World, rule: Quorums) -> None:
    five = group(*(member(n) for n in (1, 4, 5)))
    w.step(rule, w.host(), node(1, five, THREE), persist=write(change(2, five)))


@plant(Incarnations)
def i12_two_directories_are_one_member(w: World, rule: Incarnations) -> None:
    for number in (1, 2):
        rule.booting(w.host(number, member_id=NodeId(4)), disk().surely_hard_state)


@plant(Incarnations)
def i12_a_member_comes_back_with_an_empty_disk(w: World, rule: Incarnations) -> None:
    for at in (9, 0):
        rule.booting(w.host(1, disk=disk(at=at)), disk().surely_hard_state)


@plant(Incarnations)
def i12_a_lost_machine_boots(w: World, rule: Incarnations) -> None:
    rule.booting(w.host(1, lost=True), disk().surely_hard_state)


def gate(index: int, operation: GateOperation, level: int, fence: int = 0) -> bytes:
    return encode_gate(Gate(operation, level, Index(fence)))


def seed_of_level(level: int) -> int:
    """A seed with gates whose cluster begins at this level."""
    return next(seed for seed in itertools.count(GATE_SEEDS_FROM) if World(seed).cluster.gates.level_genesis == level)


AT_1 = seed_of_level(1)


def fenced(w: World, rule: Gates, levels: Levels) -> None:
    """Host 1 commits a FENCE of level 2 at index 2 and says that its gate state is this."""
    host = w.host(disk=disk())
    w.log(host, entry(2, kind=GATE, payload=gate(2, GateOperation.FENCE, 2)))
    rule.commits(host, node(levels_at=lambda index: levels if index >= 2 else Levels(1, 1)), 1, 2)


@plant(Gates, AT_1)
def i13_a_gate_state_that_is_not_the_logs(w: World, rule: Gates) -> None:
    fenced(w, rule, Levels(1, 1))


@plant(Gates, AT_1)
def i13_a_base_with_a_later_gate_state(w: World, rule: Gates) -> None:
    fenced(w, rule, Levels(1, 2, Index(2)))
    w.step(rule, w.cluster.hosts[0], node(), persist=write(start=base(1, levels=Levels(1, 2, Index(2)))))


def activates(w: World, rule: Gates, promised: int) -> None:
    """Host 1 has committed the FENCE at 2 and appends its ACTIVATE; the disk of 2, which has not, says this."""
    fenced(w, rule, Levels(1, 2, Index(2)))
    for number in (2, 3):
        w.host(number, disk=disk(surely_level=promised))
    what = entry(3, kind=GATE, payload=gate(3, GateOperation.ACTIVATE, 2, 2))
    w.step(rule, w.cluster.hosts[0], node(), persist=write(what))


@plant(Gates, AT_1)
def i13_a_level_is_activated_that_a_disk_does_not_promise(w: World, rule: Gates) -> None:
    activates(w, rule, 1)


@plant(Gates, AT_1)
def i13_a_level_is_activated_on_a_fence_that_a_member_never_had(w: World, rule: Gates) -> None:
    activates(w, rule, 2)


@plant(Gates, AT_1)
def i13_an_older_binary_boots_below_an_active_level(w: World, rule: Gates) -> None:
    fenced(w, rule, Levels(1, 2, Index(2)))
    host = w.cluster.hosts[0]
    w.log(host, entry(3, kind=GATE, payload=gate(3, GateOperation.ACTIVATE, 2, 2)), at=2)
    rule.commits(host, node(levels_at=lambda index: Levels(2, 2, Index(3))), 2, 3)
    host.level_max = 1
    rule.booting(host, host.disk.surely_hard_state)


@plant(WitnessLevel)
def i13_a_witness_below_its_level(w: World, rule: WitnessLevel) -> None:
    w.step(rule, w.host(), node(levels=Levels(1, 1)), persist=write(change(2, TWO_AND_WITNESS)))


@plant(WitnessLevel)
def i13_a_message_that_an_older_binary_cannot_read(w: World, rule: WitnessLevel) -> None:
    w.host(2, level_max=1, node=node(2))
    rule.transmitting(w.host(1), node(1), send(Coverage(header(), Index(2)), 2))


@plant(EqualStates)
def i14_two_states_after_one_entry(w: World, rule: EqualStates) -> None:
    for number in (1, 2):
        replica = SimpleNamespace(state_hash=lambda number=number: number)
        rule.applied(w.host(number, replica=replica), entry(2), Outcome())


# --- the field's own --------------------------------------------------------------------------------------------------


def quorum_lost(w: World, rule: CheckQuorumFirst, commit: int = 1, **ready: object) -> None:
    host = w.host()
    w.log(host)
    alarms = (Alarm("quorum_lost", ""),)
    w.seldom(rule, host, node(role=FOLLOWER, commit_index=commit), alarms=alarms, **ready)


@plant(CheckQuorumFirst)
def quorum_lost_and_a_proposal_taken(w: World, rule: CheckQuorumFirst) -> None:
    quorum_lost(w, rule, proposals=(Appended(1, Index(2), Term(TERM)),))


@plant(CheckQuorumFirst)
def quorum_lost_and_a_read_released(w: World, rule: CheckQuorumFirst) -> None:
    quorum_lost(w, rule, reads=(ReadReady(1, Index(1)),))


@plant(CheckQuorumFirst)
def quorum_lost_and_a_forwarded_read_released(w: World, rule: CheckQuorumFirst) -> None:
    quorum_lost(w, rule, send=(send(ReadIndexReply(header(), 1, True, Index(1))),))


@plant(CheckQuorumFirst)
def quorum_lost_and_an_entry_appended(w: World, rule: CheckQuorumFirst) -> None:
    quorum_lost(w, rule, persist=write(entry(2)))


@plant(CheckQuorumFirst)
def quorum_lost_and_more_committed(w: World, rule: CheckQuorumFirst) -> None:
    quorum_lost(w, rule, commit=2)


@plant(NewerSnapshot)
def a_snapshot_older_than_what_is_committed(w: World, rule: NewerSnapshot) -> None:
    w.seldom(rule, w.host(), node(commit_index=4), pieces=(InstallPieces(named_snapshot(4)),))


def names(*anchors: tuple[int, int]) -> CatchUp:
    return CatchUp(header(), 1, tuple((Index(i), Term(t)) for i, t in anchors), ())


@plant(RangeSources)
def a_range_is_named_by_another_term(w: World, rule: RangeSources) -> None:
    w.committed(4, 4)
    rule.transmitting(w.host(), node(commit_index=3), send(names((3, 3))))


@plant(RangeSources)
def a_range_is_named_beyond_the_commit_index(w: World, rule: RangeSources) -> None:
    w.committed(4, 4)
    rule.transmitting(w.host(), node(commit_index=3), send(names((3, 4), (4, 4))))


@plant(RangeSources)
def a_source_serves_beyond_its_commit_index(w: World, rule: RangeSources) -> None:
    message = FetchRangeReply(header(), Index(1), Index(2), (entry(2),))
    rule.transmitting(w.host(), node(), send(message))


@plant(RangeSources)
def a_source_serves_another_entry_than_was_committed(w: World, rule: RangeSources) -> None:
    w.committed(4)
    message = FetchRangeReply(header(), Index(1), Index(2), (entry(2),))
    rule.transmitting(w.host(), node(commit_index=2), send(message))


@plant(RangeSources)
def a_member_reports_another_entry_than_was_committed(w: World, rule: RangeSources) -> None:
    host = w.host()
    w.committed(4)
    w.log(host, entry(2, 3))
    where = (Index(2), Index(1), Index(1), 0)
    rule.transmitting(host, node(), send(CatchUpReply(header(), 1, *where)))
