"""Feeding committed entries to the state machine, and the answers to whoever waits for them.

A leader's own entries keep their decoded commands and their callers' callbacks by index, so nothing is decoded twice
and the answer is given in the very call that applies. An entry that another leader put at that index answers the
callers Indeterminate.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from lockmaster_raft.entry import Entry, EntryKind
from lockmaster_raft.errors import InvariantViolation

from lockmaster import errors as public
from lockmaster.server.batching import Batch
from lockmaster.server.meters import Meters
from lockmaster.server.state_keeper import StateKeeper
from lockmaster.server.waiting import AdminCalls
from lockmaster.statemachine.apply import EntryHeader, StateMachine
from lockmaster.statemachine.codec import decode_batch
from lockmaster.statemachine.commands import Command, Event
from lockmaster.storage.directory import DataDirectory

Listener = Callable[[Sequence[Event], int], None]

LOG: Final = logging.getLogger("lockmaster.server")
APPLY_SLICE_NS: Final = 5_000_000
"""Longest time of the loop that one run of applying takes (plus the one entry that passes it)."""
OVERLAY_BYTES_MAX: Final = 16 << 20
"""Estimated bytes of changes that are not stored at which applying waits until half of them are (service.md §5): a
member that stores more slowly than others write would hold in memory whatever it is behind by."""


class Applier:
    """The one place that applies entries."""

    def __init__(
        self,
        directory: DataDirectory,
        machine: StateMachine | None,
        listeners: list[Listener],
        admin: AdminCalls,
    ) -> None:
        self.machine = machine
        self.own: dict[int, Batch] = {}
        """Own appended batches by index, until applied; bounded by the core's pending_entries_max."""
        self.meters: Meters | None = None
        self.entries = 0
        self.operations = 0
        self.installing = False
        """A snapshot is being switched in: nothing is applied or stored meanwhile."""
        self.hold_at = 0
        """> 0: applying waits once it stands there, until this is 0 again (a snapshot is cut at that index)."""
        self.behind = False
        """Applying waits for storing."""
        self.serving = True
        """Clients are served from this state: what happens in it is told to them."""
        self._directory = directory
        self._listeners = listeners
        self._admin = admin
        self._queue: deque[Entry] = deque()

    @property
    def applied(self) -> int:
        """Last applied index, 0 without a state."""
        return 0 if self.machine is None else self.machine.applied

    @property
    def waiting(self) -> int:
        """Committed entries that wait to be applied."""
        return len(self._queue)

    def stored(self) -> bool:
        """Something was stored: True if applying waited for that and may go on."""
        if not self.behind or self._directory.state.overlay_bytes > OVERLAY_BYTES_MAX // 2:
            return False
        self.behind = False
        return True

    def extend(self, entries: Sequence[Entry]) -> None:
        """Queue committed entries, in order."""
        self._queue.extend(entries)

    def run(self, keeper: StateKeeper) -> bool:
        """Apply for at most one slice; True if more waits. The keeper calls again where that waits for storing."""
        if self.installing or self.behind:
            return False
        queue = self._queue
        stop = time.perf_counter_ns() + APPLY_SLICE_NS
        while queue:
            if self.hold_at and self.applied >= self.hold_at:
                return False
            self._apply(queue.popleft(), keeper)
            if self._directory.state.overlay_bytes >= OVERLAY_BYTES_MAX:
                self.behind = True
                keeper.soon()
                return False
            if queue and time.perf_counter_ns() > stop:
                return True
        return False

    def _apply(self, entry: Entry, keeper: StateKeeper) -> None:
        machine = self.machine
        if machine is None:
            raise InvariantViolation(f"entry {entry.index} is committed but there is no state to apply it to")
        batch = self.own.pop(entry.index, None)
        if batch is not None and batch.term != entry.term:
            self._lost(batch)
            batch = None
        commands: Sequence[Command]
        if batch is not None:
            commands = batch.commands
        else:
            commands = decode_batch(entry.payload) if entry.kind is EntryKind.DATA else ()
        meters = self.meters
        started_ns = 0 if meters is None else time.perf_counter_ns()
        applied = machine.apply(EntryHeader(entry.index, entry.term, entry.kind, entry.leader_time), commands)
        full = self._directory.state.sealed(entry.index, entry.term)
        self.entries += 1
        self.operations += len(commands)
        keeper.schedule.applied(len(commands), entry.size)
        if meters is not None:
            meters.applied(started_ns, len(commands), 0 if batch is None else batch.formed_ns)
        if batch is not None:
            for done, result in zip(batch.dones, applied.results):
                if done is not None:
                    try:
                        done(result)
                    except Exception:  # a caller's bug must not stop the state machine
                        LOG.exception("a caller's callback failed")
        self._admin.applied(entry.index, entry.term, public.Indeterminate("another leader's entry took its place"))
        if full:
            keeper.soon()
        else:
            keeper.applied()
        if self.serving and (applied.events or commands):
            self._tell(applied.events, machine.revision)

    def _tell(self, events: Sequence[Event], revision: int) -> None:
        for listener in self._listeners:
            try:
                listener(events, revision)
            except Exception:
                LOG.exception("a listener failed")

    def _lost(self, batch: Batch) -> None:
        for done in batch.dones:
            if done is not None:
                done(public.Indeterminate("another leader's entry took its place"))
        batch.dones = []

    def dropped(self) -> None:
        """This member has no state any more: nothing that was handed out is applied."""
        self.machine = None
        self.behind = False
        self.hold_at = 0
        self._queue.clear()
        for index in list(self.own):
            self._lost(self.own.pop(index))

    def installed(self, machine: StateMachine) -> None:
        """A snapshot's state was switched in; the core hands out again what follows its index."""
        self.machine = machine
        self.behind = False
        self.hold_at = 0
        self._queue.clear()
        for index in [i for i in self.own if i <= machine.applied]:
            self._lost(self.own.pop(index))
        self.installing = False
        if self.serving:
            self._tell((), machine.revision)  # who waits for a revision may have it now; watches read up the rest
