"""I10: at most one uncommitted CONFIG or GATE entry; consecutive configurations differ by one voter (I11, §4.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lockmaster_raft.entry import CONFIG, DATA, GATE
from lockmaster_raft.membership import decode_configuration
from lockmaster_raft.ready import LEADER
from lockmaster_raft.testing.invariants.base import Invariant

if TYPE_CHECKING:
    from lockmaster_raft.events import Event
    from lockmaster_raft.node import Node
    from lockmaster_raft.ready import Ready
    from lockmaster_raft.testing.host import Host


class OneChange(Invariant):
    """Looks at each CONFIG that a leader appends."""

    rule = "I10 one change at a time"

    def stepped(self, host: Host, node: Node, event: Event, ready: Ready) -> None:
        """Own appends of the leader are those of its term."""
        write = ready.persist
        if write is None or not write.entries or node.role is not LEADER:
            return
        changes = [e for e in write.entries if e.kind in (CONFIG, GATE) and e.term == node.term]
        if not changes:
            return
        shadow = self.checker.shadow[host.number]
        first = max(node.commit_index, shadow.base.index) + 1
        open_changes = [e for e in shadow.log[first - shadow.base.index - 1 :] if e.kind is not DATA]
        open_changes = [e for e in open_changes if e.kind in (CONFIG, GATE)]
        if len(open_changes) > 1:
            self.fail(f"leader {host.number} has uncommitted changes at {[e.index for e in open_changes]}")
        if not any(e.term == node.term for e in shadow.log[: first - shadow.base.index - 1]):
            base_term = shadow.base.term
            if base_term != node.term:
                self.fail(f"leader {host.number} changes members before a commit in term {node.term}")
        if changes[0].kind is not CONFIG:
            return
        previous = [e for e in shadow.log if e.kind is CONFIG and e.index < changes[0].index]
        before = decode_configuration(previous[-1].payload) if previous else shadow.base.configuration
        after = decode_configuration(changes[0].payload)
        if not after.outgoing and not before.outgoing:
            if len(set(before.voter_ids) ^ set(after.voter_ids)) > 1:
                self.fail(f"leader {host.number} changes voters {before.voter_ids} to {after.voter_ids} in one step")
