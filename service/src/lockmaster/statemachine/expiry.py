"""ExpiryIndex: which sessions, waiters and lock-delays are due. Derived in memory, never part of the state.

Laws.
1. Every session, waiter with a deadline and lock-delay in the state has an entry whose time is <= its deadline. A
   renewal only moves deadlines on, so it needs no entry: one that comes up early is put back at its real time.
2. `due` removes nothing that is still in the state: a proposal that was lost is made again (etcd #10686 lost them).
"""

from __future__ import annotations

from heapq import heappop, heappush

from lockmaster.statemachine.commands import Expire
from lockmaster.statemachine.records import LOCKS, RENEWALS, WAITERS
from lockmaster.statemachine.view import StateView


class ExpiryIndex:
    """Heaps of deadlines in cluster time, checked against the state when they come up."""

    def __init__(self, view: StateView) -> None:
        self._view = view
        self.lift_stamp = 0
        self.expires_applied = 0
        """How many Expire commands have been applied here."""
        self.last_expire: Expire | None = None
        """The latest of them: whoever proposed it knows by it that it is through, and all before it."""
        self._sessions: list[tuple[int, int]] = []
        self._waiters: list[tuple[int, str, int]] = []
        self._delays: list[tuple[int, str]] = []

    def rebuild(self, lift_stamp: int) -> None:
        """Fill from the state, at boot and after a snapshot was installed."""
        self.lift_stamp = lift_stamp
        self._sessions = [(r.deadline(lift_stamp), key) for key, r in self._view.scan(RENEWALS, b"", None)]
        self._waiters = [
            (waiter.deadline, name, ticket)
            for (name, ticket), waiter in self._view.scan(WAITERS, b"", None)
            if waiter.deadline
        ]
        self._delays = [
            (lock.delay_until, name) for name, lock in self._view.scan(LOCKS, b"", None) if lock.delay_until
        ]
        self._sessions.sort()
        self._waiters.sort()
        self._delays.sort()

    def add_session(self, deadline: int, session_id: int) -> None:
        """A session was opened."""
        heappush(self._sessions, (deadline, session_id))

    def add_waiter(self, deadline: int, name: str, ticket: int) -> None:
        """A waiter with a deadline was queued."""
        heappush(self._waiters, (deadline, name, ticket))

    def add_delay(self, until: int, name: str) -> None:
        """A lock-delay began."""
        heappush(self._delays, (until, name))

    def next_deadline(self) -> int | None:
        """Cluster time at which `due` may have something; it may be early, never late. None: nothing to wait for."""
        first = self._sessions[0][0] if self._sessions else None
        if self._waiters and (first is None or self._waiters[0][0] < first):
            first = self._waiters[0][0]
        if self._delays and (first is None or self._delays[0][0] < first):
            first = self._delays[0][0]
        return first

    def due(self, cluster_time: int, count_max: int) -> Expire | None:
        """What may be expired at `cluster_time`, at most `count_max` of each sort, or None."""
        sessions = self._due_sessions(cluster_time, count_max)
        waiters = self._due_waiters(cluster_time, count_max)
        names = self._due_delays(cluster_time, count_max)
        if not (sessions or waiters or names):
            return None
        return Expire(tuple(sessions), tuple(waiters), tuple(names))

    def _due_sessions(self, cluster_time: int, count_max: int) -> list[int]:
        heap, due = self._sessions, list[tuple[int, int]]()
        while heap and heap[0][0] <= cluster_time and len(due) < count_max:
            _, session_id = heappop(heap)
            renewal = self._view.get(RENEWALS, session_id)
            if renewal is None:
                continue
            deadline = renewal.deadline(self.lift_stamp)
            if deadline <= cluster_time:
                due.append((deadline, session_id))
            else:
                heappush(heap, (deadline, session_id))
        for item in due:
            heappush(heap, item)
        return sorted(session_id for _, session_id in due)

    def _due_waiters(self, cluster_time: int, count_max: int) -> list[tuple[str, int]]:
        heap, due = self._waiters, list[tuple[int, str, int]]()
        while heap and heap[0][0] <= cluster_time and len(due) < count_max:
            deadline, name, ticket = heappop(heap)
            waiter = self._view.get(WAITERS, (name, ticket))
            if waiter is not None and waiter.deadline == deadline:
                due.append((deadline, name, ticket))
        for item in due:
            heappush(heap, item)
        return sorted((name, ticket) for _, name, ticket in due)

    def _due_delays(self, cluster_time: int, count_max: int) -> list[str]:
        heap, due = self._delays, list[tuple[int, str]]()
        while heap and heap[0][0] <= cluster_time and len(due) < count_max:
            until, name = heappop(heap)
            lock = self._view.get(LOCKS, name)
            if lock is not None and lock.delay_until == until:
                due.append((until, name))
        for item in due:
            heappush(heap, item)
        return sorted(name for _, name in due)
