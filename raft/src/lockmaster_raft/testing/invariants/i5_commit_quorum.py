"""I5: what a leader commits is durable, as this very entry, on a majority of its voters' disks; §3.6.2 besides."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lockmaster_raft.ready import Role
from lockmaster_raft.testing.invariants.base import Invariant

if TYPE_CHECKING:
    from lockmaster_raft.node import Node
    from lockmaster_raft.testing.host import Host


class CommitQuorum(Invariant):
    """Looks at the disks at the moment of a leader's commit."""

    rule = "I5 commit quorum"

    def commits(self, host: Host, node: Node, old: int, new: int) -> None:
        """Only a leader decides; the others were told."""
        if node.role is not Role.LEADER:
            return
        term = self.checker.shadow[host.number].term(new)  # type: ignore[arg-type]
        if term != node.term:
            self.fail(f"leader {host.number} of term {node.term} counts copies of {new} of term {term} (§3.6.2)")
        configuration = node.configuration
        for voters in (configuration.voter_ids, configuration.outgoing):
            if not voters:
                continue
            copies = sum(self._holds(member, new, term) for member in voters)
            if copies <= len(voters) // 2:
                self.fail(f"leader {host.number} commits {new} with {copies} durable of {len(voters)} voters")

    def _holds(self, member_id: int, index: int, term: int | None) -> bool:
        for host in self.checker.cluster.hosts:
            if host.member_id == member_id and host.disk is not None:
                store = host.disk.store
                return store.base.index >= index or store.term(index) == term  # type: ignore[arg-type]
        return False
