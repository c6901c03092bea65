"""Gates at their edges: what `make mutation` showed that no test held (docs/mutation.md)."""

from __future__ import annotations

import pytest
from lockmaster_raft.errors import CorruptLog
from lockmaster_raft.gates import Gate, GateOperation, MemberLevels, already, deactivated_at, fold, why_not
from lockmaster_raft.gating import note_report
from lockmaster_raft.ids import NO_INDEX, Index, Nanos, NodeId
from lockmaster_raft.membership import Levels
from lockmaster_raft.messages import HeartbeatReply
from lockmaster_raft.progress import Progress

from .rig import Rig, append, configuration, entries
from .shapes import until
from .test_gates import ask, gate_entry, grown, heartbeat, refusal, report
from .test_log_replication import leading
from .test_membership import add

ACTIVATE, CANCEL = GateOperation.ACTIVATE, GateOperation.CANCEL
DEACTIVATE, FENCE = GateOperation.DEACTIVATE, GateOperation.FENCE
STANDING = Levels(1, 2, Index(5))


@pytest.mark.parametrize("operation", [ACTIVATE, CANCEL])
@pytest.mark.parametrize(("level", "fence_index"), [(2, 6), (2, 4), (3, 5), (1, 5)])
def test_activate_and_cancel_name_the_standing_fence_and_no_other(
    operation: GateOperation, level: int, fence_index: int
) -> None:
    with pytest.raises(CorruptLog, match="does not follow"):
        fold(STANDING, Index(9), Gate(operation, level, Index(fence_index)))


@pytest.mark.parametrize("level", [2, 4])
def test_deactivate_names_the_active_level_and_no_other(level: int) -> None:
    with pytest.raises(CorruptLog, match="does not follow"):
        fold(Levels(3, 3, Index(5)), Index(9), Gate(DEACTIVATE, level))


def test_deactivate_leads_to_the_level_below() -> None:
    assert fold(Levels(4, 4, Index(5)), Index(9), Gate(DEACTIVATE, 4)) == Levels(3, 3, Index(9))


@pytest.mark.parametrize("index", [4, 5])
def test_gates_stand_at_rising_indexes(index: int) -> None:
    with pytest.raises(CorruptLog, match="does not follow"):
        fold(Levels(1, 1, Index(5)), Index(index), Gate(FENCE, 2))


def test_the_last_committed_deactivate_is_found_at_any_index_and_0_means_none() -> None:
    history = [(Index(0), Levels(2, 2)), (Index(300), Levels(1, 1, Index(300)))]
    assert [deactivated_at(history, commit) for commit in (299, 300, 1000)] == [0, 300, 300]
    assert deactivated_at(history[:1], 1000) == 0


@pytest.mark.parametrize("level", [1, 2])
def test_a_level_below_the_active_one_is_not_the_active_one(level: int) -> None:
    assert not already(ACTIVATE, level, Levels(3, 3, Index(5)))


@pytest.mark.parametrize(("operation", "why"), [(FENCE, "is active already"), (CANCEL, "comes too late")])
@pytest.mark.parametrize("level", [2, 3])
def test_a_level_that_is_passed_is_refused_by_name(operation: GateOperation, why: str, level: int) -> None:
    said = why_not(operation, level, Levels(3, 3, Index(5)), (), configuration())
    assert "level 3 is active" in said
    assert why in said


# --- reports ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("nonces", [(5, 6), (5, 6, 6), (5, 6, 5), (0, 6, 0), (5, 0, 0)])
def test_of_two_boots_that_answered_one_round_nothing_is_known_whatever_their_nonces_are(
    nonces: tuple[int, ...],
) -> None:
    p = Progress(NodeId(2), 2, Nanos(0), 1)
    for nonce in nonces:
        note_report(p, report(4, nonce, level_max=2))
    assert (p.level_min, p.level_max, p.fence_index) == (0, 0, NO_INDEX)
    row = MemberLevels(NodeId(2), "m2", p.level_min, p.level_max, p.fence_index)
    said = why_not(DEACTIVATE, 2, Levels(2, 2, Index(9)), (row,), configuration())
    assert said == "DEACTIVATE(2) needs every member to run below it: member 2 (m2) has not reported in this term"


def test_what_a_leader_s_binary_knows_says_nothing_of_the_members_with_lower_ids() -> None:
    cluster = grown(2, 2, 2)
    cluster.down.add(1)
    until(cluster, lambda: bool(cluster.leaders()) and cluster.nodes[cluster.leader].admits_writes)
    assert cluster.leader > 1
    assert refusal(ask(cluster, FENCE)).endswith(": member 1 (m1) has not reported in this term")


def test_of_a_member_whose_addition_is_not_committed_no_levels_are_known() -> None:
    """Nothing is sent to it yet, so it can't have answered."""
    rig = leading()
    rig.step(add(4))
    assert rig.node.member_levels()[3] == MemberLevels(NodeId(4), "m4", 0, 0, NO_INDEX)


# --- promises --------------------------------------------------------------------------------------------------------


def test_a_fence_that_a_boot_finds_above_the_commit_index_is_promised_when_it_commits_and_not_before() -> None:
    """It may yet be truncated: then the promise would have kept an older binary out for nothing."""
    rig = Rig(term=2, log=[*entries(2, 2), gate_entry(3, FENCE)], level_max=2)
    assert rig.node.promised_level == 1
    rig.receive(append(2, 2, (3, 2), (), commit=2))
    assert rig.node.promised_level == 1
    rig.receive(append(2, 2, (3, 2), (), commit=3, request_id=2))
    assert rig.node.promised_level == 2


def reported(rig: Rig) -> int:
    """The FENCE that it reports, as soon as what it has written is durable."""
    rig.receive(heartbeat(3))
    return rig.only(HeartbeatReply).fence_index


def test_no_fence_is_reported_once_it_was_cancelled_or_its_level_is_active() -> None:
    for end in (CANCEL, ACTIVATE):
        rig = Rig(term=2, level_max=2)
        rig.receive(append(2, 2, (1, 1), [gate_entry(2, FENCE), gate_entry(3, end, fence=2)], commit=2))
        assert reported(rig) == 2
        rig.receive(append(2, 2, (3, 2), (), commit=3, request_id=2))
        assert reported(rig) == NO_INDEX


def test_who_still_promises_a_higher_level_than_the_fence_reports_it_all_the_same() -> None:
    """Level 3 was active: while its entries are in the log an older binary can't replay it."""
    ups = [gate_entry(2, FENCE, 3), gate_entry(3, ACTIVATE, 3, fence=2)]
    downs = [gate_entry(4, DEACTIVATE, 3), gate_entry(5, DEACTIVATE, 2)]
    rig = Rig(term=2, level_max=3)
    rig.receive(append(2, 2, (1, 1), [*ups, *downs, gate_entry(6, FENCE, 2)], commit=6))
    assert rig.node.promised_level == 3
    assert reported(rig) == 6


def test_a_fence_above_the_binary_is_told_when_it_commits_and_not_with_every_commit_since() -> None:
    rig = Rig(term=2, level_max=1)
    rig.receive(append(2, 2, (1, 1), [gate_entry(2, FENCE), *entries(3, 2, 2, 2)], commit=2))
    assert [alarm.code for alarm in rig.ready.alarms] == ["fence_above"]
    for commit in (3, 4, 5):
        rig.receive(append(2, 2, (5, 2), (), commit=commit, request_id=commit))
        assert rig.node.commit_index == commit
        assert rig.ready.alarms == ()
