"""Issue 4, Bad input: what a leader says is held against what the node knows, and refused before anything is changed.

Each of these once stopped a node, or was believed. Their counterparts, what must be taken, stand beside them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
from lockmaster_raft.entry import Entry, EntryKind, make_entry
from lockmaster_raft.errors import InvariantViolation
from lockmaster_raft.events import PiecesHeld, SnapshotInstalled
from lockmaster_raft.gates import Gate, GateOperation, encode_gate
from lockmaster_raft.ids import Index, Nanos, NodeId, Term
from lockmaster_raft.membership import Configuration, Levels, MemberPhase, MemberRole
from lockmaster_raft.messages import (
    AppendEntries,
    AppendEntriesReply,
    CatchUp,
    CatchUpReply,
    Coverage,
    FetchRange,
    FetchRangeReply,
    Header,
    Heartbeat,
    InstallAnchor,
    InstallSnapshot,
    TimeoutNow,
)
from lockmaster_raft.ready import Role
from lockmaster_raft.storage import SideState

from .rig import Rig, append, base, config_entry, configuration, entries, header, member
from .test_bad_messages import follower, refused
from .test_elections import elect
from .test_log_replication import leading
from .test_promotion import led, promoting

CONTRADICTS = "contradicts what is committed"
FOLLOWS_NOTHING = "configuration entry that follows nothing"
WITHOUT_STATE = "configuration that makes this member full without its state"
ANOTHER_LOG = "range piece of another log"


def committed() -> Rig:
    """A follower of 2 in term 2 that knows all its log as committed: (2, 2), (3, 2)."""
    rig = Rig(log=entries(2, 2, 2), term=2)
    rig.receive(append(2, 2, (3, 2), commit=3))
    assert rig.node.commit_index == 3
    return rig


def beat(sender: int, term: int, commit: int = 0) -> Heartbeat:
    return Heartbeat(header(sender, term), 1, Nanos(0), Index(commit), Nanos(0), 1)


# --- what is committed ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("term", [2, 3])
def test_entries_after_another_one_than_is_committed_are_refused(term: int) -> None:
    """(3, 2) is committed, so every leader has it (§5.4.3): there is no (3, 1) that (4, 1) could follow."""
    rig = committed()
    refused(rig, append(2, term, (3, 1), entries(4, 1)), CONTRADICTS)
    assert rig.only(AppendEntriesReply).reason == CONTRADICTS


def test_a_leader_refuses_them_and_goes_on_leading() -> None:
    rig = leading()  # (2, 2) is committed
    refused(rig, append(3, 3, (2, 1), entries(3, 1)), CONTRADICTS)
    assert rig.node.role is Role.LEADER


def test_entries_in_the_place_of_committed_ones_are_refused() -> None:
    refused(committed(), append(2, 2, (1, 1), entries(2, 1, 1, 1)), CONTRADICTS)


def test_committed_entries_are_taken_once_more() -> None:
    rig = committed()
    rig.receive(append(2, 2, (1, 1), entries(2, 2, 2, 2)))
    assert rig.only(AppendEntriesReply).success
    assert rig.node.last_index == 4


def test_entries_from_before_the_log_s_start_join_by_those_in_it() -> None:
    """What is below the base can't be compared; from the base on it is."""
    start = base(configuration(), 5, 2)
    rig = Rig(start=start, log=entries(6, 2), term=3)
    rig.receive(append(2, 3, (3, 1), entries(4, 2, 2, 2, 3)))
    assert rig.only(AppendEntriesReply).success
    refused(Rig(start=start, log=entries(6, 2), term=3), append(2, 3, (3, 1), entries(4, 1, 1, 2, 3)), CONTRADICTS)


def test_a_snapshot_and_an_anchor_in_the_place_of_committed_entries_are_refused() -> None:
    place = (1, Index(3), Term(1), configuration(), Index(1), Levels())
    refused(committed(), InstallSnapshot(header(2, 2), *place, (b"d" * 32,), 9, (NodeId(2),)), CONTRADICTS)
    refused(committed(), InstallAnchor(header(2, 2), *place), CONTRADICTS)


# --- ranges ---------------------------------------------------------------------------------------------------------


def catch_up(*anchors: tuple[int, int], epoch: int = 5) -> CatchUp:
    pairs = tuple((Index(i), Term(t)) for i, t in anchors)
    return CatchUp(header(2, 2), epoch, pairs, (NodeId(3), NodeId(4)))


def piece(prev: int, *new: Entry, sender: int = 3) -> FetchRangeReply:
    return FetchRangeReply(header(sender, 2), Index(prev), new[-1].index, new)


