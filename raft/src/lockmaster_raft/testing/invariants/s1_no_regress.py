"""S1: term, vote in a term and the acknowledged log never regress, across restarts from disk too."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lockmaster_raft.messages import AppendEntriesReply, RequestVote, RequestVoteReply
from lockmaster_raft.testing.invariants.base import Invariant

if TYPE_CHECKING:
    from lockmaster_raft.events import Event
    from lockmaster_raft.node import Node
    from lockmaster_raft.ready import HardState, Ready, Send
    from lockmaster_raft.testing.checker import Checker
    from lockmaster_raft.testing.host import Host


class NoRegress(Invariant):
    """What each host has told others binds it for ever."""

    rule = "S1 no regress"

    def __init__(self, checker: Checker) -> None:
        super().__init__(checker)
        self._told_term: dict[int, int] = {}
        self._votes: dict[tuple[int, int], int] = {}
        self._acked: dict[int, tuple[int, int]] = {}

    def booting(self, host: Host, hard: HardState) -> None:
        """The disks must hold what was told."""
        number = host.number
        if hard.term < self._told_term.get(number, 0):
            self.fail(f"host {number} boots in term {hard.term}, told others {self._told_term[number]}")
        vote = self._votes.get((number, hard.term), 0)
        if vote and hard.voted_for != vote:
            self.fail(f"host {number} boots with vote {hard.voted_for} in term {hard.term}, gave it to {vote}")
        index, term = self._acked.get(number, (0, 0))
        if host.disk is not None and index > host.disk.store.base.index:
            found = host.disk.store.term(index)  # type: ignore[arg-type]
            if found is None or found < term:
                self.fail(f"host {number} acknowledged ({index}, {term}) and boots with {found} there")

    def stepped(self, host: Host, node: Node, event: Event, ready: Ready) -> None:
        """The acknowledged log gives way only where a later term overwrites it."""
        number = host.number
        write = ready.persist
        if write is not None and write.truncate_from is not None:
            if write.truncate_from <= self._acked.get(number, (0, 0))[0]:
                before = write.truncate_from - 1
                term = self.checker.shadow[number].term(before)  # type: ignore[arg-type]
                self._acked[number] = (before, term or 0)

    def transmitting(self, host: Host, node: Node, send: Send) -> None:
        """Record promises."""
        message, number = send.message, host.number
        term = message.header.term
        if term > self._told_term.get(number, 0):
            self._told_term[number] = term
        if isinstance(message, AppendEntriesReply):
            if message.success and message.match_index >= self._acked.get(number, (0, 0))[0]:
                found = self.checker.shadow[number].term(message.match_index)
                self._acked[number] = (message.match_index, found or 0)
        elif isinstance(message, RequestVoteReply):
            if message.granted:
                self._promise(number, term, send.to)
        elif isinstance(message, RequestVote):
            self._promise(number, term, host.member_id)

    def _promise(self, number: int, term: int, whom: int) -> None:
        before = self._votes.setdefault((number, term), whom)
        if before != whom:
            self.fail(f"host {number} votes for {before} and for {whom} in term {term}")
