"""I3: a full replica votes for a witness only if the witness's log is newer, and no transfer makes one lead."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lockmaster_raft.messages import Message, PreVote, PreVoteReply, RequestVote, RequestVoteReply
from lockmaster_raft.testing.invariants.base import Invariant

if TYPE_CHECKING:
    from lockmaster_raft.node import Node
    from lockmaster_raft.ready import Send
    from lockmaster_raft.testing.checker import Checker
    from lockmaster_raft.testing.host import Host

Asked = RequestVote | PreVote


class WitnessVotes(Invariant):
    """Remembers what each candidate said of its log, in votes and in the rounds before them."""

    rule = "I3 witness votes"
    messages: tuple[type[Message], ...] = (RequestVote, RequestVoteReply, PreVote, PreVoteReply)

    def __init__(self, checker: Checker) -> None:
        super().__init__(checker)
        self._asked: dict[tuple[int, int, bool], tuple[int, int]] = {}

    def transmitting(self, host: Host, node: Node, send: Send) -> None:
        """What a witness asks for, and what full replicas answer it."""
        message = send.message
        if isinstance(message, RequestVote | PreVote):
            own = node.own_member
            if own is None or own.is_full:
                return
            term = message.header.term if isinstance(message, RequestVote) else message.next_term
            key = (message.header.sender, term, isinstance(message, PreVote))
            self._asked[key] = (message.last_term, message.last_index)
            if isinstance(message, RequestVote) and message.transfer:
                self.fail(f"witness {host.number} campaigns on a transfer")
        elif isinstance(message, RequestVoteReply | PreVoteReply) and message.granted:
            self._granted(host, node, send.to, message)

    def _granted(self, host: Host, node: Node, candidate: int, message: RequestVoteReply | PreVoteReply) -> None:
        me, it = node.own_member, node.configuration.member(candidate)  # type: ignore[arg-type]
        if me is None or not me.is_full or it is None or it.is_full:
            return
        before = isinstance(message, PreVoteReply)
        term = message.next_term if isinstance(message, PreVoteReply) else message.header.term
        asked = self._asked.get((candidate, term, before))
        mine = (message.last_term, message.last_index)
        if asked is not None and asked <= mine:
            self.fail(f"full host {host.number} at {mine} votes for witness {candidate}, which is at {asked}")