@pytest.mark.parametrize(
    "anchors",
    [
        [(3, 1), (5, 2)],  # the joint
        [(1, 1), (3, 1), (5, 2)],  # an anchor
    ],
)
def test_a_range_past_other_entries_than_are_committed_is_refused(anchors: list[tuple[int, int]]) -> None:
    refused(committed(), catch_up(*anchors), CONTRADICTS)


def test_a_range_whose_later_anchor_is_held_and_an_earlier_one_is_not_is_refused() -> None:
    """Log Matching: whoever has (4, 2) has all before it."""
    rig = Rig(log=entries(2, 1, 1, 2), term=2)
    refused(rig, catch_up((1, 1), (3, 2), (4, 2), (5, 2)), CONTRADICTS)


def test_a_range_ends_when_the_log_is_cut_at_or_below_its_joint() -> None:
    """An append of an older stream: nothing that the sources send could follow."""
    rig = follower()
    rig.receive(catch_up((3, 1), (5, 2)))
    assert rig.node.fetching_range == (3, 5)
    rig.receive(append(2, 2, (1, 1), entries(2, 2)))
    assert rig.node.fetching_range is None
    refused(rig, piece(3, *entries(4, 2, 2)), "range piece that is not being fetched")


def test_a_range_goes_on_when_the_log_is_cut_above_its_joint() -> None:
    rig = Rig(log=entries(2, 1, 1, 1), term=2)
    rig.receive(catch_up((3, 1), (5, 2)))
    rig.receive(append(2, 2, (3, 1), entries(4, 2)))
    rig.receive(piece(3, *entries(4, 2, 2)))
    assert rig.node.commit_index == 5


def test_a_range_ends_when_a_snapshot_replaces_the_log_below_its_joint() -> None:
    rig = follower()
    place = (1, Index(2), Term(2), configuration(), Index(1), Levels())
    rig.receive(InstallSnapshot(header(2, 2), *place, (b"d" * 32,), 9, (NodeId(2),)))
    rig.receive(catch_up((3, 1), (5, 2)))
    rig.step(PiecesHeld(Index(2), (0,)))
    rig.step(SnapshotInstalled(Index(2), Term(2)))
    assert rig.node.last_index == 2
    refused(rig, piece(3, *entries(4, 2, 2)), "range piece that is not being fetched")


def test_a_range_that_contradicts_what_was_committed_since_it_was_named_ends() -> None:
    """Its leader has said both. The piece that is committed already is not appended, so the next one would not join."""
    rig = Rig(term=2)
    rig.receive(catch_up((1, 1), (2, 1), (4, 1)))
    rig.receive(append(2, 2, (1, 1), entries(2, 2), commit=2))
    rig.receive(piece(1, *entries(2, 1)))
    assert rig.node.refusals == {"range of another log": 1}
    assert rig.only(CatchUpReply).reason == "the log does not join"
    assert rig.node.fetching_range is None


def gate(index: int, payload: bytes) -> Entry:
    return make_entry(Index(index), Term(2), EntryKind.GATE, Nanos(0), payload)


@pytest.mark.parametrize(
    ("new", "reason"),
    [
        ([gate(4, b"garbage"), *entries(5, 2)], ANOTHER_LOG),
        (
            [
                gate(4, encode_gate(Gate(GateOperation.FENCE, 9))),
                gate(5, encode_gate(Gate(GateOperation.ACTIVATE, 9, Index(4)))),
            ],
            ANOTHER_LOG,
        ),
        ([gate(4, encode_gate(Gate(GateOperation.DEACTIVATE, 7))), *entries(5, 2)], "gate entry that follows nothing"),
        ([config_entry(4, 2, configuration(epoch=7)), *entries(5, 2)], FOLLOWS_NOTHING),
    ],
)
def test_what_a_mere_source_serves_stops_nobody(new: Sequence[Entry], reason: str) -> None:
    """It proves nothing: what this binary does not know stops it when its leader sends it (raft.md §6)."""
    rig = follower()
    rig.receive(catch_up((3, 1), (5, 2)))
    refused(rig, piece(3, *new), reason)
    assert [a.code for a in rig.ready.alarms] == ["bad_source"]
    assert [m.header.receiver for m in rig.sent(FetchRange)] == [4]
    rig.receive(piece(3, *entries(4, 2, 2), sender=4))
    assert rig.node.commit_index == 5


# --- configurations -------------------------------------------------------------------------------------------------


SEVENTH = configuration(epoch=7)


