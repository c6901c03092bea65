"""A host's disk: two guard slots, the journal frame by frame, and the state store by batches.

What is modelled after service.md §5. One write at a time: hard state to slot 0, to slot 1, then the frame. A power cut
tears the slot or frame being written (it is then old, torn or new) and loses everything behind it. The state store has
no log of its own: after a crash it stands at any batch boundary >= the last flush and <= the journal's durable index.

Frames are numbered; the mark in the guard says which number was complete, and is written in parallel with the
next frame or MARK_NS after the last. By both a boot tells a torn tail, which it cuts, from lost frames and damage,
which it refuses (`examine`). A write or read that is armed to fail reports that once: its host stops.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from lockmaster_raft.config import MILLISECOND
from lockmaster_raft.entry import Entry
from lockmaster_raft.errors import CorruptLog, InvariantViolation, StorageFailed
from lockmaster_raft.ids import Index
from lockmaster_raft.ready import Base, HardState, Persist
from lockmaster_raft.testing.memory_store import MemoryStore
from lockmaster_raft.testing.scheduler import Scheduler

MARK_NS: Final = 10 * MILLISECOND
"""The mark of the last frame is written at most so long after it (service.md §5, guard)."""


class Amnesia(StorageFailed):
    """The journal ends before the mark: frames that were durable are gone. The member never starts again."""


@dataclass(frozen=True, slots=True)
class Slot:
    """One guard slot: hard state, promised level, and the number that tells which slot is newer."""

    number: int
    hard_state: HardState
    level: int = 1


class Frames(MemoryStore):
    """The journal's entries as the medium holds them: a flipped bit is found by its checksum when it is read."""

    __slots__ = ("flipped", "superseded", "unreadable")

    def __init__(self, base: Base) -> None:
        super().__init__(base)
        self.flipped: set[int] = set()
        """Indexes of entries with a flipped bit."""
        self.superseded: set[int] = set()
        """Of those, the ones that a later frame replaced: nobody reads them but a boot, which reads every frame."""
        self.unreadable = False
        """The next read fails with EIO."""

    def entries(self, first: Index, stop: Index, bytes_max: int) -> tuple[Entry, ...]:
        """As MemoryStore; raises CorruptLog for a flipped bit, StorageFailed where the medium gives nothing."""
        if self.unreadable:
            self.unreadable = False
            raise StorageFailed(f"read of entry {first}: EIO")
        found = MemoryStore.entries(self, first, stop, bytes_max)
        if self.flipped:
            for entry in found:
                if entry.index in self.flipped:
                    raise CorruptLog(f"entry {entry.index} does not match its checksum")
        return found

    def persist(self, write: Persist) -> None:
        """One frame; a segment goes with everything in it once the base has passed it."""
        MemoryStore.persist(self, write)
        if self.flipped or self.superseded:
            gone = {index for index in self.flipped if self.term(Index(index)) is None or index <= self.base.index}
            first = write.truncate_from or self.last_index + 1
            gone |= {index for index in self.flipped if index >= first}
            self.flipped -= gone
            self.superseded = {index for index in self.superseded | gone if index > self.base.index}

    @property
    def damaged(self) -> bool:
        """Whether a boot, which reads every frame, finds one that does not match its checksum."""
        return bool(self.flipped or self.superseded)


