"""I13: a WITNESS role, a joint change, the reduced commit quorum appear only with level 2 active.

And raft.md §6: no message of level 2 goes to a member whose binary knows level 1 only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lockmaster_raft.entry import CONFIG
from lockmaster_raft.membership import WITNESS_LEVEL, decode_configuration
from lockmaster_raft.messages import Coverage, InstallAnchor, Message, WitnessReport
from lockmaster_raft.ready import LEADER
from lockmaster_raft.testing.invariants.base import Invariant

if TYPE_CHECKING:
    from lockmaster_raft.events import Event
    from lockmaster_raft.node import Node
    from lockmaster_raft.ready import Ready, Send
    from lockmaster_raft.testing.host import Host


class WitnessLevel(Invariant):
    """Looks at each CONFIG that a leader appends, and at who is sent what."""

    rule = "I13 witness level"
    messages: tuple[type[Message], ...] = (InstallAnchor, Coverage, WitnessReport)

    def stepped(self, host: Host, node: Node, event: Event, ready: Ready) -> None:
        """The level in force where it is appended."""
        if ready.persist is None or node.role is not LEADER or node.levels.active >= WITNESS_LEVEL:
            return
        for entry in ready.persist.entries:
            if entry.kind is CONFIG:
                after = decode_configuration(entry.payload)
                if after.outgoing or after.reduced_commit or any(not m.is_full or m.phase for m in after.members):
                    self.fail(f"leader {host.number} appends {after} at level {node.levels.active}")

    def transmitting(self, host: Host, node: Node, send: Send) -> None:
        """An older binary has no decoder for these: it would close the connection."""
        cluster = self.checker.cluster
        to = next((h for h in cluster.hosts if h.member_id == send.to), None)
        if to is not None and to.node is not None and to.level_max < WITNESS_LEVEL:
            name = type(send.message).__name__
            self.fail(f"host {host.number} sends {name} to host {to.number}, whose binary knows level {to.level_max}")