@pytest.mark.parametrize(
    "new",
    [
        replace(SEVENTH, epoch=1),
        SEVENTH,
        replace(SEVENTH, epoch=9),
        replace(SEVENTH, epoch=8, next_member_id=NodeId(6)),
        configuration((1, 2), epoch=8),  # its next id is 3
        replace(configuration((1, 2, 3, 4), epoch=8), next_member_id=NodeId(6)),
    ],
)
def test_a_configuration_that_does_not_follow_the_one_before_it_is_refused(new: Configuration) -> None:
    """Every change raises the epoch by one and mints one id at most, in 0.1.0 too; ids only rise (I12)."""
    rig = Rig(conf=SEVENTH, log=entries(2, 1, 1), term=2)
    refused(rig, append(2, 2, (3, 1), (config_entry(4, 2, new),), 4), FOLLOWS_NOTHING)
    assert rig.only(AppendEntriesReply).reason == FOLLOWS_NOTHING


def test_an_id_that_is_gone_does_not_come_back() -> None:
    """I12: it names a data directory for good."""
    gone = SEVENTH.without_member(NodeId(3))
    back = gone.with_member(member(3))
    refused(Rig(conf=gone, term=2), append(2, 2, (1, 1), (config_entry(2, 2, back),)), FOLLOWS_NOTHING)


def test_configurations_that_follow_each_other_are_taken_and_may_replace_a_tail() -> None:
    eighth = SEVENTH.with_member(member(4, voter=False))
    rig = Rig(conf=SEVENTH, log=(*entries(2, 1), config_entry(3, 1, eighth)), term=2)
    other = SEVENTH.without_member(NodeId(2))
    rig.receive(append(2, 2, (2, 1), (config_entry(3, 2, other), config_entry(4, 2, other.without_member(NodeId(3))))))
    assert rig.node.configuration.epoch == 9
    assert rig.node.configuration.voter_ids == (1,)


@pytest.mark.parametrize(
    "old", [replace(SEVENTH, epoch=6), replace(SEVENTH, next_member_id=NodeId(4)), configuration(epoch=2**40)]
)
def test_a_snapshot_and_an_anchor_with_a_configuration_of_another_time_are_refused(old: Configuration) -> None:
    known = replace(SEVENTH, next_member_id=NodeId(5))
    reason = "configuration older than the committed one"
    if old.epoch > 7:
        reason = "configuration epoch from the far future"
    place = (1, Index(9), Term(1), old, Index(1), Levels())
    rig = Rig(conf=known, term=2)
    refused(rig, InstallSnapshot(header(2, 2), *place, (b"d" * 32,), 9, (NodeId(2),)), reason)
    refused(Rig(conf=known, term=2), InstallAnchor(header(2, 2), *place), reason)


# --- the own promotion ----------------------------------------------------------------------------------------------


def to_three(term: int) -> Header:
    return header(1, term, 3)


def fetching() -> Rig:
    """Member 3, whose P1 (epoch 2, index 4) is committed; it fetches."""
    rig = promoting()
    led(rig, (8, 1), commit=8)
    assert rig.node.promotion == (2, "fetching")
    return rig


P4 = configuration((1, 2, 3), epoch=3)
"""Member 3 is full: what follows P1 when its side state is ready."""
ABORT = configuration((1, 2, 3), witnesses=(3,), epoch=3)


def appended(prev: tuple[int, int], *new: Configuration, commit: int = 0) -> AppendEntries:
    made = [config_entry(index, 2, conf) for index, conf in enumerate(new, prev[0] + 1)]
    return replace(append(1, 2, prev, made, commit), header=to_three(2))


@pytest.mark.parametrize("commit", [8, 9])
def test_p4_without_a_side_state_is_refused(commit: int) -> None:
    """The leader waits for sm_ready, and what is ready stays ready, a crash included."""
    refused(fetching(), appended((8, 1), P4, commit=commit), WITHOUT_STATE)


def test_p4_of_another_promotion_is_refused() -> None:
    """The side state is ready, but for the P1 before the abort."""
    rig = promoting(side=SideState(2, Index(6)))
    assert rig.node.promotion == (2, "ready")
    again = ABORT.with_member(member(3, role=MemberRole.WITNESS, phase=MemberPhase.PROMOTING))
    rig.receive(appended((8, 1), ABORT, again, replace(P4, epoch=5)))
    assert rig.node.refusals == {WITHOUT_STATE: 1}
    assert rig.node.last_index == 8


def test_a_witness_in_no_promotion_is_not_made_full() -> None:
    rig = promoting()
    rig.receive(appended((8, 1), ABORT, replace(P4, epoch=4)))
    assert rig.node.refusals == {WITHOUT_STATE: 1}


