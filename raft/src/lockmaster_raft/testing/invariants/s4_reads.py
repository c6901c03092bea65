"""S4: a linearizable read sees at least what was acknowledged when it began."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lockmaster_raft.testing.invariants.base import Invariant

if TYPE_CHECKING:
    from lockmaster_raft.testing.frontend import Answer


class ReadsAreFresh(Invariant):
    """The index that a read saw against the floor at its beginning."""

    rule = "S4 fresh reads"

    def served(self, floor: int, answer: Answer) -> None:
        """Compare indexes."""
        self.checker.cluster.count("linearizable reads")
        if answer.index < floor:
            self.fail(f"host {answer.applied_on} served a read at {answer.index}; {floor} was acknowledged before")
