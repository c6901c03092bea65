"""S8: locks are granted in queue order; a dead session holds neither lock nor place."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lockmaster_raft.testing.application import Granted, LeftQueue, Queued, SessionOver
from lockmaster_raft.testing.invariants.base import Invariant

if TYPE_CHECKING:
    from lockmaster_raft.entry import Entry
    from lockmaster_raft.testing.application import Outcome
    from lockmaster_raft.testing.checker import Checker


class Fifo(Invariant):
    """A model queue per lock."""

    rule = "S8 FIFO"

    def __init__(self, checker: Checker) -> None:
        super().__init__(checker)
        self._queues: dict[str, list[tuple[int, int]]] = {}
        self._dead: set[int] = set()

    def first_applied(self, entry: Entry, outcome: Outcome) -> None:
        """Replay queue events. Whoever leaves in this entry may be passed over in it."""
        leaving = {(seen.session, seen.seq) for seen in outcome.observed if isinstance(seen, LeftQueue)}
        for seen in outcome.observed:
            if isinstance(seen, Queued):
                self._enter(seen)
            elif isinstance(seen, Granted):
                self._grant(entry, seen, leaving)
            elif isinstance(seen, SessionOver):
                self._dead.add(seen.session)
                for lock, queue in self._queues.items():
                    self._queues[lock] = [key for key in queue if key[0] != seen.session]
        if leaving:
            for lock, queue in self._queues.items():
                self._queues[lock] = [key for key in queue if key not in leaving]

    def _enter(self, seen: Queued) -> None:
        queue = self._queues.setdefault(seen.lock, [])
        if (seen.session, seen.seq) not in queue:
            self.checker.cluster.count("waits")
            queue.append((seen.session, seen.seq))

    def _grant(self, entry: Entry, seen: Granted, leaving: set[tuple[int, int]]) -> None:
        queue = self._queues.get(seen.lock, [])
        key = (seen.session, seen.seq)
        while queue and queue[0] != key and queue[0] in leaving:
            queue.pop(0)
        if queue and queue[0] != key:
            self.fail(f"{entry.index}: {seen.lock} granted to {key}, first in the queue is {queue[0]}")
        if seen.session in self._dead:
            self.fail(f"{entry.index}: {seen.lock} granted to dead session {seen.session}")
        if queue:
            queue.pop(0)
