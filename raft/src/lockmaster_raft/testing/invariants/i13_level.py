"""I13: a WITNESS role, a joint change, the reduced commit quorum appear only with level 2 active."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lockmaster_raft.entry import EntryKind
from lockmaster_raft.membership import WITNESS_LEVEL, decode_configuration
from lockmaster_raft.ready import Role
from lockmaster_raft.testing.invariants.base import Invariant

if TYPE_CHECKING:
    from lockmaster_raft.events import Event
    from lockmaster_raft.node import Node
    from lockmaster_raft.ready import Ready
    from lockmaster_raft.testing.host import Host


class WitnessLevel(Invariant):
    """Looks at each CONFIG that a leader appends."""

    rule = "I13 witness level"

    def stepped(self, host: Host, node: Node, event: Event, ready: Ready) -> None:
        """The level in force where it is appended."""
        if ready.persist is None or node.role is not Role.LEADER or node.levels.active >= WITNESS_LEVEL:
            return
        for entry in ready.persist.entries:
            if entry.kind is EntryKind.CONFIG:
                after = decode_configuration(entry.payload)
                if after.outgoing or after.reduced_commit or any(not m.is_full or m.phase for m in after.members):
                    self.fail(f"leader {host.number} appends {after} at level {node.levels.active}")
