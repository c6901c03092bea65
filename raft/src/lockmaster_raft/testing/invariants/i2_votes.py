"""I2: a vote goes to a log at least as new, by whoever votes; (term, index), never the index alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lockmaster_raft.messages import Message, RequestVote, RequestVoteReply
from lockmaster_raft.testing.invariants.base import Invariant

if TYPE_CHECKING:
    from lockmaster_raft.node import Node
    from lockmaster_raft.ready import Send
    from lockmaster_raft.testing.checker import Checker
    from lockmaster_raft.testing.host import Host


class Votes(Invariant):
    """Remembers what each candidate said of its log."""

    rule = "I2 votes"
    messages: tuple[type[Message], ...] = (RequestVote, RequestVoteReply)

    def __init__(self, checker: Checker) -> None:
        super().__init__(checker)
        self._asked: dict[tuple[int, int], tuple[int, int]] = {}

    def transmitting(self, host: Host, node: Node, send: Send) -> None:
        """Each request, and the votes that are given for it."""
        message = send.message
        if isinstance(message, RequestVote):
            self._asked[(message.header.sender, message.header.term)] = (message.last_term, message.last_index)
        elif isinstance(message, RequestVoteReply) and message.granted:
            asked = self._asked.get((send.to, message.header.term))
            mine = (message.last_term, message.last_index)
            if asked is None or asked < mine:
                self.fail(f"host {host.number} with {mine} votes for member {send.to} with {asked}")
