"""Storing applied state after the answers, and flushing it to disk for good (storing.py decides when)."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Final

from lockmaster_raft import events
from lockmaster_raft.ids import Index
from lockmaster_raft.ready import Alarm

from lockmaster.server.storing import STORE_INTERVAL, FlushSchedule

if TYPE_CHECKING:
    from lockmaster.server.applying import Applier
    from lockmaster.server.runtime import Engine

LOG: Final = logging.getLogger("lockmaster.server")
REPORT_INTERVAL: Final = 5.0
"""Seconds between two looks at the disk's free space."""
STORE_SLICE_NS: Final = 3_000_000
"""Longest time of the loop that one run of storing takes (plus the one batch that passes it)."""


class StateKeeper:
    """One per node. Any error ends the process."""

    def __init__(self, engine: Engine, applier: Applier, member_id: int) -> None:
        self.free_bytes = 0
        self.state_bytes = 0
        """Of the state on the disk, when it was looked at last; 0 without a state."""
        self.space_low = False
        """Below max(10 %, 512 MiB) free: only what frees room or keeps sessions is admitted."""
        self.schedule = FlushSchedule(member_id, time.monotonic())
        self.exclusive = asyncio.Lock()
        """Held while the state is flushed, cut for a snapshot or switched."""
        self._engine = engine
        self._applier = applier
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | asyncio.Handle | None = None
        self._flushing: asyncio.Task[None] | None = None
        self._closed = False
        self._report_timer = self._loop.call_later(REPORT_INTERVAL, self._report_again)

    def applied(self) -> None:
        """Something was applied: store it within STORE_INTERVAL."""
        if self._timer is None and not self._closed:
            self._timer = self._loop.call_later(STORE_INTERVAL, self._store)

    def soon(self) -> None:
        """A whole batch waits: store it in the next turn."""
        if not self._closed:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self._loop.call_soon(self._store)

    def _store(self) -> None:
        self._timer = None
        if self._closed or self._applier.installing:
            return
        directory = self._engine.directory
        state = directory.store
        if state is None:
            return
        try:
            more = True
            stop = time.perf_counter_ns() + STORE_SLICE_NS
            while more and time.perf_counter_ns() < stop:
                more = state.store(directory.journal.durable_index)
            if self._applier.stored():
                self._loop.call_soon(self._engine.state_moved)
            if self._flushing is None and self.schedule.due(time.monotonic()):
                self._flushing = self._loop.create_task(self._flush(), name="flush")
        except Exception as error:
            self._engine.fail(error)
            return
        if more:
            self._timer = self._loop.call_soon(self._store)
        elif state.applied_stored < self._applier.applied:
            self.applied()

    async def _flush(self) -> None:
        try:
            async with self.exclusive:
                self.schedule.begun(time.monotonic())
                if (state := self._engine.directory.store) is not None:
                    await self._loop.run_in_executor(None, state.flush)
            self.report()
        except Exception as error:
            self._engine.fail(error)
        finally:
            self._flushing = None

    def report(self) -> None:
        """Tell the node what the disk holds and how it does."""
        engine = self._engine
        space = engine.directory.space
        self.free_bytes = space.free_bytes
        if space.low is not self.space_low:
            self.space_low = space.low
            self._space_changed()
        elif space.low:
            engine.alarms["disk_nearly_full"] = self._refused()  # with what is free now; it was told when it began
        state = engine.directory.store
        flushed, size = (state.applied_flushed, state.database.size_bytes()) if state is not None else (Index(0), 0)
        self.state_bytes = size
        engine.step(events.StorageReport(flushed, self.free_bytes, engine.sync_average_ns, size))

    def _space_changed(self) -> None:
        engine = self._engine
        if self.space_low:
            engine.raise_alarm(Alarm("disk_nearly_full", self._refused()))
        else:
            engine.alarms.pop("disk_nearly_full", None)
            LOG.info("the disk has room again: %d MiB free", self.free_bytes >> 20)

    def _refused(self) -> str:
        return f"{self.free_bytes >> 20} MiB free: writes are refused"

    def _report_again(self) -> None:
        self._report_timer = self._loop.call_later(REPORT_INTERVAL, self._report_again)
        try:
            self.report()
        except Exception as error:
            self._engine.fail(error)

    async def close(self) -> None:
        """No storing from here on; waits for a flush that runs."""
        self._closed = True
        self._report_timer.cancel()
        if self._timer is not None:
            self._timer.cancel()
        if self._flushing is not None:
            await asyncio.shield(self._flushing)
