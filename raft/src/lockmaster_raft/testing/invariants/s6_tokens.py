"""S6: fencing tokens strictly increase per lock, and a lock has one holder."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lockmaster_raft.testing.application import Freed, Granted, SessionOver
from lockmaster_raft.testing.invariants.base import Invariant

if TYPE_CHECKING:
    from lockmaster_raft.entry import Entry
    from lockmaster_raft.testing.application import Outcome
    from lockmaster_raft.testing.checker import Checker


class Tokens(Invariant):
    """lock -> last token; lock -> holder; every token names one grant."""

    rule = "S6 tokens"

    def __init__(self, checker: Checker) -> None:
        super().__init__(checker)
        self._last: dict[str, int] = {}
        self._holder: dict[str, Granted] = {}
        self._tokens: dict[int, str] = {}

    def first_applied(self, entry: Entry, outcome: Outcome) -> None:
        """Grants and ends of holds, in order."""
        for seen in outcome.observed:
            if isinstance(seen, Granted):
                self.checker.cluster.count("grants")
                holder = self._holder.get(seen.lock)
                if holder is not None:
                    self.fail(f"{entry.index}: {seen.lock} granted to {seen.session}, held by {holder.session}")
                if seen.token <= self._last.get(seen.lock, 0):
                    self.fail(f"{entry.index}: {seen.lock} token {seen.token} after {self._last[seen.lock]}")
                if seen.token in self._tokens:
                    self.fail(f"{entry.index}: token {seen.token} of {seen.lock} is {self._tokens[seen.token]}'s too")
                self._tokens[seen.token] = seen.lock
                self._last[seen.lock] = seen.token
                self._holder[seen.lock] = seen
            elif isinstance(seen, SessionOver):
                for lock in [lock for lock, held in self._holder.items() if held.session == seen.session]:
                    del self._holder[lock]
            elif isinstance(seen, Freed):
                holder = self._holder.get(seen.lock)
                if holder is not None and holder.token == seen.token:
                    del self._holder[seen.lock]
                elif seen.token not in self._tokens:
                    self.fail(f"{entry.index}: {seen.lock} freed with token {seen.token}, holder {holder}")
                # Else an answer from its record, told again: a release that really took a later hold away shows at
                # the next grant, which then finds a holder.
