"""S9: revisions of key changes rise in the committed sequence; a watcher sees each once, in order, without a gap."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lockmaster_raft.testing.application import KeyWritten
from lockmaster_raft.testing.invariants.base import Invariant

if TYPE_CHECKING:
    from lockmaster_raft.entry import Entry
    from lockmaster_raft.testing.application import Outcome
    from lockmaster_raft.testing.checker import Checker


class WatchOrder(Invariant):
    """The truth is the first application of each entry; watchers report what they got."""

    rule = "S9 watch"

    def __init__(self, checker: Checker) -> None:
        super().__init__(checker)
        self.changes: list[tuple[int, str]] = []

    def first_applied(self, entry: Entry, outcome: Outcome) -> None:
        """Record changes."""
        for seen in outcome.observed:
            if isinstance(seen, KeyWritten):
                if self.changes and seen.revision <= self.changes[-1][0]:
                    self.fail(f"{entry.index}: {seen.key} changes at {seen.revision}, after {self.changes[-1][0]}")
                self.changes.append((seen.revision, seen.key))

    def watched(self, prefix: str, after: int, upto: int, got: list[tuple[int, str]]) -> None:
        """A watcher asked for changes of `prefix` in (after, upto] and got these."""
        true = [change for change in self.changes if after < change[0] <= upto and change[1].startswith(prefix)]
        self.checker.cluster.count("watch pages")
        if true != got:
            self.fail(f"watch of {prefix!r} in ({after}, {upto}] got {got[:4]}…, true is {true[:4]}…")
