"""Virtual time: a heap of actions; running one jumps the clock to it. Nothing else moves time."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count


class Scheduler:
    """Runs actions in order of (time, order of scheduling), so equal seeds run equally."""

    def __init__(self) -> None:
        self.now = 0
        self._order = count()
        self._heap: list[tuple[int, int, Callable[[], None]]] = []

    def at(self, when: int, action: Callable[[], None]) -> None:
        """Run `action` at virtual nanosecond `when`, or now if that has passed."""
        heappush(self._heap, (when if when > self.now else self.now, next(self._order), action))

    def after(self, delay: int, action: Callable[[], None]) -> None:
        """Run `action` in `delay` nanoseconds."""
        heappush(self._heap, (self.now + delay if delay > 0 else self.now, next(self._order), action))

    def run_until(self, end: int, stop: Callable[[], bool] | None = None) -> None:
        """Run everything due up to `end`, or until `stop()` holds (looked at after each action)."""
        heap = self._heap
        while heap and heap[0][0] <= end:
            self.now, _, action = heappop(heap)
            action()
            if stop is not None and stop():
                return
        self.now = max(self.now, end)

    @property
    def size(self) -> int:
        """Actions waiting."""
        return len(self._heap)


class DriftingClock:
    """A host's monotonic clock: its own start, and a rate off by at most the drift bound."""

    def __init__(self, scheduler: Scheduler, start: int, drift_ppm: int) -> None:
        self._scheduler = scheduler
        self._start = start
        self._since = scheduler.now
        self._rate = 1_000_000 + drift_ppm

    def now(self) -> int:
        """Local nanoseconds."""
        return self._start + (self._scheduler.now - self._since) * self._rate // 1_000_000

    def to_global(self, local: int) -> int:
        """The first virtual instant at which now() >= local."""
        return self._since + -(-(local - self._start) * 1_000_000 // self._rate)
