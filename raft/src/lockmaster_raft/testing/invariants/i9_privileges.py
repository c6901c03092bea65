"""I9: privileges gained start when applied, lost ones end on append: truncation, leadership, deleting the state."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lockmaster_raft.entry import DATA
from lockmaster_raft.membership import MemberPhase
from lockmaster_raft.ready import LEADER
from lockmaster_raft.testing.invariants.base import Invariant

if TYPE_CHECKING:
    from lockmaster_raft.events import Event
    from lockmaster_raft.node import Node
    from lockmaster_raft.ready import Ready
    from lockmaster_raft.testing.host import Host


class Privileges(Invariant):
    """Looks at BASE, DATA and DropState of members in a role change."""

    rule = "I9 privileges"

    def stepped(self, host: Host, node: Node, event: Event, ready: Ready) -> None:
        """In a phase: no BASE but a leader's anchor or snapshot, no DATA of an own term."""
        write = ready.persist
        if write is None or (write.base is None and node.role is not LEADER):
            return
        before = node.configuration_at(node.commit_index)[1].member(host.member_id)
        records = [r for r in (node.own_member, before) if r is not None]
        changing = any(r.phase in (MemberPhase.PROMOTING, MemberPhase.DEMOTING) for r in records)
        mixed = len({r.role for r in records}) > 1
        shadow = self.checker.shadow[host.number]
        own_base = write.base is not None and shadow.last_index > write.base.index
        if own_base and (changing or mixed):
            self.fail(f"host {host.number} truncates in a role change")
        if (changing or mixed) and node.role is LEADER:
            if any(e.kind is DATA and e.term == node.term for e in write.entries):
                self.fail(f"leader {host.number} proposes data in its own role change")

    def dropped(self, host: Host) -> None:
        """Only a committed configuration makes somebody delete its state."""
        node = host.node
        record = node.committed_configuration.member(host.member_id) if node is not None else None
        if record is None or record.is_full:
            self.fail(f"host {host.number} drops its state as {record}")
