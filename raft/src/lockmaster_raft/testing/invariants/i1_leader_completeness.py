"""I1: a leader has every entry committed in an earlier term (§3.6.3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lockmaster_raft.testing.invariants.base import Invariant

if TYPE_CHECKING:
    from lockmaster_raft.node import Node
    from lockmaster_raft.testing.checker import Checker
    from lockmaster_raft.testing.host import Host


class LeaderCompleteness(Invariant):
    """Keeps the highest index committed in each term."""

    rule = "I1 leader completeness"

    def __init__(self, checker: Checker) -> None:
        super().__init__(checker)
        self._tops: dict[int, int] = {}

    def commits(self, host: Host, node: Node, old: int, new: int) -> None:
        """A leader's commit happens in its term; a follower's was a leader's before."""
        known = self.checker.committed.get(new)
        if known is not None:
            self._tops[known[1]] = max(self._tops.get(known[1], 0), new)

    def led(self, host: Host, node: Node) -> None:
        """Log matching makes one look at the highest such index enough."""
        top = max((index for term, index in self._tops.items() if term < node.term), default=0)
        shadow = self.checker.shadow[host.number]
        if top <= shadow.base.index:
            return
        mine, theirs = shadow.term(top), self.checker.committed[top][0]  # type: ignore[arg-type]
        if mine != theirs:
            self.fail(f"host {host.number} leads term {node.term} with {top} of term {mine}, committed: {theirs}")
