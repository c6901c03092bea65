"""I1: at most one leader per term (§3.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lockmaster_raft.testing.invariants.base import Invariant

if TYPE_CHECKING:
    from lockmaster_raft.node import Node
    from lockmaster_raft.testing.checker import Checker
    from lockmaster_raft.testing.host import Host


class ElectionSafety(Invariant):
    """Remembers who led each term."""

    rule = "I1 election safety"

    def __init__(self, checker: Checker) -> None:
        super().__init__(checker)
        self._leaders: dict[int, int] = {}

    def led(self, host: Host, node: Node) -> None:
        """One leader per term, and not the same one again after a restart."""
        before = self._leaders.get(node.term)
        if before is not None:
            self.fail(f"term {node.term} has a leader again: host {host.number}, after host {before}")
        self._leaders[node.term] = host.number
