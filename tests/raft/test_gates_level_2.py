"""What level 2 allows, and when (raft.md §6, I9, I13)."""

from __future__ import annotations

from dataclasses import replace

from lockmaster_raft.config import SECOND
from lockmaster_raft.events import (
    ChangeMember,
    DemoteMember,
    Event,
    ProposeGate,
    SetReducedCommit,
    SwapMember,
)
from lockmaster_raft.ids import NodeId
from lockmaster_raft.membership import MemberRole
from lockmaster_raft.messages import (
    AppendEntries,
    Coverage,
    InstallAnchor,
    WitnessReport,
)
from lockmaster_raft.ready import Appended, Refused, Role

from .rig import Cluster, member
from .test_gates import ACTIVATE, DEACTIVATE, FENCE, add, admin, ask, grown, refusal
from .test_log_replication import ack, leading, to


def level_2_changes(cluster: Cluster) -> list[Event]:
    """One change of each kind that level 2 brings, none of which is refused for another reason first."""
    witness = replace(add(9, 2), role=MemberRole.WITNESS)
    return [witness, DemoteMember(1, NodeId(3)), SwapMember(2, NodeId(3), NodeId(4)), SetReducedCommit(3, True)]


def test_i13_an_upgraded_cluster_has_no_witnesses_before_activate_is_committed() -> None:
    """FENCE is not enough, nor an ACTIVATE that may still be rolled back: every member has promised by its commit."""
    cluster = grown(2, 2, 2)
    why = "witness roles and joint changes need level 2; this cluster runs at level 1"
    for event in level_2_changes(cluster):
        assert refusal(admin(cluster, event)) == why
    assert isinstance(ask(cluster, FENCE), Appended)
    for event in level_2_changes(cluster):
        assert refusal(admin(cluster, event)) == why
    cluster.cut = lambda sender, receiver, message: isinstance(message, AppendEntries)
    activate = ask(cluster, ACTIVATE)
    assert isinstance(activate, Appended)
    open_gate = admin(cluster, level_2_changes(cluster)[0])
    assert isinstance(open_gate, Refused)
    assert str(open_gate.error) == f"the gate entry at index {activate.index} is not committed yet"
    assert not cluster.nodes[1]._core.witness_level
    cluster.cut = lambda sender, receiver, message: False
    cluster.run(2 * SECOND)
    assert isinstance(admin(cluster, level_2_changes(cluster)[0]), Appended)


def test_i13_a_witness_joins_an_upgraded_cluster_and_holds_its_level() -> None:
    cluster = grown(2, 2)
    ask(cluster, FENCE)
    ask(cluster, ACTIVATE)
    assert refusal(admin(cluster, replace(add(3), role=MemberRole.WITNESS))).startswith("m3 knows levels up to 1")
    cluster.step(1, replace(add(3, 2), role=MemberRole.WITNESS))
    cluster.run(SECOND // 20)
    cluster.boot(3, has_state=False)
    cluster.run(3 * SECOND)
    assert cluster.nodes[3].role is Role.WITNESS
    assert cluster.nodes[3].levels.active == cluster.level[3] == 2
    assert refusal(ask(cluster, DEACTIVATE)) == "level 2 is in use: member 3 (m3) is a witness"


def test_i9_what_level_2_allows_ends_when_its_deactivate_is_appended() -> None:
    cluster = grown(2, 2)
    ask(cluster, FENCE)
    ask(cluster, ACTIVATE)
    assert cluster.nodes[1]._core.witness_level
    assert isinstance(admin(cluster, ProposeGate(9, DEACTIVATE, 2)), Appended)
    assert not cluster.nodes[1]._core.witness_level


def test_i13_nothing_of_level_2_is_sent_at_level_1() -> None:
    cluster = grown(2, 2, 2)
    cluster.run(3 * SECOND)
    later = (InstallAnchor, Coverage, WitnessReport)
    assert cluster.sends
    assert not any(isinstance(send.message, later) for send in cluster.sends)


def test_i13_the_role_in_a_record_changes_by_promotion_and_demotion_only() -> None:
    rig = leading()
    (answer,) = rig.step(ChangeMember(1, replace(member(3), role=MemberRole.WITNESS))).proposals
    assert isinstance(answer, Refused)
    assert str(answer.error) == "the role of member 3 changes by promotion and demotion only"


def test_the_leaders_own_promise_counts_when_durable() -> None:
    rig = leading()
    for number in (2, 3):
        rig.node._core.progress[NodeId(number)].level_max = 2
    rig.step(ProposeGate(1, FENCE, 2))
    (request,) = to(rig, 2)
    rig.synced()
    ready = rig.receive(ack(2, 2, request))
    assert rig.node.levels.index == 3
    assert ready.persist is not None
    assert ready.persist.level == 2
    assert rig.node.member_levels()[0].fence_index == 0
    rig.synced()
    assert rig.node.member_levels()[0].fence_index == 3
