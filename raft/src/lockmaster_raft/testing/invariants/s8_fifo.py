"""S8: locks are granted in queue order; a dead session holds neither lock nor place."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lockmaster_raft.testing.application import Freed, Granted, LeftQueue, Queued, SessionOver
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
        self._held: dict[str, int] = {}

    def first_applied(self, entry: Entry, outcome: Outcome) -> None:
        """Replay queue events; at the end of the entry no dead session is left in them."""
        dead: set[int] = set()
        for seen in outcome.observed:
            if isinstance(seen, Queued):
                self.checker.cluster.count("waits")
                self._queues.setdefault(seen.lock, []).append((seen.session, seen.seq))
            elif isinstance(seen, Granted):
                self._grant(entry, seen)
            elif isinstance(seen, LeftQueue):
                queue = self._queues.get(seen.lock, [])
                if (seen.session, seen.seq) in queue:
                    queue.remove((seen.session, seen.seq))
            elif isinstance(seen, Freed):
                self._held.pop(seen.lock, None)
            elif isinstance(seen, SessionOver):
                dead.add(seen.session)
        if dead:
            self._bury(entry, dead)

    def _grant(self, entry: Entry, seen: Granted) -> None:
        queue = self._queues.get(seen.lock, [])
        key = (seen.session, seen.seq)
        if queue and queue[0] != key:
            self.fail(f"{entry.index}: {seen.lock} granted to {key}, first in the queue is {queue[0]}")
        if queue:
            queue.pop(0)
        self._held[seen.lock] = seen.session

    def _bury(self, entry: Entry, dead: set[int]) -> None:
        for lock, holder in self._held.items():
            if holder in dead:
                self.fail(f"{entry.index}: dead session {holder} holds {lock}")
        for lock, queue in self._queues.items():
            for session, seq in queue:
                if session in dead:
                    self.fail(f"{entry.index}: dead session {session} waits for {lock} ({seq})")
