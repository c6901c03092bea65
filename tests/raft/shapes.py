"""Clusters with witnesses, grown as real ones are: genesis of one, the others joined."""

from __future__ import annotations

from collections.abc import Callable

from lockmaster_raft.config import SECOND, RaftConfig
from lockmaster_raft.events import AddMember, Propose, StorageReport
from lockmaster_raft.ids import Index, NodeId
from lockmaster_raft.membership import LEVEL_MAX, MemberPhase, MemberRole
from lockmaster_raft.role_policy import RolePolicy

from .rig import Cluster

SHAPES = ((2, 1), (3, 2))
"""Every witness rule is tested at both (style.md)."""
CALM = RaftConfig(retained_entries_min=1, role_policy=RolePolicy(promote_after_ns=3600 * SECOND))
"""Logs are truncated at once; nothing is promoted by itself."""


def add(number: int, role: MemberRole = MemberRole.FULL, *, promote: bool = True) -> AddMember:
    where = (f"m{number}", f"m{number}:1", f"m{number}:2")
    return AddMember(50 + number, *where, bytes([number]) * 16, promote, level_max=LEVEL_MAX, role=role)


def shaped(fulls: int = 2, witnesses: int = 1, config: RaftConfig = CALM) -> Cluster:
    """Members 1 … fulls are full, the rest witnesses; 1 leads; level 2 is active."""
    cluster = Cluster(config, level=2)
    cluster.run(SECOND)
    for number in range(2, fulls + witnesses + 1):
        join(cluster, number, MemberRole.FULL if number <= fulls else MemberRole.WITNESS)
    assert len(cluster.nodes[1].configuration.voter_ids) == fulls + witnesses
    return cluster


def join(cluster: Cluster, number: int, role: MemberRole = MemberRole.FULL, *, promote: bool = True) -> None:
    cluster.step(cluster.leader, add(number, role, promote=promote))
    cluster.run(SECOND // 20)
    cluster.boot(number, has_state=role is MemberRole.FULL)
    cluster.run(2 * SECOND)


def write(cluster: Cluster, count: int = 1, payload: bytes = b"x" * 100) -> int:
    """Propose at the leader one by one; the index of the last."""
    lead = cluster.leader
    for _ in range(count):
        cluster.step(lead, Propose(1, payload))
        cluster.run(SECOND // 100)
    return cluster.nodes[lead].last_index


def report(cluster: Cluster) -> None:
    """Every state store has flushed what it applied."""
    for number, node in cluster.nodes.items():
        cluster.step(number, StorageReport(node.applied, 1 << 40, 1_000_000))
    cluster.run(SECOND // 2)


def until(cluster: Cluster, what: Callable[[], bool], seconds: int = 60) -> None:
    """Run in small steps until it is so."""
    for _ in range(seconds * 50):
        if what():
            return
        cluster.run(SECOND // 50)
    raise AssertionError("it did not happen in time")


def standing(cluster: Cluster, number: int, at: int = 0) -> tuple[MemberRole, MemberPhase] | None:
    """Role and phase of a member, as the leader (or `at`) has them committed."""
    node = cluster.nodes[at or cluster.leader]
    member = node.committed_configuration.member(NodeId(number))
    return (member.role, member.phase) if member is not None else None


def log_of(cluster: Cluster, number: int, index: int) -> bytes:
    """The payload that a member's disk holds at `index`."""
    store = cluster.stores[number]
    return store.entries(Index(index), Index(index + 1), 1 << 20)[0].payload


def asked_for_nothing() -> StorageReport:
    """An event that wakes a member that was down."""
    return StorageReport(Index(0), 1 << 40, 0)
