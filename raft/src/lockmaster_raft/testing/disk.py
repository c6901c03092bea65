"""A host's disk: two guard slots, the journal frame by frame, and the state store by batches.

What is modelled after service.md §5. One write at a time: hard state to slot 0, to slot 1, then the frame. A power cut
tears the slot or frame being written (it is then old, torn or new) and loses everything behind it. The state store has
no log of its own: after a crash it stands at any batch boundary >= the last flush and <= the journal's durable index.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from lockmaster_raft.errors import InvariantViolation
from lockmaster_raft.ready import Base, HardState, Persist
from lockmaster_raft.storage import MemoryStore
from lockmaster_raft.testing.scheduler import Scheduler


@dataclass(frozen=True, slots=True)
class Slot:
    """One guard slot: hard state, promised level, and the number that tells which slot is newer."""

    number: int
    hard_state: HardState
    level: int = 1


class Disk:
    """The guard file and the journal of one data directory, across crashes."""

    def __init__(
        self, scheduler: Scheduler, draw: random.Random, sync_ns: int, base: Base, hard: HardState, level: int = 1
    ) -> None:
        self._scheduler = scheduler
        self._draw = draw
        self._sync_ns = sync_ns
        self.slots: list[Slot | None] = [Slot(0, hard, level), Slot(0, hard, level)]
        self.store = MemoryStore(base)
        self.durable_seq = 0
        self.slow_until = 0
        self.slow_ns = 0
        self.on_stage: Callable[[str], None] = lambda stage: None
        self._queue: deque[Persist] = deque()
        self._stage = 0
        self._boot = 0
        self._done: Callable[[Persist], None] = lambda write: None

    @property
    def _slot(self) -> Slot:
        valid = [slot for slot in self.slots if slot is not None]
        if not valid:
            raise InvariantViolation("no valid guard slot: a healthy node refuses to boot")
        return max(valid, key=lambda slot: slot.number)

    @property
    def hard_state(self) -> HardState:
        """What a boot would read now: the newest valid slot."""
        return self._slot.hard_state

    @property
    def level(self) -> int:
        """The level that a boot would read now."""
        return self._slot.level

    @property
    def surely_level(self) -> int:
        """The level that a boot reads even if the newer slot is lost."""
        first, second = self.slots
        if first is None or second is None:
            return self.level
        return second.level if second.number < first.number else first.level

    @property
    def surely_hard_state(self) -> HardState:
        """What a boot reads even if the newer slot is lost: the older valid slot."""
        first, second = self.slots
        if first is None or second is None:
            return self.hard_state
        return second.hard_state if second.number < first.number else first.hard_state

    def boot(self, done: Callable[[Persist], None]) -> HardState:
        """Read the guard, repair a torn slot, forget what was not durable. `done` hears of every durable write."""
        slot = self._slot
        self.slots = [slot, slot]
        self._boot += 1
        self._queue.clear()
        self._stage = 0
        self.durable_seq = 0
        self._done = done
        return slot.hard_state

    def submit(self, write: Persist) -> None:
        """Start this write after those before it."""
        self._queue.append(write)
        if len(self._queue) == 1:
            self._begin()

    def _latency(self) -> int:
        if self._scheduler.now < self.slow_until:
            return int(self.slow_ns * (0.5 + self._draw.random()))
        return int(self._sync_ns * (0.5 + self._draw.random()))

    def _begin(self) -> None:
        write = self._queue[0]
        self._stage = 0 if write.hard_state is not None or write.level is not None else 2
        self._next_stage()

    def _next_stage(self) -> None:
        boot, stage = self._boot, self._stage
        self._scheduler.after(self._latency(), lambda: self._complete(boot, stage))

    def _complete(self, boot: int, stage: int) -> None:
        if boot != self._boot or not self._queue:
            return
        write = self._queue[0]
        self._write_stage(write, stage)
        journal = bool(write.entries) or write.base is not None or write.truncate_from is not None
        if stage == 0 or (stage == 1 and journal):
            self._stage = stage + 1
            self._next_stage()
            self.on_stage("guard")
            return
        self._queue.popleft()
        self.durable_seq = write.seq
        if self._queue:
            self._begin()
        self._done(write)
        self.on_stage("frame")

    def _write_stage(self, write: Persist, stage: int) -> None:
        if stage < 2:
            old = self._slot
            level = old.level if write.level is None else write.level
            self.slots[stage] = Slot(old.number + 1 - stage, write.hard_state or old.hard_state, level)
            return
        self.store.persist(write)

    def crash(self) -> None:
        """Power is gone: the write in progress is old, torn or new; those behind it never happened."""
        if self._queue:
            write, stage = self._queue[0], self._stage
            fate = self._draw.choice(["old", "torn", "new"])
            if stage < 2:
                if fate == "torn":
                    self.slots[stage] = None
                elif fate == "new":
                    self._write_stage(write, stage)
            elif fate == "new":
                self.store.persist(write)
        self._queue.clear()
        self._boot += 1

    @property
    def waiting(self) -> int:
        """Writes issued and not durable."""
        return len(self._queue)


@dataclass(slots=True)
class StateMeta:
    """What the state directory says of itself: where it stands and the configuration there."""

    base: Base


@dataclass(slots=True)
class StateDisk:
    """RocksDB without a log: batches since the last flush, any prefix of which may survive."""

    flushed: dict[bytes, bytes]
    flushed_meta: Base
    batches: list[tuple[Base, Mapping[bytes, bytes | None]]] = field(default_factory=list)

    @property
    def stored(self) -> int:
        """Applied index of the last batch."""
        return self.batches[-1][0].index if self.batches else self.flushed_meta.index

    def write(self, meta: Base, writes: Mapping[bytes, bytes | None]) -> None:
        """One atomic batch."""
        self.batches.append((meta, writes))

    def flush(self, upto: int) -> None:
        """Everything up to that applied index survives from now on."""
        while self.batches and self.batches[0][0].index <= upto:
            self._fold()

    def _fold(self) -> None:
        meta, writes = self.batches.pop(0)
        for key, value in writes.items():
            if value is None:
                self.flushed.pop(key, None)
            else:
                self.flushed[key] = value
        self.flushed_meta = meta

    def replace(self, contents: dict[bytes, bytes], meta: Base) -> None:
        """A snapshot is switched in, synced."""
        self.flushed, self.flushed_meta, self.batches = contents, meta, []

    def crash(self, draw: random.Random) -> None:
        """Keep a drawn prefix of the batches since the flush."""
        for _ in range(draw.randint(0, len(self.batches))):
            self._fold()
        self.batches.clear()
