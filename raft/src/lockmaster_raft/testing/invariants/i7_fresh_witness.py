"""I7: a fresh witness neither acks nor votes until it has its anchor, which every full voter is past (I6)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lockmaster_raft.messages import AppendEntriesReply, Message, RequestVoteReply
from lockmaster_raft.testing.invariants.base import Invariant

if TYPE_CHECKING:
    from lockmaster_raft.node import Node
    from lockmaster_raft.ready import Send
    from lockmaster_raft.testing.host import Host


class FreshWitness(Invariant):
    """Blank: without a state, its log not begun."""

    rule = "I7 fresh witness"
    messages: tuple[type[Message], ...] = (AppendEntriesReply, RequestVoteReply)

    def transmitting(self, host: Host, node: Node, send: Send) -> None:
        """What would count in a quorum."""
        message = send.message
        if host.state is not None or node.log_first != 1:
            return
        said = isinstance(message, AppendEntriesReply) and message.success
        if said or (isinstance(message, RequestVoteReply) and message.granted):
            self.fail(f"blank witness {host.number} sends {type(message).__name__}")
