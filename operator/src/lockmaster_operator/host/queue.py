"""Which LockClusters are to be looked at, and when: each key once, never by two workers, with back-off after failures.

Laws: a key that is added while a worker has it is looked at once more; the sooner of two times
counts; at most KEYS_MAX.
"""

from __future__ import annotations

import asyncio
import heapq
import random
from collections.abc import Callable
from typing import Final, Generic, TypeVar

Key = tuple[str, str]
"""Namespace and name."""
K = TypeVar("K", bound=tuple[str, ...])
KEYS_MAX: Final = 10_000
"""Most LockClusters of one operator; more are refused with an error in the log and found again by the resync."""
STALE_MAX: Final = 4
SETTLE_S: Final = 0.2
"""Events come in bunches: a pass begins so long after the first of one."""
BACKOFF_FIRST_S: Final = 1.0
BACKOFF_MAX_S: Final = 60.0


def backoff_s(failures: int, draw: float) -> float:
    """Seconds to wait after so many failures in a row: doubles from 1 to 60, scaled into [0.5, 1) by `draw`."""
    return min(BACKOFF_MAX_S, BACKOFF_FIRST_S * 2.0 ** min(max(failures, 1) - 1, 16)) * (0.5 + draw / 2)


class Queue(Generic[K]):
    """Keys with the times when they are due. For one event loop."""

    def __init__(self, clock: Callable[[], float] | None = None, draw: Callable[[], float] = random.random) -> None:
        self._clock = clock or asyncio.get_running_loop().time
        self._draw = draw
        self._due: dict[K, float] = {}
        self._heap: list[tuple[float, K]] = []
        """By due time every key that no worker has, and entries that are not so any more: at most STALE_MAX times as
        many as keys. One worker at a time looks at it (`_turn`), however many there are."""
        self._turn = asyncio.Lock()
        self._taken: set[K] = set()
        self._failures: dict[K, int] = {}
        self._changed = asyncio.Event()

    def __len__(self) -> int:
        """Keys that wait or are being looked at."""
        return len(self._due) + sum(1 for key in self._taken if key not in self._due)

    def waiting(self) -> int:
        """Keys that are due and that no worker has."""
        now = self._clock()
        return sum(1 for key, due in self._due.items() if due <= now and key not in self._taken)

    def add(self, key: K, after_s: float = SETTLE_S) -> bool:
        """To be looked at after so many seconds, or sooner if that was so already. False if there are too many."""
        if key not in self._due and len(self) >= KEYS_MAX and key not in self._taken:
            return False
        due = self._clock() + after_s
        if due < self._due.get(key, float("inf")):
            self._due[key] = due
            self._offer(key)
        return True

    async def take(self) -> K:
        """The key that is due first, once it is due; it is this caller's until `done`."""
        async with self._turn:
            while True:
                wait = None
                if self._heap:
                    due, key = self._heap[0]
                    if key in self._taken or self._due.get(key) != due:
                        heapq.heappop(self._heap)
                        continue
                    wait = due - self._clock()
                    if wait <= 0:
                        heapq.heappop(self._heap)
                        del self._due[key]
                        self._taken.add(key)
                        return key
                self._changed.clear()
                try:
                    async with asyncio.timeout(wait):
                        await self._changed.wait()
                except TimeoutError:
                    continue

    def _offer(self, key: K) -> None:
        """To the workers, at the time that it is due now; one that a worker has is offered when that one is done."""
        if key in self._taken or key not in self._due:
            return
        heapq.heappush(self._heap, (self._due[key], key))
        if len(self._heap) > STALE_MAX * len(self._due):
            self._heap = [(due, one) for one, due in self._due.items() if one not in self._taken]
            heapq.heapify(self._heap)
        if self._heap[0][1] == key:  # else the one that waits waits for the same as before
            self._changed.set()

    def done(self, key: K, again_after_s: float | None) -> None:
        """The pass ended well; the next one after so many seconds, or none."""
        self._taken.discard(key)
        self._failures.pop(key, None)
        self._offer(key)  # if it was added meanwhile
        if again_after_s is not None:
            self.add(key, again_after_s)

    def failed(self, key: K, retry_after_s: float = 0.0) -> float:
        """The pass failed: the next one after a back-off, or what the server asked for if that is longer.

        What was added meanwhile waits for it too: an API server in trouble is not asked more often for every event.
        """
        self._taken.discard(key)
        count = self._failures[key] = self._failures.get(key, 0) + 1
        wait = max(retry_after_s, backoff_s(count, self._draw()))
        self._due[key] = self._clock() + wait
        self._offer(key)
        return wait