@pytest.mark.parametrize("adopted", [None, 6])
def test_p4_with_a_state_is_taken(adopted: int | None) -> None:
    """Ready, or adopted already before a crash."""
    rig = promoting(side=SideState(2, Index(6)) if adopted is None else None, adopted=adopted)
    rig.receive(appended((8, 1), P4, commit=9))
    assert rig.node.refusals == {}
    assert rig.node.serves_state


@pytest.mark.parametrize("build", [fetching, promoting])
def test_an_anchor_that_makes_a_witness_full_is_refused(build: Callable[[], Rig]) -> None:
    """Whether its P1 is committed here or not: it would report as applied what no state holds."""
    anchor = InstallAnchor(to_three(2), 1, Index(20), Term(2), P4, Index(20), Levels(2, 2))
    refused(build(), anchor, WITHOUT_STATE)


def test_an_anchor_that_leaves_it_a_witness_is_taken() -> None:
    rig = fetching()
    rig.receive(InstallAnchor(to_three(2), 1, Index(20), Term(2), ABORT, Index(20), Levels(2, 2)))
    assert rig.node.refusals == {}
    assert rig.node.log_first == 21


# --- who leads ------------------------------------------------------------------------------------------------------


NO_VOTER = "leader message of no voter"


@pytest.mark.parametrize("sender", [4, 99])
def test_a_leader_is_not_stopped_by_who_cannot_lead_beside_it(sender: int) -> None:
    """A learner, or nobody that any configuration of its log knows."""
    for message in (beat(sender, 2), Coverage(header(sender, 2), Index(0))):
        rig = Rig(conf=configuration((1, 2, 3), (4,)))
        elect(rig)
        rig.synced()
        refused(rig, message, NO_VOTER)
        assert rig.node.role is Role.LEADER


def test_a_follower_is_not_stopped_by_who_cannot_lead_beside_its_leader() -> None:
    rig = follower()
    rig.receive(append(2, 2, (3, 1)))
    refused(rig, Coverage(header(77, 2), Index(0)), NO_VOTER)
    assert rig.node.leader_id == 2


def test_two_leaders_of_one_term_that_may_vote_stop_the_node() -> None:
    """The law itself is broken: what either has committed may be lost."""
    rig = follower()
    rig.receive(append(2, 2, (3, 1)))
    with pytest.raises(InvariantViolation, match="members 2 and 3 both lead term 2"):
        rig.receive(beat(3, 2))


def test_a_voter_of_a_configuration_that_is_not_in_force_any_more_may_be_the_other_leader() -> None:
    after = configuration((1, 2, 3)).without_member(NodeId(3))
    rig = Rig(log=(*entries(2, 1), config_entry(3, 1, after)), term=2)
    rig.receive(append(2, 2, (3, 1)))
    with pytest.raises(InvariantViolation, match="both lead"):
        rig.receive(beat(3, 2))


@pytest.mark.parametrize("sender", [4, 99])
@pytest.mark.parametrize("term", [2, 3])
def test_a_member_that_lags_follows_a_leader_that_it_knows_as_a_learner_or_not_at_all(sender: int, term: int) -> None:
    """It may be a voter by a configuration that only its own messages bring."""
    rig = Rig(conf=configuration((1, 2, 3), (4,)), log=entries(2, 1), term=2)
    rig.receive(beat(sender, term))
    assert rig.node.leader_id == sender


def test_a_real_leader_is_followed_again_after_one_that_was_none() -> None:
    """Refused while somebody unknown is believed to lead the term; an election timeout later it is heard."""
    rig = follower()
    rig.receive(beat(77, 2))
    refused(rig, beat(2, 2), NO_VOTER)
    rig.tick(2 * rig.config.election_timeout_ns)
    rig.receive(beat(2, 2))
    assert rig.node.leader_id == 2


def test_a_removed_member_is_not_followed() -> None:
    """I12: its id was minted and is gone, so it is in no later configuration either."""
    gone = configuration((1, 2, 3)).without_member(NodeId(3))
    refused(Rig(conf=gone, term=2), beat(3, 3), "leader message of a removed member")


def test_a_leader_that_removed_itself_still_hands_over() -> None:
    """§4.2.2: its heartbeat tells of the commit, then its TimeoutNow comes."""
    gone = configuration((1, 2, 3)).without_member(NodeId(2))
    rig = Rig(log=entries(2, 1), term=2)
    rig.receive(append(2, 2, (2, 1), (config_entry(3, 2, gone),)))
    rig.synced()
    rig.receive(beat(2, 2, commit=3))
    assert rig.node.committed_configuration == gone
    rig.receive(TimeoutNow(header(2, 2)))
    assert rig.node.role is Role.CANDIDATE