class Disk:
    """The guard file and the journal of one data directory, across crashes."""

    def __init__(
        self, scheduler: Scheduler, draw: random.Random, sync_ns: int, base: Base, hard: HardState, level: int = 1
    ) -> None:
        self._scheduler = scheduler
        self._draw = draw
        self._sync_ns = sync_ns
        self.slots: list[Slot | None] = [Slot(0, hard, level), Slot(0, hard, level)]
        self.store = Frames(base)
        self.durable_seq = 0
        self.slow_until = 0
        self.slow_ns = 0
        self.on_stage: Callable[[str], None] = lambda stage: None
        self.frames = 0
        """Number of the last complete frame."""
        self.mark = 0
        """What the guard said of that when the power went."""
        self.torn = False
        """A frame behind the last complete one is partly there."""
        self.marks_tear = False
        """Whether a power cut may tear a slot of which only the mark changes."""
        self.fail = ""
        """`guard` or `frame`: the next write of that kind fails with EIO."""
        self.room: int | None = None
        """Frames that still find room on a full disk; the one after them fails with ENOSPC."""
        self.tear = ""
        """`guard` or `frame`: power is cut in the middle of the next write of that kind."""
        self.on_fail: Callable[[str], None] = lambda why: None
        self.on_tear: Callable[[], None] = lambda: None
        self.failed = False
        """A write of this boot failed: nothing that depends on the disk may leave any more."""
        self._framed_at = 0
        self._marked_last: int = base.index
        """The last index of the log when the last but one frame was complete."""
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

    @property
    def settled(self) -> bool:
        """Whether the guard says of the last complete frame that it is complete."""
        return not self._queue and self._scheduler.now >= self._framed_at + MARK_NS + 2 * self._sync_ns

    @property
    def marked_last(self) -> int:
        """The log up to here is in frames of which the guard says that they are complete."""
        return self.store.last_index if self.settled else min(self._marked_last, self.store.last_index)

    @property
    def durable_index(self) -> int:
        """The log up to here is on the disk and no write that waits supersedes any of it."""
        durable: int = self.store.last_index
        for write in self._queue:
            first = write.truncate_from or (write.entries[0].index if write.entries else durable + 1)
            durable = min(durable, first - 1)
        return durable

    @property
    def damaged(self) -> bool:
        """Whether a boot refuses, or would if a write of the guard were torn now."""
        return self.store.damaged or None in self.slots or self.frames < self.mark

    def examine(self) -> str:
        """What a boot finds before it starts anything: the name of what it repaired, or nothing.

        Raises CorruptLog for damage, Amnesia for a journal that ends before the mark (service.md §5, Boot).
        """
        if self.slots == [None, None]:
            raise CorruptLog("guard: no valid slot")
        if self.store.damaged:
            raise CorruptLog(f"journal: frames of entries {sorted(self.store.flipped | self.store.superseded)}")
        if self.frames < self.mark:
            raise Amnesia(f"the journal ends at frame {self.frames}, the mark is {self.mark}")
        # The torn frame's number is above the mark and no valid one follows it: it is the end.
        torn, self.torn = self.torn, False
        return "torn frame cut" if torn else "torn guard slot mended" if None in self.slots else ""

    def forget(self, count: int) -> None:
        """A crashed medium has lost its last `count` frames of which the guard knows.

        `store` goes on telling what was durable when it was acknowledged, as the checks of I5 and I6 want to know; no
        boot ever reads it again.
        """
        self.frames = self.mark - count

    def boot(self, done: Callable[[Persist], None]) -> HardState:
        """Read the guard, repair a torn slot, forget what was not durable. `done` hears of every durable write."""
        slot = self._slot
        self.slots = [slot, slot]
        self._boot += 1
        self._queue.clear()
        self._stage = 0
        self.durable_seq = 0
        self._done = done
        self._framed_at = self._scheduler.now - MARK_NS - 2 * self._sync_ns  # a boot marks what it found
        self.failed = False
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
        latency = self._latency()
        self._scheduler.after(latency, lambda: self._complete(boot, stage))
        if self.tear and (self.tear == "frame") == (stage == 2):
            self._scheduler.after(latency // 2, lambda: self._cut(boot))

    def _cut(self, boot: int) -> None:
        if self.tear and boot == self._boot:
            self.on_tear()

    def _fails(self, stage: int) -> str:
        """Why this write fails, or nothing."""
        if self.fail and (self.fail == "frame") == (stage == 2):
            self.fail = ""
            return "EIO"
        if self.room is not None and stage == 2:
            self.room -= 1
            return "ENOSPC" if self.room < 0 else ""
        return ""

    def _complete(self, boot: int, stage: int) -> None:
        if boot != self._boot or not self._queue:
            return
        if self.failed:
            return
        if self.fail or self.room is not None:
            why = self._fails(stage)
            if why:
                self.failed = True
                self.on_fail(why)
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
        self._marked_last = self.store.last_index
        if None in self.slots:
            # A mark alternates, so a slot that had lost its contents holds them again after two frames.
            self.slots[self.frames % 2] = self._slot
        self.store.persist(write)
        self.frames += 1
        self._framed_at = self._scheduler.now

    def crash(self) -> None:
        """Power is gone: the write in progress is old, torn or new; those behind it never happened."""
        self.mark = self.frames if self.settled else max(self.mark, self.frames - 1)
        stage = self._stage if self._queue else 3
        if self.marks_tear and stage >= 2 and not self.settled and self._draw.random() < 0.5:
            self.slots[self.frames % 2] = None
        if self._queue:
            write = self._queue[0]
            fate = "torn" if self.tear else self._draw.choice(["old", "torn", "new"])
            if stage < 2:
                if fate == "torn":
                    self.slots[stage] = None
                elif fate == "new":
                    self._write_stage(write, stage)
            elif fate == "new":
                self._write_stage(write, stage)
            else:
                self.torn = fate == "torn"
        self.tear = self.fail = ""
        self._queue.clear()
        self._boot += 1

    def heal(self) -> None:
        """Nothing fails any more, and there is room; flipped bits stay."""
        self.fail = self.tear = ""
        self.room, self.slow_until = None, 0
        self.store.unreadable = False

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
    flipped: bool = False
    """A block has a flipped bit: whoever reads it finds that by the block's checksum."""

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
        """A snapshot is switched in, synced; every block of it is new."""
        self.flushed, self.flushed_meta, self.batches, self.flipped = contents, meta, [], False

    def crash(self, draw: random.Random) -> None:
        """Keep a drawn prefix of the batches since the flush."""
        for _ in range(draw.randint(0, len(self.batches))):
            self._fold()
        self.batches.clear()
