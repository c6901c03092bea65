"""Durable writes in order, one at a time: in their own thread, or inline when that is certainly faster.

The journal's write lets the interpreter lock go, so the thread costs the loop two hand-offs and no waiting. A leader
never writes inline (with only its disk slow that gave 0.28 of the operations). A follower does when the write is
small, nothing else is in flight and its disk has lately been fast.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from lockmaster_raft.ready import Persist

    from lockmaster.server.meters import Meters
    from lockmaster.storage.directory import DataDirectory
    from lockmaster.storage.journal import Write

INLINE_BYTES_MAX: Final = 64 << 10
INLINE_AVERAGE_NS_MAX: Final = 300_000
AVERAGE_WEIGHT: Final = 8
"""The running average moves by 1/8 of each new sample."""


def sync_inline(*, leading: bool, in_flight: int, size: int, average_ns: int) -> bool:
    """Write this on the loop's thread? Pure."""
    return not leading and in_flight == 0 and size <= INLINE_BYTES_MAX and average_ns < INLINE_AVERAGE_NS_MAX


def moved_average(average_ns: int, sample_ns: int) -> int:
    """The running average after one more sample; the first sample counts whole."""
    return sample_ns if average_ns == 0 else average_ns + (sample_ns - average_ns) // AVERAGE_WEIGHT


class Persister:
    """Turns Persists into durable bytes and tells, in order, which are done."""

    def __init__(
        self,
        directory: DataDirectory,
        durable: Callable[[int], None],
        failed: Callable[[BaseException], None],
    ) -> None:
        """`durable(seq)` and `failed(error)` are called on the loop's thread; after `failed` nothing is written."""
        self.average_ns = 0
        self.syncs = 0
        self.syncs_inline = 0
        self.meters: Meters | None = None
        self._directory = directory
        self._durable = durable
        self._failed = failed
        self._loop = asyncio.get_running_loop()
        self._in_flight: deque[tuple[int, Write]] = deque()
        # invariant: _in_flight holds the writes begun and not finished, in order of seq
        self._work: SimpleQueue[Write | None] = SimpleQueue()
        self._worker = Thread(target=self._run, name="lockmaster-sync", daemon=True)
        self._worker.start()

    @property
    def in_flight(self) -> int:
        """Writes begun and not yet durable."""
        return len(self._in_flight)

    def persist(self, persist: Persist, *, leading: bool) -> bool:
        """Begin this write. True when it is durable on return (it was written inline)."""
        size = sum(len(entry.payload) for entry in persist.entries)
        inline = sync_inline(leading=leading, in_flight=len(self._in_flight), size=size, average_ns=self.average_ns)
        write = self._directory.begin(persist)
        self.syncs += 1
        if inline and persist.hard_state is None and persist.base is None and persist.level is None:
            started = time.perf_counter_ns()
            write.run()
            self._sampled(time.perf_counter_ns() - started)
            self._directory.finish(write)
            self.syncs_inline += 1
            return True
        self._in_flight.append((persist.seq, write))
        self._work.put(write)
        return False

    def _sampled(self, elapsed_ns: int) -> None:
        self.average_ns = moved_average(self.average_ns, elapsed_ns)
        if self.meters is not None:
            self.meters.synced(elapsed_ns)

    def _run(self) -> None:
        """The thread: nothing but write, measure, report."""
        clock, call = time.perf_counter_ns, self._loop.call_soon_threadsafe
        while (write := self._work.get()) is not None:
            started = clock()
            try:
                write.run()
            except BaseException as error:
                call(self._failed, error)
                return
            try:
                call(self._written, write, clock() - started)
            except RuntimeError:  # the loop is closed: nobody is left to tell
                return

    def _written(self, write: Write, elapsed_ns: int) -> None:
        seq, first = self._in_flight.popleft()
        self._sampled(elapsed_ns)
        self._directory.finish(first)
        self._durable(seq)

    def close(self) -> None:
        """Finish what was begun, then end the thread."""
        self._work.put(None)
        self._worker.join()
