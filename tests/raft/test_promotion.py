"""Promotion P1 … P4, abort, D1 … D2, joint swaps, the reduced commit quorum (raft.md §4, §5)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from lockmaster_raft.config import SECOND, RaftConfig
from lockmaster_raft.errors import ChangeRefused, NotReady, ProposalRefused
from lockmaster_raft.events import (
    AbortRoleChange,
    Applied,
    ChangeMember,
    DemoteMember,
    Event,
    PiecesHeld,
    PieceStored,
    PromoteMember,
    Receive,
    RemoveMember,
    RequestRead,
    SetReducedCommit,
    SideOpened,
    SideReady,
    SnapshotReady,
    StorageReport,
    SwapMember,
    TransferLeadership,
)
from lockmaster_raft.ids import Index, NodeId, Term
from lockmaster_raft.membership import (
    Configuration,
    MemberPhase,
    MemberRole,
    decode_configuration,
    encode_configuration,
)
from lockmaster_raft.messages import (
    AppendEntriesReply,
    Coverage,
    FetchPieceReply,
    InstallSnapshot,
    Message,
    WitnessReport,
)
from lockmaster_raft.ready import AdoptSide, Appended, DropState, FinishSide, OpenSide, Refused, Role, StorePiece
from lockmaster_raft.role_policy import RolePolicy
from lockmaster_raft.storage import SideState

from .rig import Cluster, Rig, append, base, config_entry, configuration, entries, header, member
from .shapes import CALM, SHAPES, add, join, report, shaped, standing, until, write

FULL = (MemberRole.FULL, MemberPhase.STEADY)
WITNESS = (MemberRole.WITNESS, MemberPhase.STEADY)
PROMOTING = (MemberRole.WITNESS, MemberPhase.PROMOTING)
DEMOTING = (MemberRole.FULL, MemberPhase.DEMOTING)


def asked(cluster: Cluster, event: Event) -> ProposalRefused | None:
    """Why the leader refuses it, or None."""
    cluster.step(cluster.leader, event)
    answer = cluster.proposals[-1]
    return answer.error if isinstance(answer, Refused) else None


def kinds(cluster: Cluster, number: int) -> list[type]:
    return [type(action) for n, action in cluster.state_actions if n == number]


# --- promotion -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
def test_a_witness_is_promoted_in_place_while_writes_go_on(shape: tuple[int, int]) -> None:
    cluster = shaped(*shape)
    number = sum(shape)
    write(cluster, 20)
    report(cluster)
    cluster.down.add(2)
    assert asked(cluster, PromoteMember(5, NodeId(number))) is None
    before = cluster.nodes[1].commit_index
    last = write(cluster, 30)
    assert cluster.nodes[1].commit_index >= last - 1 > before
    until(cluster, lambda: standing(cluster, number) == FULL)
    cluster.run(SECOND)
    assert kinds(cluster, number) == [OpenSide, FinishSide, AdoptSide]
    assert cluster.nodes[number].serves_state
    applied = [e.index for e in cluster.applied[number]]
    assert applied == list(range(applied[0], cluster.nodes[1].commit_index + 1))


def test_reads_that_begin_rounds_all_the_time_do_not_put_a_promotion_off() -> None:
    """They put off the heartbeat and with it Coverage, whose answer asks for the snapshot: P2 waited for the load."""
    cluster = shaped()
    assert asked(cluster, PromoteMember(5, NodeId(3))) is None
    for read_id in range(1, 601):
        cluster.step(1, RequestRead(read_id))
        cluster.run(SECOND // 200)
    assert standing(cluster, 3) == FULL


def test_p2_the_snapshot_is_not_older_than_p1() -> None:
    """WR 3.5: one made before P1 was applied knows nothing of the promotion."""
    cluster = shaped()
    write(cluster, 20)
    report(cluster)
    join(cluster, 4)  # has the leader make a snapshot now
    write(cluster, 20)
    asked(cluster, PromoteMember(5, NodeId(3)))
    p1 = cluster.nodes[1].last_index
    until(cluster, lambda: standing(cluster, 3) == FULL)
    offered = [s.message for s in cluster.sends if isinstance(s.message, InstallSnapshot) and s.to == 3]
    assert offered
    assert all(m.last_index >= p1 for m in offered)


def cut_after(stage: str) -> Cluster:
    """2+1 with 2 down and a promotion held at that stage."""
    cluster = shaped()
    write(cluster, 20)
    cluster.down.add(2)
    cut: Callable[[int, int, Message], bool]
    if stage == "fetching":
        cut = lambda sender, receiver, message: isinstance(message, InstallSnapshot)  # noqa: E731
    else:
        cut = lambda sender, receiver, message: (  # noqa: E731
            isinstance(message, WitnessReport) and message.ready_epoch > 0
        )
    cluster.cut = cut
    assert asked(cluster, PromoteMember(5, NodeId(3))) is None
    until(cluster, lambda: cluster.nodes[3].promotion is not None and cluster.nodes[3].promotion[1] == stage)
    return cluster


@pytest.mark.parametrize("stage", ["fetching", "ready"])
def test_abort_drops_the_side_state_and_the_witness_goes_on(stage: str) -> None:
    cluster = cut_after(stage)
    assert asked(cluster, AbortRoleChange(6, NodeId(3))) is None
    cluster.run(SECOND)
    assert standing(cluster, 3) == WITNESS
    assert cluster.nodes[3].promotion is None
    assert kinds(cluster, 3)[-1] is DropState
    assert not cluster.nodes[3].serves_state
    last = write(cluster, 5)
    assert cluster.nodes[3].commit_index >= last - 1


def test_a_promotion_that_does_not_finish_is_aborted_in_time() -> None:
    roles = RolePolicy(promote_after_ns=3600 * SECOND, change_timeout_ns=5 * SECOND)
    cluster = shaped(config=replace(CALM, role_policy=roles))
    cluster.down.add(2)
    cluster.cut = lambda sender, receiver, message: isinstance(message, InstallSnapshot)
    asked(cluster, PromoteMember(5, NodeId(3)))
    cluster.run(8 * SECOND)
    assert standing(cluster, 3) == WITNESS
    assert any(a.code == "promotion_aborted" for _, a in cluster.alarms)


def test_a_new_leader_believes_no_readiness_from_before_its_term() -> None:
    cluster = cut_after("ready")
    cluster.down.discard(2)
    cluster.step(2, StorageReport(Index(0), 0, 0))
    cluster.run(3 * SECOND)
    assert asked(cluster, TransferLeadership(9, NodeId(2))) is None
    cluster.run(2 * SECOND)
    assert cluster.leader == 2
    assert standing(cluster, 3) == PROMOTING
    cluster.cut = lambda sender, receiver, message: False
    cluster.run(2 * SECOND)
    assert standing(cluster, 3) == FULL


def test_p4_does_not_believe_a_late_report_of_an_earlier_promotion() -> None:
    cluster = cut_after("ready")
    cluster.run(SECOND // 2)
    late = [s.message for s in cluster.sends if isinstance(s.message, WitnessReport) and s.message.ready_epoch > 0][-1]
    asked(cluster, AbortRoleChange(6, NodeId(3)))
    cluster.run(SECOND)
    cluster.cut = lambda sender, receiver, message: isinstance(message, InstallSnapshot | WitnessReport)
    assert asked(cluster, PromoteMember(7, NodeId(3))) is None
    cluster.run(SECOND // 10)
    cluster.step(1, Receive(late))
    cluster.run(SECOND // 2)
    in_force = {m.member_id: (m.role, m.phase) for m in cluster.nodes[1].configuration.members}
    assert in_force[NodeId(3)] == PROMOTING  # the witness would take no such P4


def test_nothing_else_changes_while_a_promotion_runs() -> None:
    cluster = cut_after("fetching")
    for event in (add(9), RemoveMember(1, NodeId(2)), DemoteMember(1, NodeId(2)), SetReducedCommit(1, True)):
        assert isinstance(asked(cluster, event), NotReady)


def test_nobody_truncates_from_p1_to_its_end() -> None:
    cluster = cut_after("ready")
    first = (cluster.nodes[1].log_first, cluster.nodes[3].log_first)
    write(cluster, 50)
    report(cluster)
    assert (cluster.nodes[1].log_first, cluster.nodes[3].log_first) == first


@pytest.mark.parametrize(
    ("event", "kind"),
    [
        (PromoteMember(1, NodeId(2)), ChangeRefused),
        (PromoteMember(1, NodeId(9)), ChangeRefused),
        (DemoteMember(1, NodeId(1)), ChangeRefused),
        (DemoteMember(1, NodeId(2)), ChangeRefused),
        (DemoteMember(1, NodeId(3)), ChangeRefused),
        (AbortRoleChange(1, NodeId(3)), ChangeRefused),
        (SwapMember(1, NodeId(2), NodeId(3)), ChangeRefused),
        (SwapMember(1, NodeId(1), NodeId(3)), ChangeRefused),
        (SetReducedCommit(1, True), ChangeRefused),
        (ChangeMember(1, member(3, role=MemberRole.FULL)), ChangeRefused),
        (PromoteMember(1, NodeId(3), 1), ChangeRefused),
        (RemoveMember(1, NodeId(2)), ChangeRefused),
    ],
)
def test_what_is_refused_at_2_1(event: Event, kind: type) -> None:
    assert isinstance(asked(shaped(), event), kind)


def test_a_promotion_needs_twice_the_state_s_room() -> None:
    cluster = shaped()
    cluster.step(1, StorageReport(cluster.nodes[1].applied, 1 << 40, 0, state_bytes=1000))
    cluster.step(3, StorageReport(Index(0), 1999, 0))
    cluster.run(SECOND)
    error = asked(cluster, PromoteMember(1, NodeId(3)))
    assert isinstance(error, NotReady)
    assert "1999" in str(error)
    cluster.step(3, StorageReport(Index(0), 2000, 0))
    cluster.run(SECOND)
    assert asked(cluster, PromoteMember(1, NodeId(3))) is None


# --- one node, arrow by arrow -------------------------------------------------------------------------------------

TWO_ONE = configuration((1, 2, 3), witnesses=(3,))
P1 = replace(TWO_ONE.with_member(member(3, role=MemberRole.WITNESS, phase=MemberPhase.PROMOTING)))
P4 = P1.with_member(member(3))
ABORT = P1.with_member(member(3, role=MemberRole.WITNESS))
SNAPSHOT = InstallSnapshot(
    header(1, 2, 3), 1, Index(5), Term(1), P1, Index(4), base(TWO_ONE, level=2).levels, (b"d" * 32,), 5, (NodeId(1),)
)


def promoting(*, side: SideState | None = None, adopted: int | None = None, log: int = 8) -> Rig:
    """Member 3 with P1 at index 4, entries up to `log`, followed by nobody yet."""
    held = [*entries(2, 1, 1), config_entry(4, 1, P1), *entries(5, *[1] * (log - 4))]
    start = base(TWO_ONE, level=2)
    own = adopted is not None
    return Rig(start=start, log=held, node_id=3, term=2, has_state=own, side=side, applied=adopted)


def led(rig: Rig, prev: tuple[int, int], *new: object, commit: int) -> None:
    message = append(1, 2, prev, list(new), commit=commit)  # type: ignore[arg-type]
    rig.receive(replace(message, header=header(1, 2, 3)))
    if rig.ready.persist is not None:
        rig.synced()


def covered(rig: Rig) -> WitnessReport:
    rig.receive(Coverage(header(1, 2, 3), Index(2)))
    return rig.only(WitnessReport)


def test_p1_takes_effect_when_it_is_committed() -> None:
    rig = promoting()
    led(rig, (8, 1), commit=3)
    assert covered(rig).snapshot_min == 0
    led(rig, (8, 1), commit=8)
    assert covered(rig).snapshot_min == 4


def test_a_ready_side_state_survives_a_crash_and_is_told_again() -> None:
    rig = promoting(side=SideState(2, Index(6)))
    led(rig, (8, 1), commit=8)
    assert [e.index for e in rig.ready.apply] == [7, 8]
    rig.step(Applied(Index(8)))
    told = covered(rig)
    assert (told.ready_epoch, told.ready_index) == (2, 8)
    assert not rig.node.serves_state


def test_p4_is_adopted_when_it_is_committed() -> None:
    rig = promoting(side=SideState(2, Index(6)))
    led(rig, (8, 1), config_entry(9, 2, P4), commit=8)
    assert not rig.ready.state
    assert not rig.node.serves_state
    led(rig, (9, 2), commit=9)
    assert rig.ready.state == (AdoptSide(2),)
    assert rig.node.serves_state
    assert rig.node.role is Role.FOLLOWER


def test_an_abort_that_is_not_committed_drops_nothing() -> None:
    rig = promoting(side=SideState(2, Index(6)))
    led(rig, (8, 1), config_entry(9, 2, ABORT), commit=8)
    assert not rig.ready.state
    led(rig, (9, 2), commit=9)
    assert rig.ready.state == (DropState(),)
    rig.step(Applied(Index(8)))  # the host had it under way
    assert rig.node.applied == 9


def test_a_side_state_of_another_promotion_is_dropped() -> None:
    rig = promoting(side=SideState(1, Index(6)))
    assert rig.ready.state == (DropState(),)


def test_a_boot_after_adoption_keeps_the_state_though_p4_is_not_applied_yet() -> None:
    rig = promoting(adopted=6)
    assert not rig.ready.state


def opened(rig: Rig) -> None:
    led(rig, (8, 1), commit=8)
    rig.receive(SNAPSHOT)
    rig.step(PiecesHeld(Index(5), ()))
    rig.receive(FetchPieceReply(header(1, 2, 3), Index(5), 0, True, b"data"))
    (piece,) = rig.ready.pieces
    assert isinstance(piece, StorePiece)
    rig.step(PieceStored(Index(5), 0))


def test_p2_to_p3_the_side_state_is_fed_from_the_own_log() -> None:
    rig = promoting()
    opened(rig)
    (action,) = rig.ready.state
    assert isinstance(action, OpenSide)
    assert action.epoch == 2
    rig.step(SideOpened(2, Index(5)))
    assert [e.index for e in rig.ready.apply] == [6, 7, 8]
    assert rig.ready.state == (FinishSide(2),)
    rig.step(SideReady(2, Index(5)))
    assert rig.node.promotion == (2, "ready")


def test_an_answer_of_another_promotion_is_ignored() -> None:
    rig = promoting()
    opened(rig)
    rig.step(SideOpened(7, Index(5)))
    assert rig.node.promotion == (2, "opening")
    assert rig.node.refusals["side state of no promotion under way"] == 1


def test_a_snapshot_of_a_dropped_state_is_not_served() -> None:
    rig = promoting()
    rig.step(SnapshotReady(Index(3), Term(1), TWO_ONE, Index(1), base(TWO_ONE, level=2).levels, (b"d" * 32,), 5))
    assert rig.node.refusals["snapshot of a state that was dropped"] == 1


def test_a_snapshot_that_nobody_waits_for_is_refused() -> None:
    rig = promoting()
    led(rig, (8, 1), commit=8)
    rig.receive(replace(SNAPSHOT, last_index=Index(3), configuration_index=Index(1)))
    assert rig.node.fetching is None


# --- demotion --------------------------------------------------------------------------------------------------------


def promoted(shape: tuple[int, int] = (2, 1), config: RaftConfig = CALM) -> Cluster:
    """The shape with its last witness promoted and everybody there."""
    cluster = shaped(*shape, config)
    asked(cluster, PromoteMember(5, NodeId(sum(shape))))
    until(cluster, lambda: standing(cluster, sum(shape)) == FULL)
    cluster.run(SECOND)
    return cluster


@pytest.mark.parametrize("shape", SHAPES)
def test_the_shape_is_restored_and_the_state_dropped_after_d2(shape: tuple[int, int]) -> None:
    cluster = promoted(shape)
    number = sum(shape)
    assert asked(cluster, DemoteMember(6, NodeId(number))) is None
    until(cluster, lambda: standing(cluster, number) == WITNESS)
    cluster.run(SECOND)
    assert kinds(cluster, number)[-1] is DropState
    assert cluster.nodes[number].role is Role.WITNESS
    last = write(cluster, 10)
    report(cluster)
    cluster.run(SECOND)
    assert cluster.nodes[number].log_first > last - 5


def test_d1_ends_privileges_when_it_is_appended_and_keeps_the_state() -> None:
    cluster = promoted()
    cluster.cut = lambda sender, receiver, message: isinstance(message, AppendEntriesReply)
    asked(cluster, DemoteMember(6, NodeId(3)))
    cluster.run(SECOND // 10)
    node = cluster.nodes[3]
    assert node.own_member is not None
    assert node.own_member.phase is MemberPhase.DEMOTING
    assert not node.serves_state
    assert DropState not in kinds(cluster, 3)


def test_d2_waits_for_every_other_full_voter() -> None:
    cluster = promoted()
    asked(cluster, DemoteMember(6, NodeId(3)))
    cluster.down.add(2)
    cluster.run(3 * SECOND)
    assert standing(cluster, 3) == DEMOTING
    assert DropState not in kinds(cluster, 3)
    cluster.down.discard(2)
    cluster.step(2, StorageReport(Index(0), 0, 0))
    cluster.run(3 * SECOND)
    assert standing(cluster, 3) == WITNESS


def test_an_aborted_demotion_leaves_a_full_member() -> None:
    cluster = promoted()
    cluster.down.add(2)
    cluster.run(SECOND // 10)
    asked(cluster, DemoteMember(6, NodeId(3)))
    cluster.run(SECOND // 10)
    assert asked(cluster, AbortRoleChange(7, NodeId(3))) is None
    cluster.run(SECOND)
    assert standing(cluster, 3) == FULL
    assert cluster.nodes[3].serves_state


def test_i9_a_demoting_voter_that_is_elected_hands_over() -> None:
    cluster = promoted()
    asked(cluster, DemoteMember(6, NodeId(3)))
    cluster.down |= {1, 2}
    cluster.run(SECOND)
    cluster.down.discard(2)
    cluster.step(2, StorageReport(Index(0), 0, 0))
    cluster.cut = lambda sender, receiver, message: False
    until(cluster, lambda: bool(cluster.leaders()) and cluster.nodes[cluster.leader].admits_writes)
    assert cluster.leader in (2, 3)


def test_i9_a_demoting_voter_that_nobody_relieves_stays_full() -> None:
    rig = Rig(start=base(D1, level=2), log=entries(2, 1), node_id=3)
    assert not rig.node.serves_state
    timeout = rig.config.election_timeout_ns
    assert rig.ready.next_deadline - rig.now >= 2 * timeout


D1 = configuration((1, 2, 3)).with_member(member(3, phase=MemberPhase.DEMOTING))


def test_i9_the_end_of_a_demotion_gives_privileges_back_when_it_is_committed() -> None:
    rig = Rig(start=base(D1, level=2), log=entries(2, 1), node_id=3, term=2)
    led(rig, (2, 1), config_entry(3, 2, D1.with_member(member(3))), commit=2)
    assert not rig.node.serves_state
    led(rig, (3, 2), commit=3)
    assert rig.node.serves_state


# --- joint swaps -----------------------------------------------------------------------------------------------------


def test_a_replica_lost_for_good_is_swapped_in_one_joint_change() -> None:
    """Add-then-remove would need all three that live; the joint step needs A and W only."""
    cluster = shaped()
    cluster.down.add(2)
    join(cluster, 4, promote=False)
    assert cluster.nodes[1].configuration.voter_ids == (1, 2, 3)
    assert asked(cluster, SwapMember(5, NodeId(2), NodeId(4))) is None
    seen: set[tuple[int, ...]] = set()
    for _ in range(100):
        seen.add(cluster.nodes[1].configuration.outgoing)
        cluster.run(SECOND // 500)
    assert (1, 2, 3) in seen
    assert cluster.nodes[1].configuration.voter_ids == (1, 3, 4)
    assert cluster.nodes[1].configuration.member(NodeId(2)) is None
    assert cluster.nodes[1].configuration.outgoing == ()


def test_a_swapped_out_member_hears_of_it() -> None:
    cluster = shaped()
    join(cluster, 4, promote=False)
    asked(cluster, SwapMember(5, NodeId(2), NodeId(4)))
    cluster.run(3 * SECOND)
    assert cluster.nodes[2].is_removed


def test_4_3_a_joint_change_needs_both_majorities() -> None:
    cluster = shaped()
    join(cluster, 4, promote=False)
    cluster.cut = lambda sender, receiver, message: {sender, receiver} & {2, 3} != set()
    cluster.step(1, SwapMember(5, NodeId(2), NodeId(4)))
    cluster.run(SECOND // 2)
    node = cluster.nodes[1]
    assert node.configuration.outgoing == (1, 2, 3)
    assert node.configuration_index > node.commit_index


def test_4_3_a_new_leader_leaves_the_joint_change_only_once_it_is_committed() -> None:
    """Row 46."""
    cluster = shaped(3, 0)
    join(cluster, 4, promote=False)
    cluster.cut = lambda sender, receiver, message: isinstance(message, AppendEntriesReply) and receiver == 1
    cluster.step(1, SwapMember(5, NodeId(2), NodeId(4)))
    cluster.run(SECOND // 10)
    cluster.down.add(1)
    cluster.cut = lambda sender, receiver, message: False
    until(cluster, lambda: bool(cluster.leaders()))
    until(cluster, lambda: cluster.nodes[cluster.leader].configuration.outgoing == ())
    assert cluster.nodes[cluster.leader].configuration.voter_ids in ((1, 3, 4), (1, 2, 3))


def test_a_witness_can_be_swapped_too() -> None:
    cluster = shaped()
    join(cluster, 4, MemberRole.WITNESS, promote=False)
    assert asked(cluster, SwapMember(5, NodeId(3), NodeId(4))) is None
    cluster.run(SECOND)
    assert cluster.nodes[1].configuration.voter_ids == (1, 2, 4)
    assert cluster.nodes[4].role is Role.WITNESS


# --- the reduced commit quorum ------------------------------------------------------------------------------------


def four() -> Cluster:
    cluster = shaped(4, 0)
    assert asked(cluster, SetReducedCommit(1, True)) is None
    cluster.run(SECOND)
    return cluster


def test_5_half_of_four_commit_and_lead() -> None:
    cluster = four()
    cluster.down |= {3, 4}
    last = write(cluster, 5)
    cluster.run(5 * SECOND)
    assert cluster.leaders() == [1]
    assert cluster.nodes[1].commit_index == last


def test_5_three_of_four_elect() -> None:
    cluster = four()
    cluster.down |= {1, 4}
    cluster.run(20 * SECOND)
    assert cluster.leaders() == []
    cluster.down.discard(4)
    cluster.step(4, StorageReport(Index(0), 0, 0))
    until(cluster, lambda: bool(cluster.leaders()))


def test_5_it_changes_voters_jointly_and_by_plain_majorities() -> None:
    cluster = four()
    assert asked(cluster, RemoveMember(2, NodeId(4))) is None
    assert cluster.nodes[1].configuration.outgoing == (1, 2, 3, 4)
    cluster.run(SECOND)
    assert cluster.nodes[1].configuration.voter_ids == (1, 2, 3)
    cluster = four()
    cluster.down |= {3, 4}
    cluster.run(2 * SECOND)
    assert isinstance(asked(cluster, ChangeMember(1, replace(member(2), name="other"))), NotReady)


def test_5_half_commit_nothing_while_a_change_is_uncommitted() -> None:
    cluster = four()
    cluster.down |= {3, 4}
    before = cluster.nodes[1].commit_index
    assert asked(cluster, ChangeMember(1, replace(member(2), name="other"))) is None
    cluster.run(SECOND // 4)
    assert cluster.leaders() == [1]
    assert cluster.nodes[1].commit_index == before
    cluster.down.discard(4)
    until(cluster, lambda: cluster.nodes[1].commit_index > before)


def test_5_beside_a_witness_it_is_refused_both_ways() -> None:
    assert isinstance(asked(shaped(3, 1), SetReducedCommit(1, True)), ChangeRefused)
    assert isinstance(asked(four(), add(5, MemberRole.WITNESS)), ChangeRefused)


def test_a_configuration_of_level_1_is_encoded_as_0_1_0_did() -> None:
    conf = configuration((1, 2, 3), epoch=7)
    payload = encode_configuration(conf)
    assert payload[16:18] == b"\x00\x02"
    assert decode_configuration(payload) == conf


def test_a_configuration_of_level_2_survives_its_encoding() -> None:
    conf = Configuration(
        9,
        (member(1), member(2, voter=False, phase=MemberPhase.LEAVING), member(3, role=MemberRole.WITNESS)),
        NodeId(4),
        2,
        (NodeId(1), NodeId(2), NodeId(3)),
        True,
    )
    assert decode_configuration(encode_configuration(conf)) == conf


def test_appended_names_the_member() -> None:
    cluster = shaped()
    cluster.step(1, PromoteMember(5, NodeId(3)))
    answer = cluster.proposals[-1]
    assert isinstance(answer, Appended)
    assert answer.member_id == 3
