"""What a member that is DEMOTING, or has just become a witness, still does and needs (raft.md §4)."""

from __future__ import annotations

from dataclasses import replace

from lockmaster_raft.config import SECOND
from lockmaster_raft.events import DemoteMember, PromoteMember, StorageReport
from lockmaster_raft.ids import Index, NodeId
from lockmaster_raft.messages import AppendEntriesReply
from lockmaster_raft.role_policy import RolePolicy

from .shapes import CALM, report, shaped, standing, until, write
from .test_promotion import DEMOTING, WITNESS, asked, promoted


def test_i9_a_demoting_voter_that_is_elected_serves_its_state_to_the_only_one_who_could_relieve_it() -> None:
    """It has no privilege left but a state, and the other needs that before either can lead (seed 165)."""
    cluster = promoted(config=replace(CALM, log_bytes_max=1000))
    cluster.down.add(2)
    write(cluster, 30)
    for number in (1, 3):
        cluster.step(number, StorageReport(cluster.nodes[number].applied, 1 << 40, 0))
    assert asked(cluster, DemoteMember(6, NodeId(3))) is None
    until(cluster, lambda: standing(cluster, 3, at=3) == DEMOTING)
    assert cluster.nodes[3].log_first > cluster.nodes[2].last_index + 1
    cluster.down.add(1)
    cluster.down.discard(2)
    cluster.step(2, StorageReport(Index(0), 0, 0))
    until(cluster, lambda: bool(cluster.leaders()) and cluster.nodes[cluster.leader].admits_writes)
    assert cluster.nodes[2].applied > cluster.nodes[3].log_first


def test_who_becomes_a_witness_again_is_not_promoted_for_the_log_it_had_as_a_full_member() -> None:
    """It may cut that only once it knows D2 committed; the leader took the report before for pressure, without end."""
    roles = RolePolicy(promote_after_ns=3600 * SECOND)
    config = replace(CALM, retained_entries_min=10_000, witness_log_bytes_max=40_000, role_policy=roles)
    cluster = shaped(2, 1, config)
    cluster.step(1, PromoteMember(8, NodeId(3)))
    until(cluster, lambda: cluster.nodes[3].serves_state)
    write(cluster, 400)  # the log counts its bytes by 128 entries
    assert cluster.nodes[3]._core.log.bytes_above(0) > 40_000
    report(cluster)
    lead = cluster.nodes[1]

    def d2_appended() -> bool:
        member = lead.configuration.member(NodeId(3))
        return member is not None and not member.is_full

    cluster.cut = lambda sender, receiver, message: isinstance(message, AppendEntriesReply) and d2_appended()
    cluster.step(1, DemoteMember(9, NodeId(3)))
    until(cluster, d2_appended)
    cluster.run(SECOND // 2)
    assert standing(cluster, 3) == DEMOTING
    cluster.cut = lambda sender, receiver, message: False
    until(cluster, lambda: standing(cluster, 3) == WITNESS)
    cluster.run(5 * SECOND)
    assert [a for _, a in cluster.alarms if a.code == "witness_log"] == []
    assert standing(cluster, 3) == WITNESS
    assert cluster.nodes[3].log_first > 200
