"""I1: no two replicas apply different entries at one index (§3.6.3); also across restarts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lockmaster_raft.testing.invariants.base import Invariant

if TYPE_CHECKING:
    from lockmaster_raft.entry import Entry
    from lockmaster_raft.testing.application import Outcome
    from lockmaster_raft.testing.checker import Checker
    from lockmaster_raft.testing.host import Host


class StateMachineSafety(Invariant):
    """index -> checksum of the entry that was applied there."""

    rule = "I1 state machine safety"

    def __init__(self, checker: Checker) -> None:
        super().__init__(checker)
        self._applied: dict[int, int] = {}

    def applied(self, host: Host, entry: Entry, outcome: Outcome) -> None:
        """The same everywhere, and only after a commit."""
        if self._applied.setdefault(entry.index, entry.crc32) != entry.crc32:
            self.fail(f"host {host.number} applies another entry at {entry.index}")
        if entry.index > self.checker.commit_top:
            self.fail(f"host {host.number} applies {entry.index}, committed up to {self.checker.commit_top}")
