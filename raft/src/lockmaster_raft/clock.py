"""The cluster clock of a leader (service.md §1): real time that only counts while a quorum confirms it.

value(now) = C + min(now - t, 2 heartbeats), where (C, t) moves to (value(now), now) at each quorum-confirmed round.
Laws: it never falls, never runs faster than the leader's own clock, and stands still without a quorum.
"""

from __future__ import annotations

from lockmaster_raft.ids import Nanos


class ClusterClock:
    """The clock of one leadership; starts at the last stamp of the leader's log."""

    __slots__ = ("_confirmed_at", "_run_max", "_value")

    def __init__(self, start: Nanos, now: Nanos, heartbeat_interval_ns: int) -> None:
        self._value: int = start
        self._confirmed_at: int = now
        self._run_max = 2 * heartbeat_interval_ns

    def value(self, now: Nanos) -> Nanos:
        """Cluster time at `now`."""
        ran = now - self._confirmed_at
        return Nanos(self._value + (ran if ran < self._run_max else self._run_max))

    def confirm(self, now: Nanos) -> None:
        """A round was confirmed by a quorum: what ran since the last one counts for good."""
        self._value = self.value(now)
        self._confirmed_at = now
