"""I4: a witness that leads appends its NOOP only, serves nothing, names no snapshot, truncates nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lockmaster_raft.entry import NOOP
from lockmaster_raft.messages import Coverage, InstallAnchor, InstallSnapshot, Message, ReadIndexReply
from lockmaster_raft.ready import LEADER
from lockmaster_raft.testing.invariants.base import Invariant

if TYPE_CHECKING:
    from lockmaster_raft.events import Event
    from lockmaster_raft.node import Node
    from lockmaster_raft.ready import Ready, Send
    from lockmaster_raft.testing.host import Host


def is_witness_leader(host: Host, node: Node) -> bool:
    """Leads, and is a witness in force or as far as committed."""
    if node.role is not LEADER:
        return False
    records = [c.member(host.member_id) for c in (node.configuration, node.committed_configuration)]
    return any(record is not None and not record.is_full for record in records)


class Caretaker(Invariant):
    """Looks at what a witness does while it leads."""

    rule = "I4 caretaker"
    messages: tuple[type[Message], ...] = (InstallSnapshot, InstallAnchor, Coverage, ReadIndexReply)

    def stepped(self, host: Host, node: Node, event: Event, ready: Ready) -> None:
        """No entry but the NOOP, no BASE."""
        if not is_witness_leader(host, node):
            return
        write = ready.persist
        if write is None:
            return
        own = [e for e in write.entries if e.term == node.term]
        if any(e.kind is not NOOP for e in own):
            self.fail(f"caretaker {host.number} appends {[e.kind.name for e in own]}")
        if write.base is not None:
            self.fail(f"caretaker {host.number} truncates its log to {write.base.index}")

    def seldom(self, host: Host, node: Node, event: Event, ready: Ready) -> None:
        """No read."""
        if any(read.index is not None for read in ready.reads) and is_witness_leader(host, node):
            self.fail(f"caretaker {host.number} serves a read")

    def transmitting(self, host: Host, node: Node, send: Send) -> None:
        """Nothing that only a full leader may say."""
        message = send.message
        forbidden = not isinstance(message, ReadIndexReply) or message.ok
        if forbidden and message.header.term == node.term and is_witness_leader(host, node):
            self.fail(f"caretaker {host.number} sends {type(message).__name__}")
