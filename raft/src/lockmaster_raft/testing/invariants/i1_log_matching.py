"""I1: equal (index, term) means equal entries and equal logs before (§3.5), by induction over appends."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lockmaster_raft.testing.invariants.base import Invariant

if TYPE_CHECKING:
    from lockmaster_raft.events import Event
    from lockmaster_raft.node import Node
    from lockmaster_raft.ready import Ready
    from lockmaster_raft.testing.checker import Checker
    from lockmaster_raft.testing.host import Host


class LogMatching(Invariant):
    """(index, term) -> (crc, term before), the same wherever it is appended."""

    rule = "I1 log matching"

    def __init__(self, checker: Checker) -> None:
        super().__init__(checker)
        self._seen: dict[tuple[int, int], tuple[int, int | None]] = {}

    def stepped(self, host: Host, node: Node, event: Event, ready: Ready) -> None:
        """Look at what this Ready appends and removes."""
        write = ready.persist
        if write is None:
            return
        commit = self.checker.commit_before[host.number]
        if write.truncate_from is not None and write.truncate_from <= commit and write.base is None:
            self.fail(f"host {host.number} truncates from {write.truncate_from}, committed up to {commit}")
        shadow = self.checker.shadow[host.number]
        for entry in write.entries:
            if entry.index <= shadow.base.index:
                continue
            before = shadow.term(entry.index - 1)  # type: ignore[arg-type]
            known = self._seen.setdefault((entry.index, entry.term), (entry.crc32, before))
            if known[0] != entry.crc32 or (before is not None and known[1] is not None and known[1] != before):
                self.fail(f"host {host.number} appends another ({entry.index}, {entry.term}) than was seen")
