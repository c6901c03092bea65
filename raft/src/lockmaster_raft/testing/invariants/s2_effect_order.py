"""S2: nothing leaves before what it depends on is durable: votes, levels in both guard slots, acks in the journal.

And nothing leaves after a write has failed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from lockmaster_raft.messages import (
    AppendEntries,
    AppendEntriesReply,
    CatchUpReply,
    FetchPiece,
    FetchPieceReply,
    Heartbeat,
    HeartbeatReply,
    RequestVote,
    RequestVoteReply,
)
from lockmaster_raft.testing.invariants.base import Invariant

if TYPE_CHECKING:
    from lockmaster_raft.node import Node
    from lockmaster_raft.ready import Send
    from lockmaster_raft.testing.host import Host


_SILENT: Final = (AppendEntries, Heartbeat, FetchPiece, FetchPieceReply)
"""The frequent ones that promise nothing but their term."""


class EffectOrder(Invariant):
    """Looks at the disk when a message leaves."""

    rule = "S2 effect order"

    def transmitting(self, host: Host, node: Node, send: Send) -> None:
        """Votes, terms and acks."""
        message, disk = send.message, host.disk
        if disk is None:
            return
        if disk.failed:
            self.fail(f"host {host.number} sends {type(message).__name__} after a write of its disk failed")
        hard = disk.surely_hard_state
        term = message.header.term
        if term > hard.term:
            kind = type(message).__name__
            self.fail(f"host {host.number} sends {kind} of term {term}; durable in both slots is {hard.term}")
        if isinstance(message, _SILENT):
            return
        if isinstance(message, RequestVoteReply) and message.granted and hard.term == term:
            if hard.voted_for != send.to:
                self.fail(f"host {host.number} grants {send.to} its vote; durable is {hard.voted_for}")
        elif isinstance(message, RequestVote) and hard.term == term and hard.voted_for != host.member_id:
            self.fail(f"host {host.number} asks for votes; its own is not durable")
        elif isinstance(message, HeartbeatReply) and message.fence_index:
            if disk.surely_level <= node.levels.active:
                text = f"host {host.number} reports FENCE {message.fence_index}; its disk promises {disk.surely_level}"
                self.fail(text)
        elif isinstance(message, CatchUpReply) or (isinstance(message, AppendEntriesReply) and message.success):
            match = message.match_index
            shadow = self.checker.shadow[host.number]
            if match > disk.store.last_index:
                self.fail(f"host {host.number} acknowledges {match}; durable is {disk.store.last_index}")
            if match > max(shadow.base.index, disk.store.base.index):
                if disk.store.term(match) != shadow.term(match) and not self._replaced(host, match, shadow.term(match)):
                    self.fail(f"host {host.number} acknowledges {match} of a write that is not durable yet")

    def _replaced(self, host: Host, match: int, now: int | None) -> bool:
        """The acknowledged entry is durable and a later write, still under way, will supersede it."""
        durable = host.disk.store.term(match) if host.disk is not None else None  # type: ignore[arg-type]
        return durable is not None and (now is None or now > durable) and match <= self.checker.commit_top
