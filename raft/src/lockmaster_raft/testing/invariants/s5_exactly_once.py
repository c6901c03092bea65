"""S5: (session, seq) executes at most once; its answers are identical."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lockmaster_raft.testing.application import Executed
from lockmaster_raft.testing.invariants.base import Invariant

if TYPE_CHECKING:
    from lockmaster_raft.entry import Entry
    from lockmaster_raft.testing.application import Outcome
    from lockmaster_raft.testing.checker import Checker


class ExactlyOnce(Invariant):
    """Every id that executed."""

    rule = "S5 exactly once"

    def __init__(self, checker: Checker) -> None:
        super().__init__(checker)
        self._done: dict[tuple[int, int], int] = {}

    def first_applied(self, entry: Entry, outcome: Outcome) -> None:
        """Look at executions in the committed sequence."""
        for seen in outcome.observed:
            if isinstance(seen, Executed):
                key = (seen.session, seen.seq)
                if key in self._done:
                    self.fail(f"{key} executed at {self._done[key]} and again at {entry.index}")
                self._done[key] = entry.index
