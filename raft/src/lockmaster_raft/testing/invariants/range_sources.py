"""raft.md §3: a source serves committed entries only, and what a member reports of a fetched range is the group's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lockmaster_raft.messages import CatchUp, CatchUpReply, FetchRangeReply, Message
from lockmaster_raft.testing.invariants.base import Invariant

if TYPE_CHECKING:
    from lockmaster_raft.node import Node
    from lockmaster_raft.ready import Send
    from lockmaster_raft.testing.host import Host


class RangeSources(Invariant):
    """Looks at the messages of fetches when they leave, beside the ledger of what was ever called committed."""

    rule = "range sources"
    messages: tuple[type[Message], ...] = (FetchRangeReply, CatchUpReply, CatchUp)

    def transmitting(self, host: Host, node: Node, send: Send) -> None:
        """Sources, members that fetch, leaders that name."""
        message = send.message
        if isinstance(message, FetchRangeReply):
            self._served(host, node, message)
        elif isinstance(message, CatchUpReply):
            self._reported(host, message)
        elif isinstance(message, CatchUp):
            for index, term in message.anchors:
                known = self.checker.committed.get(index)
                if known is not None and known[0] != term:
                    self.fail(f"host {host.number} names ({index}, {term}); committed there is term {known[0]}")
            if message.anchors[-1][0] > node.commit_index:
                self.fail(f"host {host.number} names {message.anchors[-1][0]}; committed is {node.commit_index}")

    def _served(self, host: Host, node: Node, message: FetchRangeReply) -> None:
        for entry in message.entries:
            if entry.index > node.commit_index:
                self.fail(f"host {host.number} serves {entry.index}; it knows {node.commit_index} to be committed")
            known = self.checker.committed.get(entry.index)
            if known is not None and known[0] != entry.term:
                self.fail(f"host {host.number} serves ({entry.index}, {entry.term}); committed is term {known[0]}")

    def _reported(self, host: Host, message: CatchUpReply) -> None:
        at = message.match_index
        known, here = self.checker.committed.get(at), self.checker.shadow[host.number].term(at)
        if known is not None and here is not None and known[0] != here:
            self.fail(f"host {host.number} reports {at} with term {here}; committed is term {known[0]}")
