"""I14: full replicas at equal applied index have equal state hashes: after every entry, on every replica."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lockmaster_raft.testing.invariants.base import Invariant

if TYPE_CHECKING:
    from lockmaster_raft.entry import Entry
    from lockmaster_raft.testing.application import Outcome
    from lockmaster_raft.testing.host import Host


class EqualStates(Invariant):
    """The checker's table index -> hash is from whoever was first."""

    rule = "I14 state hash"

    def applied(self, host: Host, entry: Entry, outcome: Outcome) -> None:
        """Compare, or be the first."""
        if host.replica is None:
            return
        mine = host.replica.state_hash()
        if self.checker.state_hashes.setdefault(entry.index, mine) != mine:
            self.fail(f"host {host.number} has another state at {entry.index}")
