"""I8: no command lowers the full, steady voters below two; full voters stay the majority beside witnesses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lockmaster_raft.entry import CONFIG
from lockmaster_raft.membership import decode_configuration
from lockmaster_raft.ready import LEADER
from lockmaster_raft.testing.invariants.base import Invariant

if TYPE_CHECKING:
    from lockmaster_raft.events import Event
    from lockmaster_raft.node import Node
    from lockmaster_raft.ready import Ready
    from lockmaster_raft.testing.host import Host


class TwoFull(Invariant):
    """Looks at each CONFIG that a leader appends."""

    rule = "I8 two full voters"

    def stepped(self, host: Host, node: Node, event: Event, ready: Ready) -> None:
        """Against the configuration before it."""
        if ready.persist is None or node.role is not LEADER:
            return
        for entry in ready.persist.entries:
            if entry.kind is not CONFIG or entry.term != node.term:
                continue
            after, before = decode_configuration(entry.payload), node.configuration_at(entry.index - 1)[1]  # type: ignore[arg-type]
            if after.full_voter_count < min(2, before.full_voter_count):
                self.fail(f"leader {host.number} leaves {after.full_voter_count} full voters")
            witnesses = [m for m in after.members if m.voter and not m.is_full]
            if witnesses and 2 * (len(after.voter_ids) - len(witnesses)) <= len(after.voter_ids):
                self.fail(f"leader {host.number}: full voters are no majority of {after.voter_ids}")
