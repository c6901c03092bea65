"""S3: acknowledged writes stay in the committed sequence for ever."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lockmaster_raft.testing.invariants.base import Invariant

if TYPE_CHECKING:
    from lockmaster_raft.testing.checker import Checker
    from lockmaster_raft.testing.frontend import Answer


class AcknowledgedStays(Invariant):
    """An acknowledged index is committed now; in the end some majority still has it with that term."""

    rule = "S3 acknowledged writes stay"

    def __init__(self, checker: Checker) -> None:
        super().__init__(checker)
        self._acknowledged: dict[int, int] = {}

    def acknowledged(self, session: int, seq: int, answer: Answer) -> None:
        """An answer carries the index of the entry that did it."""
        known = self.checker.committed.get(answer.index)
        if known is None:
            self.fail(f"write ({session}, {seq}) acknowledged at {answer.index}, which is not committed")
        else:
            self._acknowledged[answer.index] = known[0]

    def finished(self) -> None:
        """The last leader's log has them all."""
        lead = self.checker.cluster.leader()
        if lead is None:
            return
        shadow = self.checker.shadow[lead.number]
        for index, term in self._acknowledged.items():
            if index > shadow.base.index and shadow.term(index) != term:  # type: ignore[arg-type]
                self.fail(f"acknowledged {index} of term {term} is gone from leader {lead.number}")
