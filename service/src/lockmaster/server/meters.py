"""Histograms of the hot path: fed by one call per entry or write, never per operation, and only where metrics are on.

Who feeds them holds a `Meters | None`. Each passes its Pace (lockmaster.measuring), so it costs the same at any load.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from opentelemetry.metrics import CallbackOptions, Meter, Observation

from lockmaster.measuring import PacedHistogram, exact_counts
from lockmaster.server import translate
from lockmaster.server.translate import Response
from lockmaster.statemachine import commands
from lockmaster.statemachine.commands import Event, Result, ResultStatus

OPERATIONS: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
"""Bounds of a batch's size."""
WAITS_MAX: Final = 100_000
"""Most queued acquires whose wait is measured at a time."""


class Meters:
    """For the loop's thread only."""

    def __init__(self, meter: Meter) -> None:
        self._commit = PacedHistogram(
            meter, "lockmaster.raft.commit.duration", "From the forming of an entry to its being applied on the leader."
        )
        self._apply = PacedHistogram(meter, "lockmaster.raft.apply.duration", "Applying one entry.")
        self._sync = PacedHistogram(meter, "lockmaster.storage.sync.duration", "One durable write of the journal.")
        self._batch = PacedHistogram(
            meter, "lockmaster.raft.batch.size", "Operations of one entry.", unit="{operation}", bounds=OPERATIONS
        )
        self._wait = PacedHistogram(
            meter,
            "lockmaster.lock.wait.duration",
            "Time in the queue of acquires that did not get their lock at once, by how it ended.",
            labels=("lockmaster.outcome",),
        )
        exact_counts(meter, "lockmaster.lock.waits", "{acquire}", "Acquires that left a queue.", self._wait)
        meter.create_observable_gauge(
            "lockmaster.lock.waiters", [self._waiters], "{acquire}", "Acquires that this leader has put into queues."
        )
        self._waits: dict[tuple[int, int], int] = {}
        """When an acquire was queued, by (session, seq)."""

    def _waiters(self, options: CallbackOptions) -> list[Observation]:
        return [Observation(len(self._waits))]

    def synced(self, elapsed_ns: int) -> None:
        """A write became durable."""
        self._sync.record(time.monotonic(), elapsed_ns / 1e9)

    def applied(self, started_ns: int, operations: int, formed_ns: int) -> None:
        """An entry was applied; times of perf_counter_ns, `formed_ns` 0 for an entry that was not formed here."""
        now, now_ns = time.monotonic(), time.perf_counter_ns()
        self._apply.record(now, (now_ns - started_ns) / 1e9)
        if formed_ns:
            self._commit.record(now, (now_ns - formed_ns) / 1e9)
            self._batch.record(now, operations)

    def acquire_writer(self, session_id: int, seq: int) -> Callable[[Response, Result], None]:
        """translate.write_acquire, which also notes when the acquire is queued."""

        def write(answer: Any, result: Result) -> None:
            translate.write_acquire(answer, result)
            if result.status is ResultStatus.QUEUED and len(self._waits) < WAITS_MAX:
                self._waits.setdefault((session_id, seq), time.perf_counter_ns())

        return write

    def listen(self, events: Sequence[Event], revision: int) -> None:
        """The engine's listener: waits that ended."""
        if not self._waits:
            return
        for event in events:
            if isinstance(event, commands.LockGranted):
                self._ended((event.session_id, event.acquire_seq), "granted")
            elif isinstance(event, commands.AcquireEnded):
                self._ended((event.session_id, event.acquire_seq), event.cause.name.lower())
            elif isinstance(event, commands.SessionEnded):
                for key in [key for key in self._waits if key[0] == event.session_id]:
                    self._ended(key, "session_ended")

    def _ended(self, key: tuple[int, int], outcome: str) -> None:
        since = self._waits.pop(key, 0)
        if since:
            self._wait.record(time.monotonic(), (time.perf_counter_ns() - since) / 1e9, outcome)

    def role_changed(self, leading: bool, leader_address: str) -> None:
        """The engine's listener: only a leader hears how its waits end."""
        if not leading:
            self._waits.clear()
